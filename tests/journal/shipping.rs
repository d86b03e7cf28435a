use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::task::JoinSet;
use tollgate::audit::JsonLines;
use tollgate::domain::audit::AuditRecord;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::journal::{Head, Journal, LineHash, verify};
use tollgate::store::memory::MemoryBudgets;
use uuid::Uuid;

use crate::events::{Ear, tell};
use crate::site::{Dir, Sink, Site, ended, lines, open_again, until};
use crate::support::log::Log;

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

#[cfg(unix)]
#[tokio::test]
async fn every_file_of_a_journal_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, sink) = (Dir::new("owners"), Sink::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.ship("kept", sink.clone()));
    let site = Site::new(journal.expect("a journal"), MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("its position is kept", || dir.0.join("kept.acked").exists()).await;
    for file in fs::read_dir(&dir.0).expect("a directory") {
        let (path, mode) =
            file.and_then(|file| Ok((file.path(), file.metadata()?.permissions().mode()))).expect("a file");
        // Temporary files are not looked for.
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

/// How many seconds a sink is stalled. `.ci/long` sets a larger number.
fn stalled_for() -> u64 {
    std::env::var("TOLLGATE_STALL_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_thousand_calls_a_second_a_stalled_sink_has_nobody_refused_and_no_record_waits_in_memory() {
    let (dir, sink) = (Dir::new("thousand"), Sink::default());
    sink.stall(true);
    // If records stayed in memory until the sink has them, the places would soon run out. While the disk is slow, 266
    // calls may wait to be sent, as many closed calls may wait to be written, and as many may just have been written.
    let journal = Journal::at(&dir.0).calls(1_024).open().expect("a journal");
    let journal = journal.ship("kept", sink.clone()).expect("a name");
    let site = Arc::new(Site::new(journal, MemoryBudgets::new()));
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    let (mut calls, mut made, began) = (JoinSet::new(), 0, tokio::time::Instant::now());
    for _ in 0..stalled_for() * 100 {
        clock.tick().await;
        for _ in 0..10 {
            let site = site.clone();
            calls.spawn(async move { site.whole("hello").await });
            made += 1;
        }
        // A machine under load makes fewer calls, so limit how many are open at once.
        while calls.len() > 256 {
            assert_eq!(calls.join_next().await.expect("one").expect("it ran"), StatusCode::OK);
        }
    }
    assert!(calls.join_all().await.iter().all(|status| *status == StatusCode::OK));
    // An idle machine makes all thousand. One that runs other tests may not: that proves less, and is no fault.
    eprintln!("{:.0} calls a second", made as f64 / began.elapsed().as_secs_f64());
    assert!(sink.records().is_empty());
    sink.stall(false);
    while sink.len() < made {
        let before = sink.len();
        until("more records", || sink.len() > before).await;
    }
    let ids: HashSet<_> = sink.records().iter().map(|record| record.id).collect();
    assert_eq!((ids.len(), sink.records().len()), (made, made), "exactly once");
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
}

#[tokio::test]
async fn after_a_restart_a_sink_goes_on_where_it_had_come_to() {
    let (dir, sink) = (Dir::new("restarted"), Sink::default());
    for run in 1..=3 {
        // The sink stalls in the second run only.
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
                seq.trim().parse::<Head>().is_ok_and(|had| had.seq + 2 >= head.seq)
            })
            .await;
        }
    }
    let ids: HashSet<_> = sink.records().iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 15);
}

#[tokio::test]
async fn a_sink_that_has_had_what_a_power_loss_took_goes_on_where_the_journal_does() {
    let (dir, sink) = (Dir::new("power"), Sink::default());
    let journal = Journal::at(&dir.0).open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.settlements.drain().await;
    site.audit.flush().await;
    let left = dir.as_if_killed("power-after");
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.settlements.drain().await;
    site.audit.flush().await;
    until("it is kept how far", || {
        let had_of = |dir: &Dir| fs::read_to_string(dir.join("kept.acked")).unwrap_or_default();
        let has_moved = |had: &str| had.trim().parse::<Head>().is_ok() && *had != had_of(&left);
        sink.len() == 2 && has_moved(&had_of(&dir))
    })
    .await;
    fs::copy(dir.join("kept.acked"), left.join("kept.acked")).expect("there");
    for run in 3..=4 {
        let journal = open_again(&left).await.ship("kept", sink.clone()).expect("a name");
        let site = Site::new(journal, MemoryBudgets::new());
        assert_eq!(site.whole("hello").await, StatusCode::OK);
        site.audit.flush().await;
        until("what came since", || sink.len() >= run).await;
        site.audit.flush().await;
    }
    let ids: HashSet<_> = sink.records().iter().map(|record| record.id).collect();
    assert_eq!((ids.len(), sink.len()), (4, 4), "each once");
}

/// What is made of the position of the line with this number, with a head of another journal. Nothing: it is removed.
type Damage = fn(u64, Head) -> Option<Vec<u8>>;

#[tokio::test]
async fn a_position_that_is_damaged_has_nobody_told_of_what_is_over_and_every_record_sent_again() {
    let told = |name: &str| format!("key {name} was revoked");
    let [first, second] = [told("first"), told("second")];
    let other = Head { seq: 0, hash: LineHash::of(b"another") };
    // And what is heard then.
    let damages: [(Damage, &[&String]); 9] = [
        (|_, _| Some(Vec::new()), &[&first, &second]),
        (|_, _| Some(vec![0; 70]), &[&first, &second]),
        (|_, _| Some(vec![0xff; 70]), &[&first, &second]),
        (|seq, _| Some(seq.to_string().into()), &[&first, &second]),
        (|seq, _| Some(format!("{seq}:half").into()), &[&first, &second]),
        (|seq, other| Some(Head { seq, ..other }.to_string().into()), &[&first, &second]),
        (|_, _| Some("1000000:half".into()), &[&first, &second]),
        (|_, _| Some("1:half".into()), &[&first, &first, &second]),
        (|_, _| None, &[&first, &first, &second]),
    ];
    for (number, (damage, heard)) in damages.into_iter().enumerate() {
        let (dir, ear, sink) = (Dir::new(&format!("damaged-{number}")), Ear::default(), Sink::default());
        for run in ["first", "second"] {
            let journal = open_again(&dir).await;
            let events = journal.events();
            // A start may tell of something before its sinks are known.
            tell(&events, run);
            let journal = journal.ship("kept", sink.clone()).and_then(|journal| journal.notify("ear", ear.clone()));
            let site = Site::new(journal.expect("two names"), MemoryBudgets::new());
            assert_eq!(site.whole("hello").await, StatusCode::OK);
            until("it is heard", || ear.heard().last() == Some(&told(run))).await;
            site.settlements.drain().await;
            site.audit.flush().await;
            until("all have had all", || site.audit.status().behind.iter().all(|(_, lines)| *lines == 0)).await;
            drop((site, events));
            ended(&dir).await;
            for name in ["kept.acked", "ear.acked"] {
                let had = fs::read_to_string(dir.join(name)).expect("it is kept").trim().parse::<Head>();
                match damage(had.expect("a head").seq, other) {
                    Some(damaged) => fs::write(dir.join(name), damaged).expect("ours"),
                    None => fs::remove_file(dir.join(name)).expect("ours"),
                }
            }
        }
        assert_eq!(ear.heard().iter().collect::<Vec<_>>(), heard, "{number}");
        let ids: HashSet<_> = sink.records().iter().map(|record| record.id).collect();
        assert_eq!((ids.len(), sink.len()), (2, 3), "{number}");
    }
}

/// A sink that accepts no records of these calls: it panics at one of them and refuses the other.
#[derive(Clone)]
struct Poisoned(Sink, Arc<Mutex<Vec<Uuid>>>);

#[async_trait]
impl AuditSink for Poisoned {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let poison = self.1.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match records.iter().find_map(|record| poison.iter().position(|id| *id == record.id)) {
            Some(0) => panic!("it cannot be told of this one"),
            Some(_) => Err(StoreError::broken("it will not have this one")),
            None => self.0.write(records).await,
        }
    }
}

#[tokio::test]
async fn what_a_sink_panics_at_or_refuses_is_kept_from_it_alone_and_is_in_the_log() {
    let (dir, sink, (log, _listening)) = (Dir::new("poison"), Sink::default(), Log::listen());
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let site = Site::new(journal, MemoryBudgets::new());
    for _ in 0..6 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    site.audit.flush().await;
    drop(site);
    let id = |line: serde_json::Value| line["final"]["record"]["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
    let ids: Vec<_> = lines(&dir.0).into_iter().filter_map(id).collect();
    let poisoned = Poisoned(sink.clone(), Arc::new(Mutex::new(vec![ids[1], ids[4]])));
    let journal = open_again(&dir).await.ship("kept", poisoned).expect("a name");
    // The sink gets all six in one batch.
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("the others", || sink.len() >= 5).await;
    let had: Vec<_> = sink.records().iter().map(|record| record.id).collect();
    assert_eq!(had[..4], [ids[0], ids[2], ids[3], ids[5]]);
    let said = log.text();
    let in_full = |id: &Uuid| {
        said.lines().filter(|line| line.contains("in this log line") && line.contains(&format!("{id}"))).count()
    };
    assert_eq!(ids.iter().map(in_full).collect::<Vec<_>>(), [0, 1, 0, 0, 1, 0], "{said}");
}

/// A sink that hangs the first time.
#[derive(Clone)]
struct Hanging(Sink, Arc<AtomicUsize>);

#[async_trait]
impl AuditSink for Hanging {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => std::future::pending().await,
            _ => self.0.write(records).await,
        }
    }
}

#[tokio::test]
async fn a_sink_that_hangs_is_told_again_after_a_minute() {
    let (dir, sink, asked) = (Dir::new("hangs"), Sink::default(), Arc::new(AtomicUsize::new(0)));
    let hanging = Hanging(sink.clone(), asked.clone());
    let journal = Journal::at(&dir.0).open().expect("a journal").ship("kept", hanging).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("it hangs", || asked.load(Ordering::Relaxed) == 1).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(61)).await;
    tokio::time::resume();
    until("it has it", || sink.len() == 1).await;
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
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(3 << 20).keep_bytes(0).open();
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
    assert!(calls > 300, "{calls} calls in a segment of a megabyte");
    sink.stall(false);
    until("room again", || verify(&dir.0, &[]).is_ok_and(|report| report.first > Some(1))).await;
    site.serves_again().await;
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!(report.broken, None);
    // Every admitted call has its record. Refused calls have one if there was a place for them.
    until("every record", || sink.records().iter().filter(|record| record.status == Some(200)).count() == calls + 1)
        .await;
}

#[tokio::test]
async fn however_full_it_is_the_end_of_a_call_that_was_let_through_is_written() {
    let (dir, sink) = (Dir::new("over"), Sink::default());
    sink.stall(true);
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(3 << 20).keep_bytes(0).open();
    let journal = journal.expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    let mut under_way = Vec::new();
    loop {
        let answer = site.ask("hello").await;
        if answer.status() != StatusCode::OK {
            break;
        }
        under_way.push(answer);
        assert!(under_way.len() < 10_000, "nothing bounds the journal");
    }
    // Their finals need more than a segment, although the journal may have no further segment.
    let calls = under_way.len();
    drop(under_way);
    let ends = || lines(&dir.0).iter().filter(|line| line.get("final").is_some()).count();
    until("every end", || ends() == calls).await;
    sink.stall(false);
    until("every record", || sink.len() == calls).await;
    site.serves_again().await;
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
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
