//! A journal on a disk without room. Here the kernel's limit on the size of files stands in for a full disk. `.ci/long`
//! uses a real small disk.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::{Response, StatusCode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tollgate::Body;
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::event::{Event, What};
use tollgate::store::journal::{Journal, verify};
use tollgate::store::memory::MemoryBudgets;
use tower::ServiceExt;

use crate::site::{Dir, Sink, Site, request, until};
use crate::support::log::Log;

/// The variable for the directory of a child process whose disk fills up.
const CHILD: &str = "TOLLGATE_TEST_JOURNAL_FULL";
/// The same, for a child whose disk has room again only once the journal removes something.
const FREED: &str = "TOLLGATE_TEST_JOURNAL_FULL_UNTIL_FREED";
/// The same, for a child whose disk is full from the start.
const FULL: &str = "TOLLGATE_TEST_JOURNAL_FULL_AT_START";
/// The same, for a child whose disk accepts nothing at the end.
const LAST: &str = "TOLLGATE_TEST_JOURNAL_FULL_AT_LAST";
/// The variable for a directory on a disk of a few megabytes. If it is set, the size of files is not limited.
const SMALL_DISK: &str = "TOLLGATE_SMALL_DISK";

/// Limits the size of files that this process writes.
fn limit_files(bytes: Option<u64>) {
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, bytes.unwrap_or(most), most).expect("ours to set");
}

/// Runs as a child process whose disk is full from the start. Without the variable it does nothing.
#[test]
fn child_whose_disk_is_full_at_the_start() {
    let Some(dir) = std::env::var_os(FULL) else { return };
    let dir = PathBuf::from(dir);
    // There is room for part of a segment.
    if std::env::var_os(SMALL_DISK).is_none() {
        limit_files(Some(4 << 20));
    }
    let error = Journal::at(&dir).segment_bytes(1 << 30).open().expect_err("no room for a segment").to_string();
    assert!(error.contains("cannot keep a journal here: "), "{error}");
    assert!(["File too large", "No space left"].iter().any(|why| error.contains(why)), "{error}");
    let left: Vec<_> = fs::read_dir(&dir).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    assert!(left.iter().all(|path| path.ends_with("lock")), "half a segment keeps others from their room: {left:?}");
    // Once there is room, the journal opens in spite of the earlier attempt.
    if std::env::var_os(SMALL_DISK).is_none() {
        limit_files(None);
    }
    let journal = Journal::at(&dir).segment_bytes(1 << 20).open().expect("there is room");
    drop(journal);
}

#[test]
fn a_directory_that_is_full_is_refused_when_it_is_opened_and_nothing_is_left_in_it() {
    let dir = Dir::new("full-at-start");
    let small = std::env::var_os(SMALL_DISK).map(|disk| PathBuf::from(disk).join("full-at-start"));
    if let Some(small) = &small {
        fs::create_dir_all(small).expect("writable");
    }
    as_a_child("full::child_whose_disk_is_full_at_the_start", FULL, small.as_deref().unwrap_or(&dir.0));
    if let Some(small) = small {
        fs::remove_dir_all(small).expect("ours");
    }
}

/// Makes calls until one is refused. `keep` gets the answers of the others, whose number is returned.
async fn until_refused(site: &Site<MemoryBudgets>, mut keep: impl FnMut(Response<Body>)) -> usize {
    for calls in 0..20_000 {
        let answer = site.ask("hello").await;
        if answer.status() != StatusCode::OK {
            assert_eq!(answer.status().as_u16(), 529);
            return calls;
        }
        keep(answer);
    }
    panic!("the disk is never full")
}

/// Runs as a child process whose disk fills up. Without the variable it does nothing.
#[tokio::test]
async fn child_whose_disk_fills_up() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (dir, is_small) = (PathBuf::from(dir), std::env::var_os(SMALL_DISK).is_some());
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).expect("room");
    let sink = Sink::default();
    sink.stall(true);
    let options = Journal::at(&dir).segment_bytes(1 << 20).most_bytes(1 << 30).keep_bytes(0);
    let journal = options.open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let (events, site) = (journal.events(), Site::new(journal, MemoryBudgets::new()));
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    if !is_small {
        limit_files(Some(512 << 10));
    }
    let mut under_way = VecDeque::new();
    let calls = 1 + until_refused(&site, |answer| {
        under_way.push_back(answer);
        // What is under way needs room, which a small disk has for so many only.
        if is_small && under_way.len() > 1_000 {
            under_way.pop_front();
        }
    })
    .await;
    drop(under_way);
    // A flush begins while nothing can be written, and ends as soon as everything is.
    let (flushed, room) = (site.audit.flush(), async {
        // Give the flush time to begin to wait. If it is too short, the test proves less, but never fails.
        tokio::time::sleep(Duration::from_millis(500)).await;
        match is_small {
            true => fs::remove_file(&ballast).expect("ours"),
            false => limit_files(None),
        }
        sink.stall(false);
    });
    let both = async { tokio::join!(flushed, room) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("what waits is written when there is room");
    // Refused calls have a record too, if there was a place for them.
    until("every record", || sink.records().iter().filter(|record| record.status == Some(200)).count() == calls).await;
    site.serves_again().await;
    if !is_small {
        // With no call under way, only the flush wakes the writer.
        site.audit.flush().await;
        limit_files(Some(0));
        events.tell(Event::new(SystemClock.now(), What::UpstreamUp { upstream: "anthropic".into() }));
        until("it refuses calls", || site.audit.status().is_refusing).await;
        let (flushed, room) = (site.audit.flush(), async {
            // Give the flush time to begin to wait, as above.
            tokio::time::sleep(Duration::from_millis(500)).await;
            limit_files(None);
        });
        let both = async { tokio::join!(flushed, room) };
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("what waits is written when the disk is well");
    }
    assert_eq!(verify(&dir, &[]).expect("readable").broken, None);
    assert!(!site.audit.status().is_refusing);
    if !is_small {
        let segments = fs::read_dir(&dir).expect("readable").filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        let lines = String::from_utf8_lossy(&segments.flatten().collect::<Vec<_>>()).into_owned();
        assert!(lines.contains("the journal cannot be written"), "somebody hears of it");
    }
}

#[test]
fn a_disk_that_fills_up_keeps_calls_out_until_it_has_room_and_no_record_is_lost() {
    let dir = Dir::new("full-disk");
    let small = std::env::var_os(SMALL_DISK).map(PathBuf::from);
    as_a_child("full::child_whose_disk_fills_up", CHILD, small.as_deref().unwrap_or(&dir.0));
}

/// Runs as a child process whose disk has room for a segment only once an older one is removed. Without the variable it
/// does nothing.
#[tokio::test]
async fn child_whose_disk_has_room_for_what_is_removed() {
    const SEGMENT: u64 = 1 << 20;
    let Some(dir) = std::env::var_os(FREED).map(PathBuf::from) else { return };
    let sink = Sink::default();
    sink.stall(true);
    let options = Journal::at(&dir).segment_bytes(SEGMENT).most_bytes(1 << 30).keep_bytes(0);
    let journal = options.open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    let segments = || {
        let names = fs::read_dir(&dir).expect("readable").map(|entry| entry.expect("readable").path());
        let mut segments: Vec<_> = names.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        segments.sort();
        segments
    };
    // Nothing but the sink needs the first segment.
    let mut calls = 0;
    while segments().len() < 2 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
        calls += 1;
    }
    let oldest = segments().remove(0);
    // Their finals need more than one segment.
    let mut under_way = Vec::new();
    calls += until_refused(&site, |answer| {
        under_way.push(answer);
        if under_way.len() == 2_000 {
            // The existing segments can be written, but no other of that size can be made.
            limit_files(Some(SEGMENT - 1));
        }
    })
    .await;
    assert!(under_way.len() >= 2_000);
    let left = || {
        let open = fs::read(segments().last().expect("a segment")).expect("readable");
        open.len() - open.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    // How these calls stand would be written in this time, and would fill it.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(left() as u64 > SEGMENT / 2 - (8 << 10), "{} of the open segment are left for their ends", left());
    drop(under_way);
    until("the finals do not fit", || left() < 32 << 10).await;
    assert!(oldest.exists() && site.audit.status().is_refusing);
    let (flushed, freed) = (site.audit.flush(), async {
        sink.stall(false);
        until("the first segment is removed", || !oldest.exists()).await;
        limit_files(None);
    });
    let both = async { tokio::join!(flushed, freed) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("what waits is written");
    until("every record", || sink.records().iter().filter(|record| record.status == Some(200)).count() == calls).await;
    site.serves_again().await;
    assert_eq!(verify(&dir, &[]).expect("readable").broken, None);
}

#[test]
fn a_full_disk_has_room_again_once_sinks_have_had_what_fills_it_though_more_waits_than_the_open_segment_holds() {
    let dir = Dir::new("full-until-freed");
    as_a_child("full::child_whose_disk_has_room_for_what_is_removed", FREED, &dir.0);
}

/// Runs as a child process whose disk accepts nothing more at the end. Without the variable it does nothing.
#[tokio::test]
async fn child_whose_disk_takes_nothing_at_the_end() {
    let Some(dir) = std::env::var_os(LAST) else { return };
    let site = Site::new(Journal::at(dir).open().expect("a journal"), MemoryBudgets::new());
    let (log, _listening) = Log::listen();
    site.audit.flush().await;
    assert!(!log.text().contains("ERROR"), "{}", log.text());
    limit_files(Some(0));
    let mut refused = request("");
    *refused.body_mut() = Body::from(r#"{"model":7}"#);
    drop(site.gateway.clone().oneshot(refused).await.expect("infallible"));
    tokio::time::pause();
    site.audit.flush().await;
    let text = log.text();
    let said: Vec<_> = text
        .lines()
        .filter(|line| line.contains("the journal could not be written completely within 30 seconds"))
        .collect();
    assert!(matches!(said[..], [said] if said.contains("calls=1")), "{text}");
}

#[test]
fn what_a_flush_has_waited_for_in_vain_is_in_the_log() {
    let dir = Dir::new("full-at-last");
    as_a_child("full::child_whose_disk_takes_nothing_at_the_end", LAST, &dir.0);
}

/// Runs a test of this binary as a child process, with a directory in `variable`.
fn as_a_child(test: &str, variable: &str, within: &Path) {
    // `trap '' XFSZ`: a write beyond the limit is then an error, and does not kill the process.
    let output = Command::new("sh")
        .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().expect("this binary"))
        .args([test, "--exact", "--nocapture"])
        .env(variable, within)
        .output()
        .expect("a shell");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
