use std::fs;

use http::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;
use tollgate::store::journal::{Fault, Journal, verify};
use tollgate::store::memory::MemoryBudgets;

use crate::site::{Dir, Site, ended, lines};

/// Writes a journal of two calls that closed and one that did not. Returns its only segment, its name, and the offsets
/// of its last lines.
async fn written() -> (Vec<u8>, String, Vec<usize>) {
    let dir = Dir::new("torn");
    let site = Site::new(Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("a journal"), MemoryBudgets::new());
    for _ in 0..2 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    site.settlements.drain().await;
    let answer = site.ask("sim:stall=0").await;
    site.audit.flush().await;
    let left = dir.as_if_killed("torn-copy");
    drop(answer);
    let segment = fs::read_dir(&left.0).expect("readable").map(|entry| entry.expect("readable").path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).expect("a segment");
    let bytes = fs::read(&segment).expect("readable");
    let (mut ends, mut at) = (vec![0], 0);
    while let Some(len) =
        bytes[at..].first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize).filter(|len| *len > 0)
    {
        at += 8 + len;
        ends.push(at);
    }
    let name = segment.file_name().expect("a name").to_str().expect("plain").to_owned();
    (bytes[..at].to_vec(), name, ends[ends.len() - 4..].to_vec())
}

/// Opens a journal whose segment has these bytes, so that open calls in it are closed.
async fn reopened(name: &str, bytes: Vec<u8>) -> (Dir, Vec<Value>) {
    let dir = Dir::in_memory("reopened");
    fs::write(dir.0.join(name), bytes).expect("writable");
    let mut journal = Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("whatever it holds");
    journal.settle_lost(&MemoryBudgets::new()).await.expect("memory");
    drop(journal);
    ended(&dir).await;
    let lines = lines(&dir.0);
    (dir, lines)
}

/// Asserts that every call that was sent has its final.
fn assert_closed(lines: &[Value], what: &str) {
    let ids = |kind: &str| -> Vec<&Value> {
        lines.iter().map(|line| &line[kind]["record"]["id"]).filter(|id| !id.is_null()).collect()
    };
    let finals = ids("final");
    for id in ids("intent") {
        assert_eq!(finals.iter().filter(|closed| **closed == id).count(), 1, "{what}: {id}");
    }
}

/// Runs many checks at once, since each waits for threads to end.
async fn all<F: Future<Output = ()> + Send + 'static>(ways: impl Iterator<Item = F>) {
    let mut tasks = JoinSet::new();
    for way in ways {
        if tasks.len() >= 32 {
            tasks.join_next().await.expect("one").expect("it held");
        }
        tasks.spawn(way);
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_line_that_broke_off_is_told_and_leaves_no_call_open() {
    let (bytes, name, ends) = written().await;
    let way = |cut: usize| {
        let (bytes, name, ends) = (bytes[..cut].to_vec(), name.clone(), ends.clone());
        async move {
            let what = format!("cut at {cut} of {ends:?}");
            let (dir, lines) = reopened(&name, bytes).await;
            assert_closed(&lines, &what);
            let report = verify(&dir.0, &[]).expect("readable");
            assert_eq!(report.broken, None, "{what}");
            assert_eq!(report.torn.len(), usize::from(!ends.contains(&cut)), "{what}: {:?}", report.torn);
        }
    };
    all((ends[0]..=ends[3]).map(way)).await;
}

#[tokio::test]
async fn a_bit_that_flipped_is_told_and_leaves_no_call_open() {
    let (bytes, name, ends) = written().await;
    let way = |at: usize| {
        let (mut flipped, name, ends) = (bytes.clone(), name.clone(), ends.clone());
        flipped[at] ^= 1 << (at % 8);
        async move {
            let what = format!("bit of byte {at} of {ends:?}");
            let (dir, lines) = reopened(&name, flipped).await;
            assert_closed(&lines, &what);
            let report = verify(&dir.0, &[]).expect("readable");
            match (report.broken, at >= ends[2]) {
                // This looks like a last line that broke off.
                (None, true) => assert_eq!(report.torn.len(), 1, "{what}"),
                (Some(broken), false) => assert_eq!(broken.what, Fault::Unreadable, "{what}"),
                (broken, _) => panic!("{what}: {broken:?}"),
            }
        }
    };
    all((ends[0]..ends[3]).map(way)).await;
}
