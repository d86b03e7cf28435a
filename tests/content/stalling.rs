use std::time::Duration;

use tollgate::domain::content::Keep;
use tollgate::store::journal::Journal;
use tollgate::{AuditLayer, GatewayLayer};

use crate::site::{Dir, ask, gateway, layer, messages, post, until};

#[tokio::test]
async fn a_sink_that_stalls_holds_up_no_call_and_takes_no_more_room_than_it_may() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full).max_in_memory(100_000);
    kept.stall(true);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let prompt = messages(&"word ".repeat(1_000));
    for _ in 0..100 {
        ask(&gateway, post("/v1/messages", &prompt)).await;
    }
    let dropped = content.dropped();
    assert!(dropped > 100, "{dropped} of 200 bodies found no room");
    kept.stall(false);
    content.flush().await;
    let (all, text) = (kept.all(), kept.text());
    assert_eq!(all.len() as u64 + dropped, 200, "every body is kept or counted");
    // What the sink was being handed when it stalled, and what may wait.
    assert!(!all.is_empty() && text.len() < 2_000_000, "{} bytes waited", text.len());
    ask(&gateway, post("/v1/messages", &prompt)).await;
    content.flush().await;
    assert_eq!((kept.all().len(), content.dropped()), (all.len() + 2, dropped), "there is room again");
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_room_is_let_go_of_and_its_client_has_it_whole() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full).max_in_memory(10_000);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let (_, answer) = ask(&gateway, post("/v1/messages", &messages("sim:deltas=500"))).await;
    assert!(answer.len() > 10_000);
    content.flush().await;
    assert_eq!((kept.all().len(), content.dropped()), (1, 1), "the request is kept, the answer is not");
}

#[tokio::test]
async fn when_the_journal_is_short_of_room_content_goes_first_and_calls_go_on() {
    let (dir, (content, kept)) = (Dir::new("short"), layer());
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(5 << 20).open().expect("a journal");
    let content = content.keep(Keep::Hashed).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    let gateway = gateway(GatewayLayer::new().audit(&audit).content(&content), &[]);
    let prompt = messages("hello");
    let mut calls = 0;
    // Without a sink nothing is removed: at some time there is room for two segments more, and no longer for three.
    while content.dropped() == 0 {
        ask(&gateway, post("/v1/messages", &prompt)).await;
        calls += 1;
        assert!(calls < 10_000, "nothing is ever short");
    }
    let bodies = kept.all().len();
    for _ in 0..20 {
        ask(&gateway, post("/v1/messages", &prompt)).await;
    }
    content.flush().await;
    assert_eq!(kept.all().len(), bodies, "none is kept any more");
    assert!(content.dropped() >= 40);
    audit.flush().await;
}

#[tokio::test]
async fn what_is_older_than_it_may_be_is_deleted_from_the_first_call_on() {
    let (content, kept) = layer();
    let keeping = content.keep(Keep::Full);
    ask(&gateway(GatewayLayer::new().content(&keeping), &[]), post("/v1/messages", &messages("old"))).await;
    keeping.flush().await;
    assert_eq!(kept.all().len(), 2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sweeping = keeping.keep(Keep::Nothing).retain(Duration::from_millis(40));
    let gateway = gateway(GatewayLayer::new().content(&sweeping), &[]);
    ask(&gateway, post("/v1/messages", &messages("new"))).await;
    until("deleted", || kept.all().is_empty()).await;
}
