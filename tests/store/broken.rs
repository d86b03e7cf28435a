//! Checks the conformance suite itself: stores that are broken in one way each fail by the rule for it.

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
use tollgate::domain::scope::{Scope, ScopeKind};
use tollgate::domain::window::Calendar;
use tollgate::store::budget::{self, BudgetStore, Memory, Pinned, Reservation, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Reads first, and decides by what it read.
    ReadsThenWrites,
    SettlesAgain,
    AsksAgain,
    /// Settles for at most what was held.
    Caps,
    /// Releases the holds of silent sessions instead of forfeiting them.
    Releases,
    /// Never considers a session dead.
    Believes,
    TakesAll,
    /// Forgets everything at a restart.
    Forgets,
    AsksOneByOne,
    RefusesWithoutReason,
    /// Charges pots that are no longer part of the reservation.
    ChargesAll,
    TellsNobody,
    /// Treats a soft limit as a hard one.
    IsHard,
    /// Restarts a rolling window at midnight.
    RollsAtMidnight,
    /// Treats a model, a provider and a tag as the team of the same name.
    MixesKinds,
    /// Ignores time zones.
    CountsInUtc,
    /// Cannot store the largest numbers.
    IsNarrow,
    /// Reads first whether it knows an id, and decides by what it read.
    RacesWithItself,
    /// Reports a threshold to every settlement that was in progress when it was reached.
    TellsAll,
    /// Has a clock that stands still.
    StandsStill,
    /// Has a clock of whole seconds.
    CountsSeconds,
    /// Gives every session the usual lease.
    OneLease,
    /// Declares a longer memory than it has.
    PromisesMore,
}

use Fault::*;

pub(crate) struct Broken<S> {
    inner: S,
    fault: Fault,
    /// What was granted, and the pots that pay for it.
    known: Mutex<HashMap<Uuid, Vec<Pinned>>>,
    told: Mutex<Vec<budget::Crossing>>,
}

impl<S> Broken<S> {
    pub(crate) fn new(inner: S, fault: Fault) -> Self {
        Broken { inner, fault, known: Mutex::default(), told: Mutex::default() }
    }

    fn session(&self, session: Session, usual: u64) -> Session {
        match self.fault {
            Believes => Session { lease: Duration::from_secs(1 << 40), ..session },
            OneLease => Session { lease: Duration::from_secs(usual), ..session },
            _ => session,
        }
    }

    fn scope(&self, scope: &Scope) -> Scope {
        match (self.fault, scope.kind) {
            (MixesKinds, ScopeKind::Model | ScopeKind::Provider | ScopeKind::Tag) => Scope::team(scope.id.clone()),
            _ => scope.clone(),
        }
    }

    fn budget(&self, budget: &Budget) -> Budget {
        let mut budget = budget.clone();
        budget.pot.scope = self.scope(&budget.pot.scope);
        budget.soft &= self.fault != IsHard;
        budget.pot.window = match (self.fault, budget.pot.window) {
            (RollsAtMidnight, Window::Rolling(_)) | (CountsInUtc, Window::Local(Calendar::Day, _)) => Window::Day,
            (CountsInUtc, Window::Local(Calendar::Week, _)) => Window::Week,
            (CountsInUtc, Window::Local(Calendar::Month, _)) => Window::Month,
            (_, window) => window,
        };
        if self.fault == IsNarrow {
            budget.limit = budget.limit.min(Money::from_nanos(1 << 62));
        }
        budget
    }

    fn limit(&self, limit: &Limit) -> Limit {
        let most = if self.fault == IsNarrow { limit.most.min(u64::MAX / 2) } else { limit.most };
        Limit::new(self.scope(&limit.scope), limit.measure, most)
    }

    fn at(&self, at: At) -> At {
        match (self.fault, at) {
            (StandsStill, At::Store) => At::Fixed(Timestamp::UNIX_EPOCH),
            (CountsSeconds, At::Fixed(time)) => At::Fixed(Timestamp::from_second(time.as_second()).expect("a time")),
            _ => at,
        }
    }

    /// Returns a new id if another task has learned of this id in between: the race.
    async fn raced(&self, id: Uuid) -> Uuid {
        // The others race with nobody, even if another thread comes in between.
        if self.fault != RacesWithItself {
            return id;
        }
        let is_known = || self.known.lock().expect("whole").contains_key(&id);
        let was_known = is_known();
        others_read_too().await;
        if was_known == is_known() { id } else { Uuid::now_v7() }
    }
}

#[async_trait]
impl BudgetStore for Broken<MemoryBudgets> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        let budgets: Vec<_> = ask.budgets.iter().map(|budget| self.budget(budget)).collect();
        let mut ask = Reserve::new(self.raced(ask.id).await, self.session(ask.session, 300), &budgets, ask.wish);
        match self.fault {
            AsksAgain => ask.id = Uuid::now_v7(),
            TakesAll => ask.wish.share = 1,
            ReadsThenWrites => {
                let standings = self.inner.standing(ask.budgets, at).await?;
                others_read_too().await;
                let seen = ask.answer(&standings, Timestamp::UNIX_EPOCH);
                let verdict = self.inner.reserve(&ask, at).await?;
                // Only another task can have come in between.
                if let (budget::Verdict::Allow(_), budget::Verdict::Deny(_)) = (seen, &verdict) {
                    let mut rich = ask.budgets.to_vec();
                    rich.iter_mut().for_each(|budget| budget.limit = Money::MAX);
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
            TellsAll => {
                let seen = self.told.lock().expect("whole").len();
                others_read_too().await;
                let mut news = self.inner.settle(reservation, actual, at).await?;
                let mut told = self.told.lock().expect("whole");
                let meanwhile = told[seen..].to_vec();
                told.extend(news.iter().cloned());
                news.extend(meanwhile);
                return Ok(news);
            }
            TellsNobody => return self.inner.settle(reservation, actual, at).await.map(|_| Vec::new()),
            _ => {}
        }
        self.inner.settle(reservation, actual, at).await
    }

    fn memory(&self) -> Memory {
        if self.fault == PromisesMore { Memory::of(Duration::from_secs(2 * 86_400)) } else { Memory::default() }
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.inner.heartbeat(self.session(session, 300), at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        let kept: Vec<_> = budgets.iter().map(|budget| self.budget(budget)).collect();
        let mut standings = self.inner.standing(&kept, at).await?;
        for (standing, budget) in standings.iter_mut().zip(budgets) {
            standing.budget = budget.clone();
        }
        if self.fault == Releases {
            // What a store that releases holds would show once nothing is held.
            standings.iter_mut().filter(|one| one.held == Money::ZERO).for_each(|one| one.spent = Money::ZERO);
        }
        Ok(standings)
    }
}

#[async_trait]
impl RateLimitStore for Broken<MemoryLimits> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        let limits: Vec<_> = ask.limits.iter().map(|limit| self.limit(limit)).collect();
        let id = self.raced(ask.id).await;
        let (mut ask, at) = (Acquire::new(id, self.session(ask.session, 8), &limits).tokens(ask.tokens), self.at(at));
        match self.fault {
            AsksAgain => ask.id = Uuid::now_v7(),
            ReadsThenWrites => {
                let standings = self.inner.standing(ask.limits, at).await?;
                others_read_too().await;
                let seen = standings.iter().all(|one| one.left >= ask.amount(one.limit.measure) && one.left > 0);
                let verdict = self.inner.acquire(&ask, at).await?;
                if let (true, rate_limit::Verdict::Deny(_)) = (seen, &verdict) {
                    // Grant what was free when it was read, although it no longer is. Count it in an unrelated scope.
                    let mut rich = ask.limits.to_vec();
                    rich.iter_mut().for_each(|limit| limit.scope = Scope::team("elsewhere"));
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
        match &mut verdict {
            rate_limit::Verdict::Allow(allowed) => {
                self.known.lock().expect("whole").insert(allowed.permit.id, Vec::new());
            }
            rate_limit::Verdict::Deny(denial) if self.fault == RefusesWithoutReason => denial.index = 0,
            rate_limit::Verdict::Deny(_) => {}
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
        self.inner.heartbeat(self.session(session, 8), at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        let kept: Vec<_> = limits.iter().map(|limit| self.limit(limit)).collect();
        let mut standings = self.inner.standing(&kept, self.at(at)).await?;
        for (standing, limit) in standings.iter_mut().zip(limits) {
            standing.limit = limit.clone();
        }
        Ok(standings)
    }
}

/// Yields many times, so that other tasks read before the first one writes, however few tasks run at once.
pub(crate) async fn others_read_too() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Runs the suite in a thread and on a runtime of its own. Returns the message of its panic.
pub(crate) fn said(suite: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) -> String {
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
        (MixesKinds, "pots_are_apart_by_scope_and_by_window"),
        (CountsInUtc, "windows_of_a_zone_follow_its_clocks"),
        (IsNarrow, "the_largest_limit_is_a_limit"),
        (RacesWithItself, "one_id_that_is_asked_for_twice_at_one_moment_is_held_once"),
        (TellsAll, "a_threshold_is_told_to_one_of_all_who_settle_at_one_moment"),
        (OneLease, "every_session_has_a_lease_of_its_own"),
        (PromisesMore, "what_was_settled_is_known_for_as_long_as_is_promised"),
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
        (MixesKinds, "counts_are_apart_by_scope_and_by_measure"),
        (IsNarrow, "the_largest_limits_are_limits"),
        (StandsStill, "the_stores_own_clock_will_do"),
        (CountsSeconds, "a_bucket_fills_within_a_second_too"),
        (OneLease, "every_session_has_a_lease_of_its_own"),
        (RacesWithItself, "one_id_that_is_asked_for_twice_at_one_moment_is_counted_once"),
    ] {
        let said = said(move |runtime| {
            runtime.block_on(conformance::limits(async || Broken::new(MemoryLimits::new(), fault)));
        });
        assert!(said.starts_with(rule), "{fault:?}: {said}");
    }
}

/// The other rules accept a wrapper that does not forward `extend`. These rules are for stores whose holds should grow.
#[test]
fn a_store_whose_holds_do_not_grow_fails_where_that_is_demanded() {
    let said = said(|runtime| {
        runtime.block_on(conformance::budgets_that_grow(async || Broken::new(MemoryBudgets::new(), TellsNobody)));
    });
    assert!(said.starts_with("a_hold_grows_within_its_limits"), "{said}");
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
