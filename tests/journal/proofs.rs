use std::fs;
use std::path::PathBuf;
use std::process::Command;

use http::StatusCode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tollgate::store::journal::{AnchorState, Fault, Head, Journal, LineHash, export, verify, verify_export};
use tollgate::store::memory::MemoryBudgets;

use crate::site::{Dir, Sink, Site, ended};

/// Makes a journal of some calls, and returns the lines of its export.
async fn some(dir: &Dir) -> Vec<Vec<u8>> {
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    for _ in 0..4 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    site.settlements.drain().await;
    site.audit.flush().await;
    drop(site);
    ended(dir).await;
    let mut text = Vec::new();
    export(&dir.0, &mut text).expect("readable");
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Appends the line by which a journal releases the lines that are missing at its beginning.
fn released(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let seq_of =
        |line: &Vec<u8>| serde_json::from_slice::<Value>(line).expect("JSON")["seq"].as_u64().expect("a number");
    let mut lines = lines.to_vec();
    if let (Some(first), Some(last)) = (lines.first().map(seq_of), lines.last()) {
        let (seq, prev) = (seq_of(last) + 1, LineHash::of(last.strip_suffix(b"\n").expect("a whole line")));
        lines.push(format!("{{\"seq\":{seq},\"prev\":\"{prev}\",\"released\":{{\"before\":{first}}}}}\n").into_bytes());
    }
    lines
}

fn fault(lines: &[Vec<u8>]) -> Option<(Option<u64>, Fault)> {
    let report = verify_export(&lines.concat()[..], &[]).expect("readable");
    report.broken.map(|broken| (broken.after, broken.what))
}

#[tokio::test]
async fn a_line_that_is_changed_dropped_doubled_or_moved_is_found_and_named() {
    let dir = Dir::new("proofs");
    let lines = some(&dir).await;
    assert!(lines.len() >= 10, "{} lines", lines.len());
    assert_eq!(fault(&lines), None);
    let after = |at: usize| (at > 0).then_some(at as u64);
    for at in 0..lines.len() {
        let is_last = at + 1 == lines.len();
        let mut dropped = lines.clone();
        dropped.remove(at);
        match (at, is_last) {
            (0, _) => assert_eq!(fault(&dropped), Some((None, Fault::NotReleased))),
            // Only an anchor can show that the last line is missing.
            (_, true) => assert_eq!(fault(&dropped), None),
            _ => assert_eq!(fault(&dropped), Some((after(at), Fault::OutOfOrder)), "line {at} dropped"),
        }
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at].clone());
        assert_eq!(fault(&doubled), Some((after(at + 1), Fault::OutOfOrder)), "line {at} doubled");
        if !is_last {
            let mut moved = lines.clone();
            moved.swap(at, at + 1);
            assert!(fault(&moved).is_some(), "line {at} moved");
        }
        // Change a digit, so that the line still parses.
        let text = String::from_utf8(lines[at].clone()).expect("UTF-8");
        let Some(place) = text.rfind(|letter: char| letter.is_ascii_digit()) else { continue };
        let mut changed = lines.clone();
        changed[at][place] = if changed[at][place] == b'9' { b'8' } else { b'9' };
        let _: Value = serde_json::from_slice(&changed[at]).expect("still JSON");
        match is_last {
            true => assert!(fault(&changed).is_none(), "of the last only an anchor knows"),
            false => assert_eq!(fault(&changed), Some((after(at + 1), Fault::Changed)), "line {at} changed"),
        }
        let mut cut = lines.clone();
        cut[at].truncate(lines[at].len() / 2);
        assert!(fault(&cut).is_some(), "line {at} cut");
    }
}

/// The variable for the directory that a child process exports.
const CHILD: &str = "TOLLGATE_TEST_JOURNAL_EXPORT";

/// Runs as a child process that may have only a few files open. Without the variable it does nothing.
#[test]
fn child_that_exports_with_few_files() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 100, most).expect("ours to set");
    assert!(export(dir, std::io::sink()).expect("few are open at once") >= 2);
}

#[test]
fn a_journal_of_many_segments_is_exported_with_few_files_open() {
    let dir = Dir::new("many");
    drop(Journal::at(&dir.0).open().expect("a journal"));
    for first in 3..300 {
        fs::write(dir.join(&format!("{first:020}.seg")), [0; 16]).expect("writable");
    }
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["proofs::child_that_exports_with_few_files", "--exact", "--nocapture"])
        .env(CHILD, &dir.0)
        .output()
        .expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn an_anchor_tells_when_the_end_was_cut_off_or_all_of_it_made_anew() {
    let dir = Dir::new("anchors");
    let lines = some(&dir).await;
    let report = verify(&dir.0, &[]).expect("readable");
    let head = report.head.expect("lines");
    assert_eq!(head.to_string().parse::<Head>().expect("as it is shown"), head);
    let last = lines.last().expect("lines");
    assert_eq!(head.hash, LineHash::of(&last[..last.len() - 1]));
    let verified = |lines: &[Vec<u8>], anchors: &[Head]| {
        verify_export(&lines.concat()[..], anchors).expect("readable").broken.map(|broken| broken.what)
    };
    assert_eq!(verified(&lines, &[head]), None);
    assert_eq!(verified(&lines[..lines.len() - 1], &[head]), Some(Fault::NotAsAnchored));
    assert_eq!(verified(&[], &[head]), Some(Fault::NotAsAnchored));
    let other = Head { hash: LineHash::of(b"other"), ..head };
    assert_eq!(verified(&lines, &[head, other]), Some(Fault::NotAsAnchored));
    let later = released(&lines[2..]);
    assert_eq!(verified(&later, &[Head { seq: 1, ..other }]), None, "what was removed cannot be held against it");
    for text in ["", "1", "1:", "x:00", "1:zz", &format!("{}:{}", 1, "0".repeat(63)), &format!("1:{}", "A".repeat(64))]
    {
        assert!(text.parse::<Head>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn an_anchor_is_confirmed_as_long_as_its_line_is_kept_and_else_out_of_reach() {
    use AnchorState::{Broken, Confirmed, OutOfReach};
    let dir = Dir::new("reach");
    let lines = some(&dir).await;
    let hash = |line: &[u8]| LineHash::of(line.strip_suffix(b"\n").expect("a whole line"));
    let head = |at: usize| Head { seq: at as u64 + 1, hash: hash(&lines[at]) };
    let other = |at: usize| Head { hash: LineHash::of(b"other"), ..head(at) };
    let last = lines.len() - 1;
    let verified = |lines: &[Vec<u8>], anchors: &[Head]| {
        let report = verify_export(&released(lines).concat()[..], anchors).expect("readable");
        assert_eq!(report.anchors.iter().map(|anchor| anchor.head).collect::<Vec<_>>(), anchors);
        let states: Vec<_> = report.anchors.iter().map(|anchor| anchor.state).collect();
        (states, report.broken.map(|broken| (broken.after, broken.what)))
    };
    let kept = &lines[3..];
    assert_eq!(
        verified(kept, &[head(1), head(2), head(3), head(last)]),
        (vec![OutOfReach, OutOfReach, Confirmed, Confirmed], None)
    );
    // Forge all the lines that are kept, as anybody with write access can. The new lines are consistent.
    let anew = |mut prev: LineHash| {
        let mut forged = Vec::<Vec<u8>>::new();
        for line in kept {
            let text = String::from_utf8(line.clone()).expect("UTF-8").replace("claude", "cloude");
            let (before, behind) = text.split_once(r#""prev":""#).expect("a line");
            let line = format!(r#"{before}"prev":"{prev}{}"#, &behind[64..]).into_bytes();
            prev = hash(&line);
            forged.push(line);
        }
        forged
    };
    let forged = anew(head(2).hash);
    assert_eq!(verified(&forged, &[head(2)]), (vec![OutOfReach], None), "whoever knows the hash can name it");
    assert_eq!(verified(&forged, &[head(2), head(4)]).0, [OutOfReach, Broken]);
    let forged = anew(LineHash::of(b"another history"));
    assert_eq!(verified(&forged, &[]), (vec![], None));
    assert_eq!(verified(&forged, &[head(1)]), (vec![OutOfReach], None), "nothing tells, and that is said");
    assert_eq!(verified(&forged, &[head(1), head(2)]), (vec![OutOfReach, Broken], Some((None, Fault::NotAsAnchored))));
    assert_eq!(verified(&forged, &[head(4)]), (vec![Broken], Some((Some(4), Fault::NotAsAnchored))));
    // Two different anchors for the same line cannot both hold. An anchor beyond the last line is broken too.
    let wrong = Some((Some(4), Fault::NotAsAnchored));
    assert_eq!(verified(kept, &[head(4), other(4)]), (vec![Confirmed, Broken], wrong));
    let cut = Some((Some(last as u64), Fault::NotAsAnchored));
    assert_eq!(verified(&lines[3..last], &[head(4), head(last)]), (vec![Confirmed, Broken], cut));
    assert_eq!(verified(&[], &[head(4)]), (vec![Broken], Some((None, Fault::NotAsAnchored))));
    // An anchor before the very first line proves nothing, since everybody knows its hash.
    let none = Head { seq: 0, hash: LineHash::NONE };
    for lines in [&lines[..], &[]] {
        assert_eq!(verified(lines, &[none]), (vec![OutOfReach], None));
    }
    let going_on = released(kept);
    let report = verify_export(&going_on.concat()[..], &[head(4), head(3)]).expect("readable");
    let text = serde_json::to_value(&report).expect("JSON");
    assert_eq!(text["anchors"][1], serde_json::json!({ "head": head(3).to_string(), "state": "confirmed" }));
    assert_eq!(text["proved_to"], 5, "by the later of the two");
    let newest = Head { seq: last as u64 + 2, hash: hash(&going_on[going_on.len() - 1]) };
    assert_eq!(text["head"], newest.to_string());
}

#[tokio::test]
async fn an_end_that_is_cut_off_is_missed_by_what_a_sink_has_had_and_stays_known_when_others_stand_there() {
    let (dir, sink) = (Dir::new("cut-off"), Sink::default());
    let open = || Journal::at(&dir.0).open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let calls = async |many: usize| {
        let site = Site::new(open(), MemoryBudgets::new());
        for _ in 0..many {
            assert_eq!(site.whole("hello").await, StatusCode::OK);
        }
        site.settlements.drain().await;
        site.audit.flush().await;
        drop(site);
        ended(&dir).await;
    };
    calls(3).await;
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
    let had = fs::read_to_string(dir.join("kept.acked")).expect("kept").trim().parse::<Head>().expect("a head").seq;
    let mut text = Vec::new();
    assert!(had > 5 && export(&dir.0, &mut text).expect("readable") >= had);
    let fifth = text.split_inclusive(|byte| *byte == b'\n').nth(4).expect("five lines").to_vec();
    for entry in fs::read_dir(&dir.0).expect("readable") {
        let path = entry.expect("readable").path();
        let mut bytes = fs::read(&path).expect("readable");
        if let Some(at) = memchr::memmem::find(&bytes, &fifth) {
            bytes[at + fifth.len()..].fill(0);
            fs::write(&path, bytes).expect("writable");
        }
    }
    let report = verify(&dir.0, &[]).expect("readable");
    let broken = report.broken.map(|broken| (broken.after, broken.what));
    assert_eq!((broken, report.lines), (Some((Some(5), Fault::NotAsShipped)), 5));
    calls(0).await;
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!((report.broken, report.missing), (None, vec![format!("{} lines before line 6", had - 5)]));
}

#[tokio::test]
async fn a_segment_is_proved_as_it_lies_there_and_while_it_is_written() {
    let dir = Dir::new("live");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let calls = async {
        for _ in 0..200 {
            assert_eq!(site.whole("hello").await, StatusCode::OK);
        }
    };
    let place = dir.0.clone();
    let proving = tokio::task::spawn_blocking(move || {
        for _ in 0..20 {
            assert_eq!(verify(&place, &[]).expect("readable").broken, None);
        }
    });
    let ((), proved) = tokio::join!(calls, proving);
    proved.expect("it held");
    site.audit.flush().await;
    let segments: Vec<PathBuf> = fs::read_dir(&dir.0)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    assert_eq!(segments.len(), 1);
    assert_eq!(fs::metadata(&segments[0]).expect("there").len(), 32 << 20, "all of it is there from the beginning");
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!((report.finals, report.broken), (200, None));
    drop(site);
    let mut bytes = fs::read(&segments[0]).expect("readable");
    bytes[40] ^= 1;
    fs::write(&segments[0], bytes).expect("writable");
    let broken = verify(&dir.0, &[]).expect("readable").broken.expect("it was changed");
    assert_eq!((broken.after, broken.what), (None, Fault::Unreadable));
    assert!(broken.to_string().contains("at the beginning: there are bytes that are not a line"), "{broken}");
}
