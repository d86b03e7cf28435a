//! Stores whose faults show only with many tasks or with two processes. The suite uses both.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tollgate::domain::budget::Budget;
use tollgate::domain::limit::Limit;
use tollgate::domain::money::Money;
use tollgate::store::budget::{self, BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

use crate::broken::{others_read_too, said};

/// A handle that decides by what its own process knows, and also writes to the shared state.
struct Alone<S> {
    own: S,
    all: S,
    /// Gives both the same order of requests. Otherwise they would decide differently.
    turn: tokio::sync::Mutex<()>,
}

impl<S: Clone + Default> Alone<S> {
    fn one() -> Self {
        Alone { own: S::default(), all: S::default(), turn: Default::default() }
    }

    fn two() -> (Self, Self) {
        let all = S::default();
        let handle = || Alone { own: S::default(), all: all.clone(), turn: Default::default() };
        (handle(), handle())
    }
}

#[async_trait]
impl BudgetStore for Alone<MemoryBudgets> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let _turn = self.turn.lock().await;
        self.all.reserve(ask, at).await?;
        self.own.reserve(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        let _turn = self.turn.lock().await;
        self.all.settle(reservation, actual, at).await?;
        self.own.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.all.heartbeat(session, at).await?;
        self.own.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        let _turn = self.turn.lock().await;
        // Advances the clock of its own state.
        self.own.standing(budgets, at).await?;
        self.all.standing(budgets, at).await
    }
}

#[async_trait]
impl RateLimitStore for Alone<MemoryLimits> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        let _turn = self.turn.lock().await;
        self.all.acquire(ask, at).await?;
        self.own.acquire(ask, at).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.all.settle(permit, used, at).await?;
        self.own.settle(permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.all.heartbeat(session, at).await?;
        self.own.heartbeat(session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        let _turn = self.turn.lock().await;
        self.own.standing(limits, at).await?;
        self.all.standing(limits, at).await
    }
}

/// A handle that reads and writes under a lock of its own. It overwrites what other handles wrote in between.
#[derive(Default, Clone)]
struct LocksAlone {
    all: MemoryBudgets,
    /// The number of holds, and the last one.
    last: Arc<Mutex<(u64, Option<Reservation>)>>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

#[async_trait]
impl BudgetStore for LocksAlone {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let _locked = self.lock.lock().await;
        let last = || self.last.lock().expect("whole").clone();
        let (seen, _) = last();
        others_read_too().await;
        if let (count, Some(between)) = last()
            && count != seen
        {
            self.all.settle(&between, Money::ZERO, at).await?;
        }
        let verdict = self.all.reserve(ask, at).await?;
        if let Verdict::Allow(grant) = &verdict {
            let mut last = self.last.lock().expect("whole");
            *last = (last.0 + 1, Some(grant.reservation.clone()));
        }
        Ok(verdict)
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.all.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.all.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.all.standing(budgets, at).await
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Race {
    /// Begins a new day after a check. Holds that others made of that day in between are lost.
    ToBeginADay,
    /// Charges the holds of silent sessions after a check. Some were settled in between.
    ToForfeit,
}

struct Racy {
    inner: MemoryBudgets,
    race: Race,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    day: Option<i64>,
    alive_until: HashMap<Uuid, i64>,
    /// The session, the day and the reservation of each hold.
    holds: Vec<(Uuid, i64, Reservation)>,
    settled: HashSet<Uuid>,
}

impl Racy {
    fn new(race: Race) -> Self {
        Racy { inner: MemoryBudgets::new(), race, seen: Mutex::default() }
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().expect("whole"))
    }

    async fn begin_day(&self, day: i64, at: At) -> Result<(), StoreError> {
        // The first day of a new pot begins without a race.
        if self.seen(|seen| *seen.day.get_or_insert(day)) >= day {
            return Ok(());
        }
        others_read_too().await;
        let lost: Vec<_> = self.seen(|seen| {
            seen.day = Some(day);
            seen.holds.extract_if(.., |(_, of, _)| *of == day).collect()
        });
        for (_, _, reservation) in lost {
            self.inner.settle(&reservation, Money::ZERO, at).await?;
        }
        Ok(())
    }

    async fn forfeit(&self, now: i64, at: At) -> Result<(), StoreError> {
        let silent: Vec<_> = self.seen(|seen| {
            let Seen { alive_until, holds, settled, .. } = seen;
            holds.extract_if(.., |(session, _, one)| alive_until[session] < now && !settled.contains(&one.id)).collect()
        });
        if silent.is_empty() {
            return Ok(());
        }
        others_read_too().await;
        for (_, _, reservation) in silent {
            if self.seen(|seen| seen.settled.contains(&reservation.id)) {
                let again = Reservation { id: Uuid::now_v7(), ..reservation.clone() };
                self.inner.settle(&again, reservation.granted, at).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BudgetStore for Racy {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let At::Fixed(time) = at else { return self.inner.reserve(ask, at).await };
        let (now, day) = (time.as_second(), time.as_second().div_euclid(86_400));
        match self.race {
            Race::ToBeginADay => self.begin_day(day, at).await?,
            Race::ToForfeit => self.forfeit(now, at).await?,
        }
        self.heartbeat(ask.session, at).await?;
        let verdict = self.inner.reserve(ask, at).await?;
        if let Verdict::Allow(budget::Grant { reservation, .. }) = &verdict {
            self.seen(|seen| seen.holds.push((ask.session.id, day, reservation.clone())));
        }
        Ok(verdict)
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.seen(|seen| seen.settled.insert(reservation.id));
        self.inner.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        if let At::Fixed(time) = at {
            let until = time.as_second().saturating_add(session.lease.as_secs().cast_signed());
            self.seen(|seen| {
                let known = seen.alive_until.entry(session.id).or_insert(until);
                *known = until.max(*known);
            });
        }
        self.inner.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.inner.standing(budgets, at).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_decides_by_itself_passes_as_long_as_it_is_alone() {
    conformance::budgets(async || Alone::<MemoryBudgets>::one()).await;
    conformance::limits(async || Alone::<MemoryLimits>::one()).await;
    conformance::budgets(async || LocksAlone::default()).await;
}

#[test]
fn a_store_that_decides_by_itself_is_found_out_by_two_handles() {
    let of_budgets = said(|runtime| {
        runtime.block_on(conformance::budgets_shared(async || Alone::<MemoryBudgets>::two()));
    });
    assert!(of_budgets.starts_with("what_one_handle_holds_is_held_for_the_other"), "{of_budgets}");
    let of_limits = said(|runtime| {
        runtime.block_on(conformance::limits_shared(async || Alone::<MemoryLimits>::two()));
    });
    assert!(of_limits.starts_with("what_one_handle_counts_is_counted_for_the_other"), "{of_limits}");
}

#[test]
fn a_store_that_locks_by_itself_is_found_out_by_many_at_two_handles() {
    let said = said(|runtime| {
        let two = async || {
            let here = LocksAlone::default();
            (here.clone(), LocksAlone { lock: Arc::default(), ..here })
        };
        runtime.block_on(conformance::budgets_shared(two));
    });
    assert!(said.starts_with("spent_and_held_never_exceed_the_limit_over_two_handles"), "{said}");
}

#[test]
fn a_store_that_races_where_a_day_or_a_lease_ends_fails_by_the_rule_that_it_breaks() {
    for (race, rule) in [
        (Race::ToBeginADay, "a_window_that_begins_under_two_thousand_tasks_loses_no_hold"),
        (Race::ToForfeit, "what_falls_silent_under_two_thousand_tasks_is_charged_once"),
    ] {
        let said = said(move |runtime| {
            runtime.block_on(conformance::budgets(async || Racy::new(race)));
        });
        assert!(said.starts_with(rule), "{race:?}: {said}");
    }
}
