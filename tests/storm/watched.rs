//! A budget store that is checked after each of its steps.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use tollgate::domain::budget::{Budget, Pot};
use tollgate::domain::money::Money;
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use uuid::Uuid;

use crate::weather::{Fault, Weather};

/// A [`MemoryBudgets`] that is checked against a simple ledger of ids.
#[derive(Clone)]
pub(crate) struct Watched {
    store: MemoryBudgets,
    pub(crate) weather: Weather,
    /// Every pot, with its limit.
    pots: Arc<Vec<Budget>>,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// The grants that are not settled.
    live: HashMap<Uuid, (Money, Vec<Pot>)>,
    /// The first settlement of each id.
    settled: HashMap<Uuid, Money>,
    spent: HashMap<Pot, Money>,
    held: HashMap<Pot, Money>,
    /// The grants that the gateway has heard of.
    told: HashMap<Uuid, Money>,
    /// The number of settlement requests.
    pub(crate) settlements: usize,
    wrong: Vec<String>,
    /// The smallest distance of any pot from its limit.
    pub(crate) closest: Option<Money>,
}

impl Watched {
    pub(crate) fn new(store: MemoryBudgets, pots: impl IntoIterator<Item = Budget>, weather: Weather) -> Self {
        let mut distinct: Vec<Budget> = Vec::new();
        for budget in pots {
            if distinct.iter().all(|other| other.pot != budget.pot) {
                distinct.push(budget);
            }
        }
        Watched { store, weather, pots: Arc::new(distinct), ledger: Arc::default() }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing of every pot.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        now(self.store.standing(&self.pots, At::Store)).expect("memory")
    }

    /// Does one step of the store and of the ledger under one lock, and checks the result.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&MemoryBudgets, &mut Ledger) -> T) -> T {
        let mut ledger = self.ledger();
        let answer = step(&self.store, &mut ledger);
        let standings = self.standings();
        ledger.check(&standings);
        answer
    }
}

#[async_trait]
impl BudgetStore for Watched {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.weather.pause().await;
        let fault = self.weather.fault();
        if fault == Some(Fault::Lost) {
            return Err(Fault::Lost.error());
        }
        let verdict = self.step(|store, ledger| {
            let verdict = now(store.reserve(ask, at))?;
            ledger.reserved(ask, &verdict);
            Ok::<_, StoreError>(verdict)
        })?;
        self.weather.pause().await;
        if fault == Some(Fault::Unheard) {
            return Err(Fault::Unheard.error());
        }
        if let Verdict::Allow(grant) = &verdict {
            self.ledger().tell(&grant.reservation);
        }
        Ok(verdict)
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.weather.pause().await;
        let fault = self.weather.fault();
        if fault == Some(Fault::Lost) {
            return Err(Fault::Lost.error());
        }
        let verdict = self.step(|store, ledger| {
            let verdict = now(store.extend(ask, at))?;
            if let Verdict::Allow(grant) = &verdict {
                ledger.grown(&grant.reservation);
            }
            Ok::<_, StoreError>(verdict)
        })?;
        self.weather.pause().await;
        match (fault, &verdict) {
            (Some(fault), _) => return Err(fault.error()),
            (None, Verdict::Allow(grant)) => self.ledger().tell(&grant.reservation),
            (None, Verdict::Deny(_)) => {}
        }
        Ok(verdict)
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.weather.pause().await;
        let fault = self.weather.fault();
        if fault == Some(Fault::Lost) {
            return Err(Fault::Lost.error());
        }
        let news = self.step(|store, ledger| {
            ledger.settled(reservation, actual);
            now(store.settle(reservation, actual, at))
        })?;
        self.weather.pause().await;
        fault.map_or(Ok(news), |fault| Err(fault.error()))
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.store.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.store.standing(budgets, at).await
    }
}

impl Ledger {
    /// Notes that the gateway has heard of this grant.
    pub(crate) fn tell(&mut self, reservation: &Reservation) {
        self.told.insert(reservation.id, reservation.granted);
    }

    pub(crate) fn reserved(&mut self, ask: &Reserve<'_>, verdict: &Verdict) {
        let Verdict::Allow(grant) = verdict else { return };
        let granted = grant.reservation.granted;
        if self.settled.contains_key(&ask.id) {
            self.wrong.push(format!("{} was granted again after it had been settled", ask.id));
        }
        if self.live.contains_key(&ask.id) {
            return;
        }
        let mut pots: Vec<Pot> = ask.budgets.iter().map(|budget| budget.pot.clone()).collect();
        pots.dedup();
        for pot in &pots {
            let held = self.held.entry(pot.clone()).or_default();
            *held = held.saturating_add(granted);
        }
        self.live.insert(ask.id, (granted, pots));
    }

    /// Notes that the hold of an id has grown.
    fn grown(&mut self, reservation: &Reservation) {
        let Some((granted, pots)) = self.live.get_mut(&reservation.id) else {
            self.wrong.push(format!("{} has grown, which nobody holds", reservation.id));
            return;
        };
        let before = std::mem::replace(granted, reservation.granted);
        for pot in pots.iter() {
            let held = self.held.entry(pot.clone()).or_default();
            *held = held.saturating_add(reservation.granted).saturating_sub(before);
        }
    }

    fn settled(&mut self, reservation: &Reservation, actual: Money) {
        let id = reservation.id;
        self.settlements += 1;
        if let Some(before) = self.settled.insert(id, actual) {
            if before != actual {
                self.wrong.push(format!("{id} was settled for {before}, and then for {actual}"));
            }
            return;
        }
        match self.live.remove(&id) {
            Some((granted, pots)) => {
                for pot in pots {
                    let held = self.held.entry(pot.clone()).or_default();
                    *held = held.saturating_sub(granted);
                    let spent = self.spent.entry(pot).or_default();
                    *spent = spent.saturating_add(actual);
                }
            }
            None if reservation.pots.is_empty() && actual == Money::ZERO => {}
            None => self.wrong.push(format!("{id} was settled for {actual}, and nothing had been granted")),
        }
    }

    fn check(&mut self, standings: &[Standing]) {
        for Standing { budget, spent, held, .. } in standings {
            let must = |sums: &HashMap<Pot, Money>| sums.get(&budget.pot).copied().unwrap_or_default();
            let (must_spent, must_held) = (must(&self.spent), must(&self.held));
            if (*spent, *held) != (must_spent, must_held) {
                let what = format!(
                    "{:?}: {spent} spent and {held} held where {must_spent} and {must_held} must be",
                    budget.pot
                );
                self.wrong.push(what);
            }
            let taken = spent.saturating_add(*held);
            if taken > budget.limit {
                self.wrong.push(format!("{:?}: {taken} taken of {}", budget.pot, budget.limit));
            }
            let left = budget.limit.saturating_sub(taken);
            self.closest = Some(self.closest.map_or(left, |closest| closest.min(left)));
        }
    }

    /// The grant for a call that the gateway has heard of.
    pub(crate) fn told(&self, id: &Uuid) -> Option<Money> {
        self.told.get(id).copied()
    }

    /// The amount that a call was settled for.
    pub(crate) fn settled_for(&self, id: &Uuid) -> Option<Money> {
        self.settled.get(id).copied()
    }

    pub(crate) fn spent(&self, pot: &Pot) -> Money {
        self.spent.get(pot).copied().unwrap_or_default()
    }

    /// Panics unless every step was right, and nothing is held any more.
    pub(crate) fn assert_right(&self) {
        let first: Vec<_> = self.wrong.iter().take(5).collect();
        assert!(first.is_empty(), "{} steps were wrong: {first:#?}", self.wrong.len());
        assert!(self.live.is_empty(), "{} grants were never settled", self.live.len());
        assert!(self.held.values().all(|held| *held == Money::ZERO), "{:?} is held", self.held);
    }
}

/// Returns the output of a store in memory, which is ready at once.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a store in memory waited for something"),
    }
}
