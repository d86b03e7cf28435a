use std::collections::HashSet;
use std::fs;

use http::StatusCode;
use tollgate::audit::JsonLines;
use tollgate::store::journal::{Journal, verify};
use tollgate::store::memory::MemoryBudgets;

use crate::site::{Dir, Sink, Site, open_again, until};

#[tokio::test]
async fn a_sink_that_stalls_holds_up_nobody_and_then_gets_every_record_exactly_once() {
    let (dir, slow, quick) = (Dir::new("stalled"), Sink::default(), Sink::default());
    slow.stall(true);
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let journal = journal.ship("slow", slow.clone()).and_then(|journal| journal.ship("quick", quick.clone()));
    let site = Site::new(journal.expect("two names"), MemoryBudgets::new());
    for _ in 0..300 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    until("the quick one has all", || quick.records().len() == 300).await;
    assert!(slow.records().is_empty());
    slow.stall(false);
    until("the slow one has all", || slow.records().len() == 300).await;
    assert_eq!(slow.records(), quick.records());
    let ids: HashSet<_> = slow.records().iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 300);
}

#[tokio::test]
async fn after_a_restart_a_sink_goes_on_where_it_had_come_to() {
    let (dir, sink) = (Dir::new("restarted"), Sink::default());
    for run in 1..=3 {
        // It has come in the meantime: nobody has told that it will stall.
        sink.stall(run == 2);
        let journal = open_again(&dir).await.ship("kept", sink.clone()).expect("a name");
        let site = Site::new(journal, MemoryBudgets::new());
        for _ in 0..5 {
            assert_eq!(site.whole("hello").await, StatusCode::OK);
        }
        site.audit.flush().await;
        let expected = if run < 3 { 5 } else { 15 };
        until("what is there", || sink.records().len() == expected).await;
        if run != 2 {
            until("it is kept how far", || {
                let seq = fs::read_to_string(dir.0.join("kept.acked")).unwrap_or_default();
                let head = verify(&dir.0, &[]).expect("readable").head.expect("lines");
                seq.trim().parse::<u64>().is_ok_and(|seq| seq + 2 >= head.seq)
            })
            .await;
        }
    }
    let ids: HashSet<_> = sink.records().iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 15);
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_comes_again() {
    let (dir, sink) = (Dir::new("again"), Sink::default());
    sink.lie_once();
    let journal = Journal::at(&dir.0).open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("it came twice", || sink.records().len() == 2).await;
    let records = sink.records();
    assert_eq!(records[0], records[1], "its id tells");
}

#[tokio::test]
async fn what_every_sink_has_had_makes_room_and_without_room_no_call_is_let_through() {
    let (dir, sink) = (Dir::new("full"), Sink::default());
    sink.stall(true);
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(2 << 20).keep_bytes(0).open();
    let journal = journal.expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    let mut calls = 0;
    let refused = loop {
        match site.whole("hello").await {
            StatusCode::OK => calls += 1,
            refused => break refused,
        }
        assert!(calls < 10_000, "nothing bounds the journal");
    };
    assert_eq!(refused.as_u16(), 529);
    assert!(calls > 500, "{calls} calls in two segments of a megabyte");
    sink.stall(false);
    until("room again", || verify(&dir.0, &[]).is_ok_and(|report| report.first > Some(1))).await;
    let mut status = refused;
    for _ in 0..100 {
        status = site.whole("hello").await;
        if status == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, StatusCode::OK);
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!(report.broken, None);
    // Every call that was let through has its record, and the refused ones that found a place.
    until("every record", || sink.records().iter().filter(|record| record.status == Some(200)).count() == calls + 1)
        .await;
}

#[tokio::test]
async fn a_sink_of_the_crates_own_reads_what_the_journal_hands_on() {
    let dir = Dir::new("lines");
    let path = dir.0.join("calls.jsonl");
    let sink = JsonLines::append(&path).expect("writable");
    let journal = Journal::at(&dir.0).open().expect("a journal").ship("lines", sink).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("a line", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).expect("there")).expect("JSON");
    assert_eq!((&line["schema"], &line["key_name"]), (&serde_json::json!(1), &serde_json::json!("ada")));
}
