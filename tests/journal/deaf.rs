//! Event sinks that accept nothing.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tollgate::AuditLayer;
use tollgate::domain::event::Event;
use tollgate::store::StoreError;
use tollgate::store::event::EventSink;
use tollgate::store::journal::{Journal, verify};
use tollgate::store::memory::MemoryBudgets;

use crate::events::{Ear, tell};
use crate::site::{Dir, Sink, Site, until};
use crate::support::log::Log;

/// Returns the name of the oldest segment.
fn oldest(dir: &Dir) -> String {
    let names = fs::read_dir(&dir.0).expect("readable").map(|entry| entry.expect("readable").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".seg")).min().expect("a segment")
}

/// A journal of at most this many segments, with a sink for records and one for events.
fn journal(dir: &Dir, segments: u64, sink: &Sink, ear: &Ear) -> Journal {
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(segments << 20).keep_bytes(0);
    let journal = options.open().and_then(|journal| journal.ship("kept", sink.clone()));
    journal.and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal")
}

/// Serves calls, of which none may be refused, until this many segments have been the oldest in turn.
async fn serves(site: &Site<MemoryBudgets>, sink: &Sink, dir: &Dir, segments: usize) {
    let (mut seen, mut calls) = (BTreeSet::new(), 0);
    while seen.len() < segments {
        for _ in 0..50 {
            assert_eq!(site.whole("hello").await, StatusCode::OK, "after {calls} calls");
            calls += 1;
        }
        until("records are taken", || sink.len() == calls).await;
        seen.insert(oldest(dir));
        assert!(calls < 20_000, "nothing is removed");
    }
}

#[tokio::test]
async fn who_hears_of_events_and_takes_none_keeps_no_call_out_and_is_told_of_all_when_it_takes_them_again() {
    let (dir, ear, sink) = (Dir::new("deaf"), Ear::default(), Sink::default());
    ear.deaf(true);
    let journal = journal(&dir, 5, &sink, &ear);
    let (events, site) = (journal.events(), Site::new(journal, MemoryBudgets::new()));
    tell(&events, "first");
    // More segments than the journal may have at once.
    serves(&site, &sink, &dir, 7).await;
    tell(&events, "last");
    site.audit.flush().await;
    let behind = site.audit.status().behind;
    assert!(behind.iter().any(|(name, lines)| &**name == "ear" && *lines > 1_000), "{behind:?}");
    let told = ["key first was revoked", "key last was revoked"];

    let (left, later) = (dir.as_if_killed("deaf-after"), Ear::default());
    let journal = Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", later.clone()));
    let again = AuditLayer::journaled(journal.expect("a journal"));
    until("it is told", || later.heard().len() >= 2).await;
    again.flush().await;
    assert_eq!(later.heard(), told);

    ear.deaf(false);
    until("it is told", || ear.heard().len() >= 2).await;
    tell(&events, "end");
    until("the last word", || ear.heard().len() >= 3).await;
    assert_eq!(ear.heard(), [told[0], told[1], "key end was revoked"]);
    until("nothing waits", || !dir.join("ear.waiting").exists()).await;
    site.audit.flush().await;
    let behind = || site.audit.status().behind.iter().map(|(_, lines)| lines).sum::<u64>();
    until("all have had all", || behind() == 0).await;
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
}

#[tokio::test]
async fn of_more_events_than_may_wait_the_oldest_give_way_before_a_call_is_kept_out() {
    const TOLD: usize = 1_500;
    let (dir, ear, sink) = (Dir::new("give-way"), Ear::default(), Sink::default());
    ear.deaf(true);
    let journal = journal(&dir, 4, &sink, &ear);
    let (events, site) = (journal.events(), Site::new(journal, MemoryBudgets::new()));
    (0..TOLD).for_each(|number| tell(&events, &number.to_string()));
    // The journal must not wait for the event sink here.
    serves(&site, &sink, &dir, 4).await;
    ear.deaf(false);
    let last = format!("key {} was revoked", TOLD - 1);
    until("it is told of the last", || ear.heard().contains(&last)).await;
    let heard = ear.heard().len();
    assert!((900..TOLD).contains(&heard), "{heard}");
}

#[tokio::test]
async fn what_cannot_be_saved_beside_the_journal_stays_in_it_while_it_has_room() {
    let (dir, ear, sink, (log, _listening)) = (Dir::new("unkept"), Ear::default(), Sink::default(), Log::listen());
    ear.deaf(true);
    // Where this stands, no file can be made.
    let in_its_way = dir.join("ear.waiting.tmp");
    fs::create_dir(&in_its_way).expect("writable");
    let journal = journal(&dir, 5, &sink, &ear);
    let (events, site) = (journal.events(), Site::new(journal, MemoryBudgets::new()));
    tell(&events, "first");
    until("it is tried", || log.text().contains("undelivered events of a sink cannot be saved")).await;
    site.audit.flush().await;

    let (left, later) = (dir.as_if_killed("unkept-after"), Ear::default());
    let journal = Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", later.clone()));
    let _again = AuditLayer::journaled(journal.expect("a journal"));
    until("it is told", || !later.heard().is_empty()).await;
    assert_eq!(later.heard(), ["key first was revoked"]);

    // More segments than the journal may have at once.
    serves(&site, &sink, &dir, 4).await;
    fs::remove_dir(&in_its_way).expect("it is empty");
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("it is saved", || dir.join("ear.waiting").exists()).await;
}

/// A sink that is slow to take the first event.
#[derive(Default)]
struct Slow {
    ear: Ear,
    is_awake: AtomicBool,
}

#[async_trait]
impl EventSink for Slow {
    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        if !self.is_awake.swap(true, Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        self.ear.tell(event).await
    }
}

#[tokio::test]
async fn who_is_slow_is_told_of_all_that_was_before_it_though_that_be_more_than_may_wait() {
    const PAST: usize = 1_500;
    let dir = Dir::new("past");
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let events = journal.events();
    (0..PAST).for_each(|number| tell(&events, &number.to_string()));
    AuditLayer::journaled(journal).flush().await;

    let (left, ear) = (dir.as_if_killed("past-after"), Ear::default());
    let slow = Slow { ear: ear.clone(), ..Slow::default() };
    let journal = Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", slow)).expect("a journal");
    let again = AuditLayer::journaled(journal);
    again.flush().await;
    until("it is told of all", || ear.heard().len() >= PAST).await;
    let told: Vec<_> = (0..PAST).map(|number| format!("key {number} was revoked")).collect();
    assert_eq!(ear.heard(), told);
}

#[tokio::test]
async fn a_sink_of_records_is_not_behind_for_events_that_waited_for_another_of_its_name() {
    let (dir, ear, sink) = (Dir::new("another"), Ear::default(), Sink::default());
    ear.deaf(true);
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("hook", ear)).expect("a journal");
    let events = journal.events();
    let audit = AuditLayer::journaled(journal);
    tell(&events, "first");
    audit.flush().await;
    until("it waits", || dir.join("hook.waiting").exists()).await;

    let left = dir.as_if_killed("another-after");
    let journal = Journal::at(&left.0).open().and_then(|journal| journal.ship("hook", sink.clone()));
    let site = Site::new(journal.expect("a journal"), MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.audit.flush().await;
    until("it has the record", || sink.len() == 1).await;
    let behind = || site.audit.status().behind.iter().map(|(_, lines)| lines).sum::<u64>();
    until("it has had all", || behind() == 0).await;
    assert!(left.join("hook.waiting").exists(), "one that hears of events may come again");
}
