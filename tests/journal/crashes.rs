use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Crossing, Memory, Reservation, Reserve, Standing, Verdict};
use tollgate::store::journal::{Corrected, Journal, verify};
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use tower::ServiceExt;

use crate::site::{Dir, Sink, Site, bill, kinds, lines, money, open_again, pot, request_of, standing, until};

#[tokio::test]
async fn a_call_that_a_crash_cut_off_is_closed_as_lost_and_costs_the_most_that_it_can_have_cost() {
    let dir = Dir::new("lost");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.settlements.drain().await;
    let settled = standing(&site.budgets).await.spent;
    let answer = site.ask("sim:deltas=5,stall=3").await;
    let held = standing(&site.budgets).await.held;
    assert!(held > Money::ZERO);

    let left = dir.as_if_killed("lost-after");
    let mut journal = Journal::at(&left.0).open().expect("what was left");
    let corrected = journal.settle_lost(&site.budgets).await.expect("memory");
    assert_eq!(corrected.lost, 1);
    let now = standing(&site.budgets).await;
    assert_eq!(now.held, Money::ZERO);
    let charged = Money::from_nanos(now.spent.nanos() - settled.nanos());
    assert!(charged < held, "{charged} of {held}: nobody knew better");
    assert!(now.spent >= bill(&site), "the ledger is under the bill");

    let site2 = Site::new(journal, MemoryBudgets::new());
    site2.audit.flush().await;
    let lines = lines(&left.0);
    let closed: Vec<&Value> = lines.iter().map(|line| &line["final"]["record"]).filter(|r| !r.is_null()).collect();
    assert_eq!((&closed[1]["end"], &closed[1]["quality"]), (&json!("lost"), &json!("estimated")));
    assert_eq!(money(&closed[1]["charged_usd"]), charged);
    assert_eq!(verify(&left.0, &[]).expect("readable").broken, None);
    // The first process goes on in truth. It settles too, and the call is still charged once.
    drop(answer);
    site.settlements.drain().await;
    assert_eq!(standing(&site.budgets).await.spent, now.spent);
}

/// A store that cannot be reached for settlements while the flag is set.
#[derive(Clone)]
struct Deaf(MemoryBudgets, Arc<AtomicBool>);

/// A store that notes at each settlement whether its final is in the journal in this directory.
#[derive(Clone)]
struct Looking(MemoryBudgets, PathBuf, Arc<Mutex<Vec<bool>>>);

impl Deaf {
    fn hear(&self, _: &Reservation) -> Result<(), StoreError> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(StoreError::unavailable("deaf")),
            false => Ok(()),
        }
    }
}

impl Looking {
    fn hear(&self, reservation: &Reservation) -> Result<(), StoreError> {
        let id = json!(reservation.id);
        let is_there = lines(&self.1).iter().any(|line| line["final"]["record"]["id"] == id);
        self.2.lock().unwrap_or_else(PoisonError::into_inner).push(is_there);
        Ok(())
    }
}

macro_rules! in_front {
    ($store:ty) => {
        #[async_trait]
        impl BudgetStore for $store {
            async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
                self.0.reserve(ask, at).await
            }

            async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
                self.0.extend(ask, at).await
            }

            async fn settle(&self, one: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
                self.hear(one)?;
                self.0.settle(one, actual, at).await
            }

            async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
                self.0.heartbeat(session, at).await
            }

            async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
                self.0.standing(budgets, at).await
            }
        }
    };
}

in_front!(Deaf);
in_front!(Looking);

#[tokio::test]
async fn a_budget_is_told_how_a_call_ended_when_that_is_written() {
    let dir = Dir::new("order");
    let looking = Looking(MemoryBudgets::new(), dir.0.clone(), Arc::default());
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), looking.clone());
    for _ in 0..5 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    drop(site.ask("sim:stall=1").await);
    site.settlements.drain().await;
    assert_eq!(*looking.2.lock().unwrap_or_else(PoisonError::into_inner), [true; 6]);
    assert_eq!(standing(&looking).await.held, Money::ZERO);
}

#[tokio::test]
async fn a_settlement_that_a_crash_kept_from_its_budget_is_told_again_exactly_once() {
    let dir = Dir::new("unheard");
    let deaf = Deaf(MemoryBudgets::new(), Arc::new(AtomicBool::new(true)));
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), deaf.clone());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    site.audit.flush().await;
    assert_eq!(standing(&deaf).await.spent, Money::ZERO);

    let left = dir.as_if_killed("unheard-after");
    let mut journal = Journal::at(&left.0).open().expect("what was left");
    assert!(journal.settle_lost(&deaf).await.is_err(), "it is still deaf");
    deaf.1.store(false, Ordering::SeqCst);
    let corrected = journal.settle_lost(&deaf).await.expect("it hears");
    assert_eq!((corrected.lost, corrected.told_again), (0, 1));
    let now = standing(&deaf).await;
    let lines = lines(&left.0);
    assert_eq!(kinds(&lines), ["opened", "intent", "final", "opened"], "it has its final already");
    let closed = lines.iter().find(|line| !line["final"].is_null()).expect("one");
    assert_eq!((now.spent, now.held), (money(&closed["final"]["record"]["charged_usd"]), Money::ZERO));
    // The first process was only slow, and settles after all.
    site.settlements.drain().await;
    assert_eq!(standing(&deaf).await.spent, now.spent);
}

#[tokio::test]
async fn what_is_done_with_is_not_looked_at_again() {
    let dir = Dir::new("done");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    for _ in 0..3 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    site.settlements.drain().await;
    drop(site);
    let elsewhere = MemoryBudgets::new();
    let corrected = open_again(&dir).await.settle_lost(&elsewhere).await.expect("memory");
    assert_eq!((corrected.lost, corrected.told_again), (0, 0));
    assert_eq!(standing(&elsewhere).await.spent, Money::ZERO);
}

#[tokio::test]
async fn calls_that_nobody_settles_are_closed_all_the_same_and_sinks_are_told() {
    let dir = Dir::new("nobody");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let answers = [site.ask("sim:stall=0").await, site.ask("sim:stall=1").await];
    let left = dir.as_if_killed("nobody-after");
    let sink = Sink::default();
    let journal = Journal::at(&left.0).open().expect("what was left").ship("kept", sink.clone()).expect("a name");
    let next = Site::new(journal, MemoryBudgets::new());
    assert_eq!(next.whole("hello").await, StatusCode::OK);
    until("three records", || sink.records().len() == 3).await;
    let ends: Vec<_> = sink.records().iter().map(|record| json!(record.end)).collect();
    assert_eq!(ends, [json!("lost"), json!("lost"), json!("complete")]);
    drop(answers);
}

#[tokio::test]
async fn a_call_that_goes_on_is_found_however_many_segments_have_gone_since() {
    let (dir, sink) = (Dir::new("old"), Sink::default());
    // The journal keeps enough segments that it need not repeat the intents of open calls.
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).keep_bytes(3 << 20);
    let journal = options.open().and_then(|journal| journal.ship("kept", sink.clone())).expect("a journal");
    let site = Site::new(journal, MemoryBudgets::new());
    let answer = site.ask("sim:stall=0").await;
    // Fill three segments, so that two could be removed.
    let mut calls = 0;
    while segments(&dir) < 4 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
        calls += 1;
        assert!(calls < 10_000, "no segment is ever full");
    }
    until("sinks have had them", || sink.records().len() == calls).await;
    site.audit.flush().await;
    let left = dir.as_if_killed("old-after");
    let corrected =
        Journal::at(&left.0).open().expect("what was left").settle_lost(&site.budgets).await.expect("memory");
    // The stores know of almost all other calls. Only the last of them are told again.
    assert_eq!(corrected.lost, 1, "{corrected:?}");
    assert!(corrected.told_again < calls / 2, "{corrected:?} of {calls}");
    assert_eq!(standing(&site.budgets).await.held, Money::ZERO);

    // Once this call has closed too, segments are removed.
    drop(answer);
    site.settlements.drain().await;
    let before = calls;
    while segments(&dir) >= 4 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
        calls += 1;
        assert!(calls < before + 10_000, "none is ever removed");
    }
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
}

fn segments(dir: &Dir) -> usize {
    let files = std::fs::read_dir(&dir.0).expect("readable").map(|entry| entry.expect("readable").path());
    files.filter(|path| path.extension().is_some_and(|e| e == "seg")).count()
}

#[tokio::test]
async fn a_segment_that_was_made_and_never_written_to_stands_in_nobodys_way() {
    let (dir, sink) = (Dir::new("empty"), Sink::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.ship("kept", sink.clone())).expect("a journal");
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    until("a record", || sink.records().len() == 1).await;
    site.audit.flush().await;
    // What a power loss leaves just after a segment was made. A file with something else than lines in it is kept.
    let left = dir.as_if_killed("empty-after");
    std::fs::write(left.0.join("00000000000000000900.seg"), vec![0; 1 << 20]).expect("writable");
    std::fs::write(left.0.join("00000000000000001000.seg"), b"half a line").expect("writable");
    let journal =
        Journal::at(&left.0).open().and_then(|journal| journal.ship("kept", sink.clone())).expect("a journal");
    let next = Site::new(journal, MemoryBudgets::new());
    assert_eq!(next.whole("hello").await, StatusCode::OK);
    until("another record", || sink.records().len() == 2).await;
    assert_eq!(verify(&left.0, &[]).expect("readable").broken, None);
    assert!(!left.0.join("00000000000000000900.seg").exists());
    assert!(left.0.join("00000000000000001000.unreadable-1").exists());
}

#[tokio::test]
async fn what_is_told_again_is_charged_to_those_pots_alone_that_pay() {
    let dir = Dir::new("paid");
    let deaf = Deaf(MemoryBudgets::new(), Arc::new(AtomicBool::new(true)));
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), deaf.clone());
    // Either of two providers may serve the call, and the first does.
    let pots = ["anthropic", "spare"].map(|name| Budget::new(Scope::provider(name), Window::Total, pot().limit));
    let request = request_of("hello", pots.to_vec());
    let answer = site.fallback().oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::OK);
    let _ = answer.into_body().collect().await.expect("whole");
    site.audit.flush().await;
    let left = dir.as_if_killed("paid-after");
    deaf.1.store(false, Ordering::SeqCst);
    let elsewhere = MemoryBudgets::new();
    let corrected = Journal::at(&left.0).open().expect("what was left").settle_lost(&elsewhere).await.expect("memory");
    assert_eq!(corrected.told_again, 1);
    let standings = elsewhere.standing(&pots, At::Store).await.expect("memory");
    assert!(standings[0].spent > Money::ZERO, "{standings:?}");
    assert_eq!(standings[1].spent, Money::ZERO, "nobody asked it: {standings:?}");
}

/// A store that declares a memory of this many days.
#[derive(Clone)]
struct Remembering(MemoryBudgets, u64);

#[async_trait]
impl BudgetStore for Remembering {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.0.reserve(ask, at).await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.0.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.0.settle(reservation, actual, at).await
    }

    fn memory(&self) -> Memory {
        Memory::of(Duration::from_secs(self.1 * 86_400))
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

#[tokio::test]
async fn a_gateway_that_comes_back_corrects_what_its_store_still_remembers_and_nothing_else() {
    let dir = Dir::new("late");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new()).ago(3);
    let answer = site.ask("sim:deltas=5,stall=3").await;
    assert!(standing(&site.budgets).await.held > Money::ZERO);
    let left = dir.as_if_killed("late-after");
    drop(answer);
    // A store that has forgotten the call might charge it twice, so only the store that remembers it is corrected.
    for (days, corrected) in [(1, [0, 1]), (3, [0, 1]), (30, [1, 0])] {
        let copy = left.as_if_killed("late-again");
        let store = Remembering(MemoryBudgets::new(), days);
        let mut journal = Journal::at(&copy.0).open().expect("what was left");
        let Corrected { lost, too_old, .. } = journal.settle_lost(&store).await.expect("memory");
        assert_eq!([lost, too_old], corrected, "{days} days");
        assert_eq!(standing(&store).await.spent > Money::ZERO, lost == 1, "{days} days");
    }
}

#[tokio::test]
async fn a_lost_record_says_all_that_was_seen_of_its_call() {
    let dir = Dir::new("seen");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let mut answer = site.ask("sim:deltas=5,stall=3").await.into_body();
    for _ in 0..3 {
        answer.frame().await.expect("a frame").expect("no error");
    }
    // The journal looks at open calls every two seconds.
    until("it is seen", || lines(&dir.0).iter().any(|line| line["seen"]["attempts"][0]["usage"].is_object())).await;
    let left = dir.as_if_killed("seen-after");
    let mut journal = Journal::at(&left.0).open().expect("what was left");
    assert_eq!(journal.settle_lost(&site.budgets).await.expect("memory").lost, 1);
    Site::new(journal, MemoryBudgets::new()).audit.flush().await;
    let lines = lines(&left.0);
    let record = lines.iter().map(|line| &line["final"]["record"]).find(|record| !record.is_null()).expect("closed");
    let attempt = &record["attempts"][0];
    assert_eq!(record["attempts"].as_array().map(Vec::len), Some(1), "{record}");
    assert_eq!((&attempt["upstream"], &attempt["end"]), (&json!("anthropic"), &json!("no_answer")), "{record}");
    assert_eq!((&attempt["answered"], &record["end"]), (&json!("claude-haiku-5-5"), &json!("lost")), "{record}");
    assert_eq!((&attempt["cost_usd"], &attempt["usage"]), (&record["cost_usd"], &record["usage"]));
    assert!(attempt["price_version"].is_string() && money(&record["cost_usd"]) > Money::ZERO, "{record}");
    let seconds = 1_000_000..20_000_000;
    assert!(seconds.contains(&record["took_us"].as_u64().expect("a number")), "{record}");
}

#[tokio::test]
async fn that_a_call_was_refused_is_written_down_as_soon_as_its_client_can_know() {
    let dir = Dir::new("refused-at-once");
    let site = Site::new(Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("a journal"), MemoryBudgets::new());
    // A call with an intent gets its record at the next start at the latest. A refused call has no intent, so its own
    // record must be written at once. Take the least delay of many, since the machine may be busy.
    let mut least = Duration::MAX;
    for refusal in 1..=50 {
        let nothing = Budget::new(Scope::team("search"), Window::Day, Money::ZERO);
        let request = request_of("hello", vec![nothing]);
        let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let _ = answer.into_body().collect().await.expect("whole");
        let answered = SystemClock.elapsed();
        let is_written = || kinds(&lines(&dir.0)).iter().filter(|kind| **kind == "final").count() == refusal;
        // Look once per tick of the runtime's clock.
        while !is_written() {
            assert!(SystemClock.elapsed() < answered + Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        least = least.min(SystemClock.elapsed() - answered);
    }
    assert!(least < Duration::from_millis(10), "{least:?}: as long as records wait for others");
}
