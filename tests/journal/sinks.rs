//! What each sink makes of records.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;

use http::{Request, Response, StatusCode};
use serde_json::Value;
use tollgate::Body;
use tollgate::audit::{JsonLines, TracingSink, Webhook};
use tollgate::domain::event::{Event, What};
use tollgate::store::audit::AuditSink;
use tollgate::store::event::EventSink;
use tollgate::store::journal::Journal;
use tollgate::store::memory::MemoryBudgets;
use tower::service_fn;

use crate::site::{Dir, Sink, Site, until};
use crate::support::log::Log;

#[tokio::test]
async fn a_record_is_one_event_of_tracing_with_all_of_it_in_a_field() {
    let (dir, sink) = (Dir::new("tracing"), Sink::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.ship("kept", sink.clone()));
    let site = Site::new(journal.expect("a journal"), MemoryBudgets::new());
    for _ in 0..2 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    until("both", || sink.len() == 2).await;
    let (log, listening) = Log::listen();
    TracingSink::new().write(&sink.records()).await.expect("it takes all");
    drop(listening);
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("tollgate::audit")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, record) in lines.iter().zip(sink.records()) {
        let (head, field) = line.split_once(" record=").expect("the field");
        assert!(head.ends_with(" INFO tollgate::audit: call"), "{line}");
        let json: String = serde_json::from_str(field).expect("a text");
        assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), serde_json::to_value(&record).expect("JSON"));
    }
}

#[tokio::test]
async fn files_that_begin_anew_hold_every_record_once_and_none_is_too_large() {
    const MOST: u64 = 5_000;
    let (dir, lines, sink) = (Dir::new("rotating-journal"), Dir::new("rotating"), Sink::default());
    let path = lines.join("audit.jsonl");
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.ship("kept", sink.clone()));
    let rotating = JsonLines::rotating(&path, MOST).expect("writable");
    let site = Site::new(
        journal.and_then(|journal| journal.ship("lines", rotating)).expect("two names"),
        MemoryBudgets::new(),
    );
    for _ in 0..20 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    site.settlements.drain().await;
    site.audit.flush().await;
    let written = || {
        let files = fs::read_dir(&lines.0).expect("readable").map(|file| file.expect("readable").path());
        files.map(|file| fs::read_to_string(file).expect("text")).collect::<Vec<_>>()
    };
    until("all are in a file", || written().iter().map(|text| text.lines().count()).sum::<usize>() == 20).await;
    let written = written();
    assert!(written.len() > 3 && written.iter().all(|text| text.len() as u64 <= MOST), "{} files", written.len());
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    let ids: BTreeSet<_> = written.iter().flat_map(|text| text.lines()).map(id).collect();
    assert_eq!(ids, sink.records().iter().map(|record| record.id.to_string()).collect());
}

#[tokio::test]
async fn an_event_that_a_webhook_refuses_for_good_is_a_dead_letter_where_there_is_a_file_for_them() {
    let dir = Dir::new("dead-events");
    let path = dir.join("dead.jsonl");
    let webhook = |status: u16| {
        let client = service_fn(move |_: Request<Body>| {
            std::future::ready(Ok::<_, Infallible>(Response::builder().status(status).body(()).expect("an answer")))
        });
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        Webhook::new("http://hooks.invalid/", secret, client).expect("a webhook")
    };
    let event = Event::new("2026-11-28T09:00:00Z".parse().expect("a time"), What::AuditRestored);
    let dead = || JsonLines::append(&path).expect("writable");
    webhook(410).tell(&event).await.expect_err("into the log, by whoever tells it");
    webhook(503).dead_letters(dead()).tell(&event).await.expect_err("it comes again");
    webhook(204).dead_letters(dead()).tell(&event).await.expect("taken");
    assert_eq!(fs::read_to_string(&path).expect("it was made"), "");
    webhook(410).dead_letters(dead()).tell(&event).await.expect("a dead letter");
    let text = fs::read_to_string(&path).expect("it was made");
    assert_eq!(serde_json::from_str::<Event>(&text).expect("one line"), event);
}
