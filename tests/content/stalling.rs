use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tollgate::audit::TracingSink;
use tollgate::domain::content::{Content, Keep};
use tollgate::store::StoreError;
use tollgate::store::content::ContentSink;
use tollgate::store::journal::{Journal, verify};
use tollgate::{AuditLayer, ContentLayer, GatewayLayer};
use tower::ServiceExt;

use crate::site::{Dir, Kept, ask, gateway, layer, messages, post, until};

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
    // The kept bodies include the batch that the sink was being given.
    assert!(!all.is_empty() && text.len() <= 100_000, "{} bytes waited", text.len());
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
async fn a_body_that_is_too_long_takes_no_room() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full).max_body(2_000).max_in_memory(6_000);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let mut under_way = Vec::new();
    for _ in 0..5 {
        // Each stream has sent more than is kept of one, and goes on.
        let prompt = messages("sim:deltas=40,stall=30");
        let answer = gateway.clone().oneshot(post("/v1/messages", &prompt)).await.expect("infallible");
        let mut body = answer.into_body();
        let mut taken = 0;
        while taken < 2_500 {
            taken += body.frame().await.expect("more").expect("whole").into_data().expect("data").len();
        }
        under_way.push(body);
        content.flush().await;
    }
    ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    content.flush().await;
    assert_eq!((content.dropped(), kept.all().len()), (0, 7));
}

/// A sink that panics on the first batch, and hangs on the second.
struct Unwell(AtomicUsize);

#[async_trait]
impl ContentSink for Unwell {
    async fn write(&self, _: &[Content]) -> Result<(), StoreError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("this one panics"),
            1 => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
        Err(StoreError::unavailable("unwell"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_or_never_answers_costs_its_bodies_and_no_flush_waits_for_ever() {
    let content = ContentLayer::new(Unwell(AtomicUsize::new(0))).keep(Keep::Full).retain(Duration::from_secs(1));
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    content.flush().await;
    let dropped = content.dropped();
    assert!((1..=2).contains(&dropped), "{dropped} bodies were in the first batch");
    ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    content.flush().await;
    ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    assert_eq!(content.dropped(), dropped, "those wait");
}

#[test]
fn bodies_that_a_sink_was_being_handed_when_their_runtime_ended_are_counted_and_the_next_goes_on() {
    let (kept, runtime) = (Kept::default(), || tokio::runtime::Runtime::new().expect("a runtime"));
    let content = ContentLayer::new(Hanging(kept.clone(), AtomicUsize::new(0))).keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    for _ in 0..2 {
        runtime().block_on(async {
            ask(&gateway, post("/v1/messages", &messages("hello"))).await;
            // The first time the flush hangs. The second time everything is kept.
            let _ = tokio::time::timeout(Duration::from_millis(200), content.flush()).await;
        });
    }
    let (all, dropped) = (kept.all().len() as u64, content.dropped());
    assert!(dropped > 0 && all + dropped == 4, "{all} are kept, and {dropped} counted");
}

/// A sink that hangs the first time.
struct Hanging(Kept, AtomicUsize);

#[async_trait]
impl ContentSink for Hanging {
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => std::future::pending().await,
            _ => self.0.write(contents).await,
        }
    }

    async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_asked_again_after_a_minute() {
    let kept = Kept::default();
    let content = ContentLayer::new(Hanging(kept.clone(), AtomicUsize::new(0))).keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    tokio::time::sleep(Duration::from_secs(62)).await;
    content.flush().await;
    assert_eq!((kept.all().len(), content.dropped()), (2, 0));
}

/// The variable for a directory on a disk of a few megabytes. `.ci/long` sets it.
const SMALL_DISK: &str = "TOLLGATE_SMALL_DISK";

/// A sink that keeps bodies on the disk of the journal.
struct Files(PathBuf);

#[async_trait]
impl ContentSink for Files {
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
        for content in contents {
            let path = self.0.join(format!("{}-{}", content.call, content.side.as_str()));
            std::fs::write(path, content.body.as_deref().unwrap_or_default()).map_err(StoreError::unavailable)?;
        }
        Ok(())
    }

    async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test]
async fn on_a_disk_that_fills_up_content_stops_before_calls_do() {
    // Without a small disk, the limit is the size that the journal may have.
    let own = Dir::new("fills");
    let (dir, most) = match std::env::var_os(SMALL_DISK) {
        Some(disk) => (PathBuf::from(disk), 1 << 30),
        None => (own.0.clone(), 8 << 20),
    };
    let journal = Journal::at(&dir).segment_bytes(1 << 20).most_bytes(most).open().expect("a journal");
    let content = ContentLayer::new(Files(dir.clone())).keep(Keep::Full).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    let gateway = gateway(GatewayLayer::new().audit(&audit).content(&content), &[]);
    let prompt = messages(&"word ".repeat(400));
    let mut calls = 0;
    loop {
        let answer = gateway.clone().oneshot(post("/v1/messages", &prompt)).await.expect("infallible");
        if answer.status() != 200 {
            break;
        }
        let _ = answer.into_body().collect().await.expect("whole");
        calls += 1;
        assert!(calls < 100_000, "it is never full");
    }
    let names = std::fs::read_dir(&dir).expect("readable").map(|entry| entry.expect("readable").file_name());
    let bodies = names.filter(|name| name.to_string_lossy().ends_with("-request")).count();
    assert!(bodies > 100 && calls - bodies > 500, "of {calls} calls {bodies} were made when content stopped");
    content.flush().await;
    assert!(content.dropped() > 0, "what was not kept is counted");
}

#[tokio::test]
async fn a_journal_that_keeps_all_it_may_is_not_short_of_room() {
    let (dir, (content, kept)) = (Dir::new("steady"), layer());
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(8 << 20).keep_bytes(8 << 20).open();
    let journal = journal.expect("a journal").ship("log", TracingSink::new()).expect("a name");
    let content = content.keep(Keep::Hashed).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    let gateway = gateway(GatewayLayer::new().audit(&audit).content(&content), &[]);
    let prompt = messages("hello");
    for _ in 0..4_500 {
        ask(&gateway, post("/v1/messages", &prompt)).await;
    }
    content.flush().await;
    audit.flush().await;
    assert!(std::fs::metadata(dir.0.join("00000000000000000001.seg")).is_err(), "its first segment has gone by now");
    assert_eq!((content.dropped(), kept.all().len()), (0, 9_000));
    // Each segment after the first was a spare one.
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
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
    // Without a sink no segment is removed. Content stops when there is room for only two more segments.
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
    // Real time has to pass, until the content is older than it may be.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sweeping = keeping.keep(Keep::Nothing).retain(Duration::from_millis(40));
    let gateway = gateway(GatewayLayer::new().content(&sweeping), &[]);
    ask(&gateway, post("/v1/messages", &messages("new"))).await;
    until("deleted", || kept.all().is_empty()).await;
}
