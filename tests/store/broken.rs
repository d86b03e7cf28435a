//! The suite finds what it is for: stores that are broken in one way each fail by the rule that says so.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::Limit;
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{self, BudgetStore, Pinned, Reservation, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Looks first, and decides by what it saw.
    ReadsThenWrites,
    SettlesAgain,
    AsksAgain,
    /// Settles for no more than was taken.
    Caps,
    /// Gives back, in place of what silent sessions hold being forfeited.
    Releases,
    /// Never takes a session for dead.
    Believes,
    TakesAll,
    /// Knows nothing of before a restart.
    Forgets,
    AsksOneByOne,
    RefusesWithoutReason,
    /// Charges pots that have nothing to pay.
    ChargesAll,
    TellsNobody,
    /// Takes a soft limit for a hard one.
    IsHard,
    /// Begins a rolling window anew at midnight.
    RollsAtMidnight,
}

use Fault::*;

struct Broken<S> {
    inner: S,
    fault: Fault,
    /// What was granted, and to be paid from which pots.
    known: Mutex<HashMap<Uuid, Vec<Pinned>>>,
}

impl<S> Broken<S> {
    fn new(inner: S, fault: Fault) -> Self {
        Broken { inner, fault, known: Mutex::default() }
    }

    fn session(&self, session: Session) -> Session {
        match self.fault {
            Believes => Session { lease: Duration::from_secs(1 << 40), ..session },
            _ => session,
        }
    }
}

#[async_trait]
impl BudgetStore for Broken<MemoryBudgets> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        let mut budgets = ask.budgets.to_vec();
        for budget in &mut budgets {
            budget.soft &= self.fault != IsHard;
            if let (RollsAtMidnight, Window::Rolling(_)) = (self.fault, budget.pot.window) {
                budget.pot.window = Window::Day;
            }
        }
        let mut ask = Reserve::new(ask.id, self.session(ask.session), &budgets, ask.wish);
        match self.fault {
            AsksAgain => ask.id = Uuid::now_v7(),
            TakesAll => ask.wish.share = 1,
            ReadsThenWrites => {
                let standings = self.inner.standing(ask.budgets, at).await?;
                others_read_too().await;
                let seen = ask.answer(&standings, Timestamp::UNIX_EPOCH);
                let verdict = self.inner.reserve(&ask, at).await?;
                // Only another task can have come between.
                if let (budget::Verdict::Allow(_), budget::Verdict::Deny(_)) = (seen, &verdict) {
                    let rich: Vec<_> = ask.budgets.iter().cloned().map(|b| Budget { limit: Money::MAX, ..b }).collect();
                    let wish = Wish { share: 1, ..ask.wish };
                    return self.inner.reserve(&Reserve::new(ask.id, ask.session, &rich, wish), at).await;
                }
                return Ok(verdict);
            }
            AsksOneByOne => {
                for one in ask.budgets {
                    let alone = Reserve::new(Uuid::now_v7(), ask.session, std::slice::from_ref(one), ask.wish);
                    let verdict = self.inner.reserve(&alone, at).await?;
                    if let budget::Verdict::Deny(_) = verdict {
                        return Ok(verdict);
                    }
                }
            }
            _ => {}
        }
        let mut verdict = self.inner.reserve(&ask, at).await?;
        match &mut verdict {
            budget::Verdict::Allow(grant) => {
                self.known.lock().expect("whole").insert(grant.reservation.id, grant.reservation.pots.clone());
            }
            budget::Verdict::Deny(denial) if self.fault == RefusesWithoutReason => denial.is_held = false,
            budget::Verdict::Deny(_) => {}
        }
        Ok(verdict)
    }

    async fn settle(
        &self,
        reservation: &Reservation,
        actual: Money,
        at: At,
    ) -> Result<Vec<budget::Crossing>, StoreError> {
        let is_known = self.known.lock().expect("whole").contains_key(&reservation.id);
        match self.fault {
            SettlesAgain => {
                let again = Reservation { id: Uuid::now_v7(), ..reservation.clone() };
                self.inner.settle(&again, actual, at).await?;
            }
            Caps => return self.inner.settle(reservation, actual.min(reservation.granted), at).await,
            Forgets if !is_known => return Ok(Vec::new()),
            ChargesAll => {
                let pots = self.known.lock().expect("whole").get(&reservation.id).cloned();
                let all = Reservation { pots: pots.unwrap_or(reservation.pots.clone()), ..reservation.clone() };
                return self.inner.settle(&all, actual, at).await;
            }
            TellsNobody => return self.inner.settle(reservation, actual, at).await.map(|_| Vec::new()),
            _ => {}
        }
        self.inner.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.inner.heartbeat(self.session(session), at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        let mut standings = self.inner.standing(budgets, at).await?;
        if self.fault == Releases {
            // What a store that releases would show once nothing is held.
            standings.iter_mut().filter(|one| one.held == Money::ZERO).for_each(|one| one.spent = Money::ZERO);
        }
        Ok(standings)
    }
}

#[async_trait]
impl RateLimitStore for Broken<MemoryLimits> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        let mut ask = Acquire::new(ask.id, self.session(ask.session), ask.limits).tokens(ask.tokens);
        match self.fault {
            AsksAgain => ask.id = Uuid::now_v7(),
            ReadsThenWrites => {
                let standings = self.inner.standing(ask.limits, at).await?;
                others_read_too().await;
                let seen = standings.iter().all(|one| one.left >= ask.amount(one.limit.measure) && one.left > 0);
                let verdict = self.inner.acquire(&ask, at).await?;
                if let (true, rate_limit::Verdict::Deny(_)) = (seen, &verdict) {
                    // What was seen to be free is taken, though it no longer is: it counts nowhere that anybody looks.
                    let elsewhere = |limit: &Limit| Limit { scope: Scope::team("elsewhere"), ..limit.clone() };
                    let rich: Vec<_> = ask.limits.iter().map(elsewhere).collect();
                    let forced = Acquire::new(ask.id, ask.session, &rich).tokens(ask.tokens);
                    return self.inner.acquire(&forced, at).await;
                }
                return Ok(verdict);
            }
            AsksOneByOne => {
                for one in ask.limits {
                    let alone = Acquire::new(Uuid::now_v7(), ask.session, std::slice::from_ref(one));
                    self.inner.acquire(&alone.tokens(ask.tokens), at).await?;
                }
            }
            _ => {}
        }
        let mut verdict = self.inner.acquire(&ask, at).await?;
        if let (rate_limit::Verdict::Deny(denial), RefusesWithoutReason) = (&mut verdict, self.fault) {
            denial.index = 0;
        }
        Ok(verdict)
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        let used = match (self.fault, used) {
            (Caps, Used::Tokens(used)) => {
                Used::Tokens(permit.taken.iter().map(|one| one.amount).max().unwrap_or(0).min(used))
            }
            (Releases, _) => Used::Nothing,
            (Forgets, _) => return Ok(()),
            (_, used) => used,
        };
        self.inner.settle(permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.inner.heartbeat(self.session(session), at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        self.inner.standing(limits, at).await
    }
}

/// However few tasks there are at a time, some of them have read before the first writes.
async fn others_read_too() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// What the suite says of it, in a thread and on a runtime of its own.
fn said(suite: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) -> String {
    let broken = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        suite(&runtime);
    });
    let panic: Box<dyn Any + Send> = broken.join().expect_err("the suite found nothing");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_broken_budget_store_fails_by_the_rule_that_it_breaks() {
    for (fault, rule) in [
        (ReadsThenWrites, "spent_and_held_never_exceed_the_limit_under_two_thousand_tasks"),
        (SettlesAgain, "spent_is_told_from_held"),
        (AsksAgain, "spent_is_told_from_held"),
        (Caps, "a_settlement_may_go_beyond_the_limit"),
        (Releases, "spent_is_told_from_held"),
        (Believes, "a_hold_of_a_silent_session_is_forfeited_not_released"),
        (TakesAll, "a_grant_takes_at_most_its_share"),
        (Forgets, "a_hold_that_was_lost_is_charged_when_it_is_settled"),
        (AsksOneByOne, "spent_is_told_from_held"),
        (RefusesWithoutReason, "spent_is_told_from_held"),
        (ChargesAll, "a_pot_that_is_left_out_pays_nothing"),
        (TellsNobody, "a_threshold_is_told_once_a_window"),
        (IsHard, "a_soft_pot_refuses_nothing_and_is_counted"),
        (RollsAtMidnight, "a_rolling_window_forgets_slice_by_slice"),
    ] {
        let said = said(move |runtime| {
            runtime.block_on(conformance::budgets(async || Broken::new(MemoryBudgets::new(), fault)));
        });
        assert!(said.starts_with(rule), "{fault:?}: {said}");
    }
}

#[test]
fn a_broken_limit_store_fails_by_the_rule_that_it_breaks() {
    for (fault, rule) in [
        (ReadsThenWrites, "no_more_than_the_limit_goes_through_under_two_thousand_tasks"),
        (AsksAgain, "as_many_as_the_limit_go_at_once_and_come_back_evenly"),
        (Caps, "what_was_used_beyond_the_estimate_is_owed"),
        (Releases, "a_refund_gives_back_no_more_than_has_not_drained"),
        (Believes, "slots_of_a_silent_session_are_free"),
        (Forgets, "a_refund_gives_back_no_more_than_has_not_drained"),
        (AsksOneByOne, "as_many_as_the_limit_go_at_once_and_come_back_evenly"),
        (RefusesWithoutReason, "a_refused_ask_counts_nowhere"),
    ] {
        let said = said(move |runtime| {
            runtime.block_on(conformance::limits(async || Broken::new(MemoryLimits::new(), fault)));
        });
        assert!(said.starts_with(rule), "{fault:?}: {said}");
    }
}

#[test]
fn a_history_that_differs_is_told_by_its_seed_and_step() {
    let said = said(|runtime| {
        let make = async || Broken::new(MemoryBudgets::new(), Caps);
        runtime.block_on(conformance::budget_histories(make, 7..8, 10_000));
    });
    assert!(said.starts_with("every_history_adds_up: seed 7, step "), "{said}");
    let again = self::said(|runtime| {
        let make = async || Broken::new(MemoryBudgets::new(), Caps);
        runtime.block_on(conformance::budget_histories(make, 7..8, 10_000));
    });
    assert_eq!(said, again, "one seed makes one history");
}
