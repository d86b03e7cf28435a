//! What makes a journal drop old segments, and what makes it keep them.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tollgate::domain::budget::Budget;
use tollgate::domain::money::Money;
use tollgate::store::budget::{BudgetStore, Crossing, Memory, Reservation, Reserve, Standing, Verdict};
use tollgate::store::journal::{Fault, Head, Journal, verify};
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use uuid::Uuid;

use crate::site::{Dir, Sink, Site, ended, lines, money, open_again, standing, until};
use crate::support::log::Log;

/// A store with a memory of this duration that accepts no settlement of the first call until it is mended.
#[derive(Clone)]
struct Broken(MemoryBudgets, Duration, Arc<Mutex<First>>);

#[derive(Default)]
struct First {
    call: Option<Uuid>,
    is_mended: bool,
}

impl Broken {
    fn remembering(memory: Duration) -> Self {
        Broken(MemoryBudgets::new(), memory, Arc::default())
    }

    fn first<T>(&self, look: impl FnOnce(&mut First) -> T) -> T {
        look(&mut self.2.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl BudgetStore for Broken {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.0.reserve(ask, at).await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.0.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        let is_taken =
            self.first(|first| *first.call.get_or_insert(reservation.id) != reservation.id || first.is_mended);
        match is_taken {
            true => self.0.settle(reservation, actual, at).await,
            false => Err(StoreError::broken("a row that makes no sense")),
        }
    }

    fn memory(&self) -> Memory {
        Memory::of(self.1)
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

fn site(dir: &Dir, budgets: Broken) -> Site<Broken> {
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(3 << 20).keep_bytes(0);
    let journal = options.open().and_then(|journal| journal.ship("kept", Sink::default())).expect("a journal");
    Site::new(journal, budgets)
}

#[tokio::test]
async fn a_settlement_that_its_store_never_takes_keeps_calls_out_for_no_longer_than_the_store_remembers() {
    let dir = Dir::new("untaken");
    let site = site(&dir, Broken::remembering(Duration::ZERO));
    let first_is_there = || verify(&dir.0, &[]).expect("readable").first == Some(1);
    let mut calls = 0;
    while calls % 100 != 0 || calls == 0 || first_is_there() {
        if site.whole("hello").await != StatusCode::OK {
            // It serves again within a tick or two of the writer.
            site.serves_again().await;
        }
        calls += 1;
        assert!(calls < 10_000, "nothing bounds the journal");
    }
    site.serves_again().await;
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
}

#[tokio::test]
async fn a_beginning_that_the_journal_has_removed_is_told_from_one_that_somebody_took() {
    let dir = Dir::new("beginning");
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(16 << 20).keep_bytes(6 << 20);
    let journal = options.open().and_then(|journal| journal.ship("kept", Sink::default())).expect("a journal");
    let site = Site::new(journal, MemoryBudgets::new());
    let begins = || verify(&dir.0, &[]).expect("readable").first;
    let mut calls = 0;
    while calls % 100 != 0 || calls == 0 || begins() == Some(1) {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
        calls += 1;
        assert!(calls < 20_000, "nothing bounds the journal");
    }
    site.settlements.drain().await;
    site.audit.flush().await;
    let may_go = || lines(&dir.0).iter().filter_map(|line| line["released"]["before"].as_u64()).max();
    until("what may go has gone", || may_go() == begins()).await;
    drop(site);
    ended(&dir).await;
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
    let segments = fs::read_dir(&dir.0).expect("readable").map(|entry| entry.expect("readable").path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let mut segments: Vec<_> = segments.filter(is_segment).collect();
    assert!((5..8).contains(&segments.len()), "of 6 MiB {segments:?} are kept");
    segments.sort();
    fs::remove_file(&segments[0]).expect("there");
    let broken = verify(&dir.0, &[]).expect("readable").broken.map(|broken| (broken.after, broken.what));
    assert_eq!(broken, Some((None, Fault::NotReleased)));
    // A restart does not repair it either.
    drop(open_again(&dir).await);
    ended(&dir).await;
    let broken = verify(&dir.0, &[]).expect("readable").broken.map(|broken| broken.what);
    assert_eq!(broken, Some(Fault::NotReleased));
}

/// Returns why calls were refused, if they were.
fn why(dir: &Dir) -> Option<String> {
    lines(&dir.0).iter().find_map(|line| line["event"]["reason"].as_str().map(str::to_owned))
}

/// Returns the number of the first line that is kept.
fn first(dir: &Dir) -> u64 {
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!(report.broken, None);
    report.first.expect("lines")
}

#[tokio::test]
async fn a_call_that_goes_on_for_days_keeps_no_other_out_and_is_charged_after_a_crash() {
    let (dir, budgets) = (Dir::new("days"), Broken::remembering(Duration::from_secs(60 * 60)));
    budgets.first(|first| first.is_mended = true);
    let site = site(&dir, budgets);
    let mut calls = Vec::new();
    for _ in 0..20 {
        let answer = site.ask("sim:deltas=2,stall=1").await;
        assert_eq!(answer.status(), StatusCode::OK);
        calls.push(answer);
    }
    let began: Vec<_> =
        lines(&dir.0).iter().filter_map(|line| line["intent"]["record"]["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(began.len(), 20);
    // Their first intents are removed, and so are the repeated ones after that.
    let mut others = 0;
    for gone in [40, 3_000] {
        while first(&dir) < gone {
            for _ in 0..100 {
                assert_eq!(site.whole("hello").await, StatusCode::OK, "{others} others: {:?}", why(&dir));
                others += 1;
            }
            assert!(others < 10_000, "nothing bounds the journal");
        }
    }
    let left = dir.as_if_killed("days-after");
    // The open calls have one final each when they end.
    drop(calls);
    site.settlements.drain().await;
    site.audit.flush().await;
    let finals = |dir: &Dir, end: &str| -> Vec<String> {
        let ended = lines(&dir.0).into_iter().map(|line| line["final"]["record"].clone());
        ended
            .filter(|record| record["end"] == end)
            .filter_map(|record| Some(record["id"].as_str()?.to_owned()))
            .collect()
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(finals(&dir, "abandoned")), sorted(began.clone()));

    let options = Journal::at(&left.0).segment_bytes(1 << 20).most_bytes(3 << 20).keep_bytes(0);
    let mut journal = options.open().expect("a journal");
    let budgets = MemoryBudgets::new();
    assert_eq!(journal.settle_lost(&budgets).await.expect("memory").lost, 20);
    let again = Site::new(journal, budgets);
    again.audit.flush().await;
    assert_eq!(sorted(finals(&left, "lost")), sorted(began.clone()));
    let charged: Vec<_> = lines(&left.0)
        .iter()
        .filter(|line| line["final"]["record"]["end"] == "lost")
        .map(|line| money(&line["final"]["record"]["charged_usd"]))
        .collect();
    assert!(charged.iter().all(|charged| *charged > Money::ZERO), "{charged:?}");
    // Some calls that had just closed are settled again.
    let spent = standing(&again.budgets).await.spent;
    assert!(spent >= charged.into_iter().fold(Money::ZERO, Money::saturating_add), "{spent:?}");
}

#[tokio::test]
async fn of_many_calls_that_go_on_the_oldest_are_said_again_in_a_quarter_of_a_segment() {
    let (dir, budgets) = (Dir::new("many"), Broken::remembering(Duration::from_secs(60 * 60)));
    budgets.first(|first| first.is_mended = true);
    let site = site(&dir, budgets);
    let mut calls = Vec::new();
    for _ in 0..400 {
        calls.push(site.ask("sim:deltas=2,stall=1").await);
    }
    // The id and the length of each intent, in the order in which they are written.
    let intents = || -> Vec<(String, usize)> {
        let lines = lines(&dir.0);
        let intents = lines.iter().filter_map(|line| Some((line, line["intent"]["record"]["id"].as_str()?)));
        intents.map(|(line, id)| (id.to_owned(), line.to_string().len())).collect()
    };
    let began: Vec<_> = intents().into_iter().map(|(id, _)| id).collect();
    let mut rounds = 0..2_000;
    let again = loop {
        assert!(rounds.next().is_some(), "none is said again");
        for _ in 0..20 {
            assert_eq!(site.whole("hello").await, StatusCode::OK);
        }
        let again: Vec<_> = intents().into_iter().skip(began.len()).filter(|(id, _)| began.contains(id)).collect();
        if !again.is_empty() {
            break again;
        }
    };
    // The repeated intents take a part of a segment. After each comes a shorter line on how the call stands.
    let bytes = again.iter().map(|(_, bytes)| bytes).sum::<usize>();
    assert!(bytes > (1 << 20) / 8 && bytes < (1 << 20) / 4 + 2_000, "{bytes} of {} calls", again.len());
    assert!(again.iter().map(|(id, _)| id).eq(&began[..again.len()]), "the oldest");
}

#[tokio::test]
async fn that_lines_are_gone_which_a_sink_has_not_had_is_said_with_their_numbers() {
    let (dir, (log, _listening)) = (Dir::new("gap"), Log::listen());
    drop(Journal::at(&dir.0).open().expect("a journal"));
    drop(open_again(&dir).await);
    let first = verify(&dir.0, &[]).expect("readable").head.expect("lines");
    fs::remove_file(dir.join("00000000000000000001.seg")).expect("one");
    fs::write(dir.join("kept.acked"), Head { seq: 1, ..first }.to_string()).expect("writable");
    let _journal = open_again(&dir).await.ship("kept", Sink::default()).expect("a name");
    let said = log.text();
    assert!(
        said.contains(
            "lines that this sink has not received were removed; it never receives them sink=\"kept\" had=1 first=3"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn segments_that_somebody_takes_away_are_asked_for_now_and_then() {
    let (dir, sink, (log, _listening)) = (Dir::new("taken"), Sink::default(), Log::listen());
    sink.stall(true);
    let journal = Journal::at(&dir.0).open().expect("a journal").ship("kept", sink.clone()).expect("a name");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    let stalls = || log.text().contains("could not be delivered to a sink");
    until("it is being told", stalls).await;
    // The open file can still be written to although its name is gone.
    fs::remove_file(dir.join("00000000000000000001.seg")).expect("one");
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.audit.flush().await;
    sink.stall(false);
    let stuck = || log.text().matches("the next lines of the journal for a sink are missing").count();
    until("it is said", || stuck() > 0).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stuck(), 1);
}

#[tokio::test]
async fn that_a_budget_has_not_been_told_is_said_where_it_keeps_calls_out() {
    let (dir, budgets) = (Dir::new("untold"), Broken::remembering(Duration::from_secs(60 * 60)));
    let site = site(&dir, budgets.clone());
    while site.whole("hello").await == StatusCode::OK {}
    until("it is said", || why(&dir).is_some()).await;
    let why = why(&dir).expect("it is there");
    assert!(why.contains("its oldest call is not settled with its budgets"), "{why}");
    budgets.first(|first| first.is_mended = true);
    site.serves_again().await;
}
