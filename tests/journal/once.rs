//! An event that was sent before a restart is not sent again. The event of its end is.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tollgate::AuditLayer;
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::event::{Event, What};
use tollgate::store::journal::Journal;
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::Simulated;

use crate::events::{Ear, ask, gateway, tell};
use crate::site::{Dir, Sink, Site, lines, open_again, until};

const LAST: &str = "key last was revoked";

#[tokio::test]
async fn an_upstream_that_is_down_over_a_restart_is_told_of_once_and_once_when_it_answers_again() {
    let (mut dir, ear) = (Dir::new("down"), Ear::default());
    let is_of_upstreams = |said: &String| said.contains("upstream");
    let (down, up) = ("upstream anthropic is down: its last 3 attempts failed", "upstream anthropic answers again");
    let runs = [
        (&["sim:status=503"; 3][..], vec![down]),
        (&["sim:status=503"; 4], vec![down]),
        // The outage is still known after a run in which nothing new was sent.
        (&["sim:status=503", ""], vec![down, up]),
        (&[""], vec![down, up]),
        (&["sim:status=503"; 3], vec![down, up, down]),
    ];
    for (run, (prompts, heard)) in runs.into_iter().enumerate() {
        let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone()));
        let (gateway, audit, settlements) = gateway(journal.expect("a journal"), Simulated::new());
        for prompt in prompts {
            ask(&gateway, prompt).await;
        }
        settlements.drain().await;
        audit.flush().await;
        let said: Vec<_> = ear.heard().into_iter().filter(is_of_upstreams).collect();
        assert_eq!(said, heard, "in run {run}");
        dir = dir.as_if_killed(&format!("down-{run}"));
    }
}

#[tokio::test]
async fn each_start_says_what_goes_on_before_the_segments_go_in_which_it_was_told() {
    let dir = Dir::new("goes-on");
    let (gateway, audit, settlements) = gateway(Journal::at(&dir.0).open().expect("a journal"), Simulated::new());
    for _ in 0..3 {
        ask(&gateway, "sim:status=503").await;
    }
    settlements.drain().await;
    audit.flush().await;
    drop((gateway, audit));
    let _journal = open_again(&dir).await;
    let lines = lines(&dir.0);
    let opened = lines.iter().rposition(|line| line["opened"].is_object()).expect("a start");
    assert_eq!(lines[opened + 1]["settled"]["ongoing"]["down"], json!(["anthropic"]), "{lines:?}");
}

#[tokio::test]
async fn what_goes_on_is_known_after_a_crash_though_the_segment_is_gone_in_which_it_was_told() {
    let (dir, sink) = (Dir::new("begun-anew"), Sink::default());
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(4 << 20).keep_bytes(0);
    let journal = options.open().and_then(|journal| journal.ship("kept", sink)).expect("a journal");
    let (events, audit) = (journal.events(), AuditLayer::journaled(journal));
    let down = What::UpstreamDown { upstream: "anthropic".into(), attempts: 3 };
    events.tell(Event::new(SystemClock.now(), down));
    audit.flush().await;
    let is_there = || dir.join("00000000000000000001.seg").exists();
    for round in 0.. {
        if !is_there() {
            break;
        }
        assert!(round < 10_000, "the first segment stays");
        (0..50).for_each(|number| tell(&events, &number.to_string()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let left = dir.as_if_killed("begun-anew-after");
    let _journal = open_again(&left).await;
    let lines = lines(&left.0);
    let opened = lines.iter().rposition(|line| line["opened"].is_object()).expect("a start");
    assert_eq!(lines[opened + 1]["settled"]["ongoing"]["down"], json!(["anthropic"]));
}

#[tokio::test]
async fn that_calls_were_refused_before_a_restart_is_told_once_and_once_when_they_no_longer_are() {
    // After the restart there is room, or there is none until a sink accepts records.
    for (name, most, is_stalled) in [("room", 1 << 30, false), ("no-room", 3 << 20, true)] {
        let (dir, ear, sink) = (Dir::new(name), Ear::default(), Sink::default());
        sink.stall(true);
        let open = |dir: &Dir, most: u64, sink: &Sink| {
            let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(most).keep_bytes(0);
            let journal = options.open().and_then(|journal| journal.ship("kept", sink.clone()));
            journal.and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal")
        };
        let site = Site::new(open(&dir, 3 << 20, &sink), MemoryBudgets::new());
        while site.whole("hello").await == StatusCode::OK {}
        until("it is told", || !ear.heard().is_empty()).await;
        site.audit.flush().await;
        let (left, later) = (dir.as_if_killed(&format!("{name}-after")), Sink::default());
        later.stall(is_stalled);
        let audit = AuditLayer::journaled(open(&left, most, &later));
        if is_stalled {
            until("it refuses", || audit.status().is_refusing).await;
            assert_eq!(ear.heard().len(), 1, "{:?}", ear.heard());
            later.stall(false);
        }
        until("it is over", || ear.heard().len() >= 2).await;
        until("it is over", || !audit.status().is_refusing).await;
        audit.flush().await;
        let once_more = left.as_if_killed(&format!("{name}-later"));
        let journal = open(&once_more, most, &later);
        tell(&journal.events(), "last");
        let _audit = AuditLayer::journaled(journal);
        until("the last word", || ear.heard().iter().any(|said| said == LAST)).await;
        let heard = ear.heard();
        assert!(heard[0].starts_with("calls are refused because they cannot be recorded"), "{heard:?}");
        assert_eq!(heard[1..], ["calls are recorded again", LAST]);
    }
}
