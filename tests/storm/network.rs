//! The machine of a budget store, and a network to it that loses, repeats and delays messages.
#![expect(clippy::disallowed_methods, reason = "a network delivers whatever becomes of whoever asked")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tollgate::domain::budget::{Budget, Pot};
use tollgate::domain::clock::Clock;
use tollgate::domain::money::Money;
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use uuid::Uuid;

use crate::seeded::Seeded;
use crate::watched::now;
use crate::weather::Fault;

/// The clock of a machine: the time that passes, plus an offset to the time of day.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock {
    began: tokio::time::Instant,
    set: Arc<AtomicI64>,
}

impl MachineClock {
    pub(crate) fn new() -> Self {
        MachineClock { began: tokio::time::Instant::now(), set: Arc::default() }
    }

    /// Sets the offset in seconds, ahead of the true time or behind it.
    pub(crate) fn jump(&self, seconds: i64) {
        self.set.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let noon: Timestamp = "2026-11-25T12:00:00Z".parse().expect("a time");
        let passed = SignedDuration::try_from(self.began.elapsed()).expect("short");
        noon + passed + SignedDuration::from_secs(self.set.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The machine of the store, with the account that it is checked against.
pub(crate) struct Node {
    store: MemoryBudgets,
    pots: Vec<Budget>,
    pub(crate) granted: HashMap<Uuid, (Money, Vec<Pot>)>,
    /// The amount and the pots of each settled id. The first settlement counts.
    pub(crate) settled: HashMap<Uuid, (Money, Vec<Pot>)>,
    pub(crate) wrong: Vec<String>,
}

impl Node {
    /// A store of these pots.
    pub(crate) fn new(pots: &[Budget], clock: MachineClock) -> Self {
        let mut distinct: Vec<Budget> = Vec::new();
        for budget in pots {
            if distinct.iter().all(|known| known.pot != budget.pot) {
                distinct.push(budget.clone());
            }
        }
        let store = MemoryBudgets::new().clock(clock);
        Node { store, pots: distinct, granted: HashMap::new(), settled: HashMap::new(), wrong: Vec::new() }
    }

    fn reserve(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        // A request that arrives after its settlement: nobody waits for the answer, and nobody would settle the hold.
        if self.settled.contains_key(&ask.id) {
            return Err(Fault::Lost.error());
        }
        let verdict = now(self.store.reserve(ask, At::Store))?;
        if let Verdict::Allow(grant) = &verdict {
            let pots: Vec<_> = grant.reservation.pots.iter().map(|pinned| pinned.pot.clone()).collect();
            let first = self.granted.entry(ask.id).or_insert((grant.reservation.granted, pots));
            if first.0 != grant.reservation.granted {
                self.wrong.push(format!("{} was granted {} and then {}", ask.id, first.0, grant.reservation.granted));
            }
        }
        self.check();
        Ok(verdict)
    }

    fn extend(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        let verdict = now(self.store.extend(ask, At::Store))?;
        if let (Verdict::Allow(grant), Some(first)) = (&verdict, self.granted.get_mut(&ask.id)) {
            first.0 = grant.reservation.granted;
        }
        self.check();
        Ok(verdict)
    }

    fn settle(&mut self, reservation: &Reservation, actual: Money) -> Result<Vec<Crossing>, StoreError> {
        let news = now(self.store.settle(reservation, actual, At::Store))?;
        let pots = reservation.pots.iter().map(|pinned| pinned.pot.clone()).collect();
        match self.settled.get(&reservation.id) {
            Some((before, _)) if *before != actual => {
                self.wrong.push(format!("{} was settled for {before}, and then for {actual}", reservation.id));
            }
            Some(_) => {}
            None => drop(self.settled.insert(reservation.id, (actual, pots))),
        }
        self.check();
        Ok(news)
    }

    pub(crate) fn standings(&self) -> Vec<Standing> {
        now(self.store.standing(&self.pots, At::Store)).expect("memory")
    }

    pub(crate) fn check(&mut self) {
        for Standing { budget, spent, held, .. } in self.standings() {
            if spent.saturating_add(held) > budget.limit {
                self.wrong.push(format!("{:?}: {spent} and {held} of {}", budget.pot, budget.limit));
            }
        }
    }

    /// What must be spent of a pot once nothing is held any more: each settlement once, and the whole grant of each
    /// call that was not settled.
    pub(crate) fn due(&self, pot: &Pot) -> Money {
        let settled = self.settled.values().filter(|(_, pots)| pots.contains(pot)).map(|(actual, _)| *actual);
        let forfeited = self.granted.iter().filter(|(id, _)| !self.settled.contains_key(id));
        let forfeited = forfeited.filter(|(_, (_, pots))| pots.contains(pot)).map(|(_, (granted, _))| *granted);
        settled.chain(forfeited).fold(Money::ZERO, Money::saturating_add)
    }
}

/// The connection of one gateway process to the node.
#[derive(Clone)]
pub(crate) struct Link {
    node: Arc<Mutex<Node>>,
    random: Arc<Mutex<Seeded>>,
    is_dead: Arc<AtomicBool>,
    is_cut: Arc<AtomicBool>,
}

impl Link {
    pub(crate) fn new(node: &Arc<Mutex<Node>>, random: &Arc<Mutex<Seeded>>) -> Self {
        Link { node: node.clone(), random: random.clone(), is_dead: Arc::default(), is_cut: Arc::default() }
    }

    /// Cuts the connection, or restores it.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// The process is dead: its later requests are not sent.
    pub(crate) fn die(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }

    fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self, most: u64) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).below(most)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(match self.pick(20) {
            0 => 1 + self.pick(5_000),
            1..6 => self.pick(50),
            _ => 0,
        })
    }

    /// Sends a request, which arrives once, twice, or not at all, even if the caller has gone. So does its answer.
    async fn send<T: Send + 'static>(
        &self,
        deliver: impl Fn(&mut Node) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.is_dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let (answer, answered) = oneshot::channel();
        if !self.is_cut.load(Ordering::SeqCst) && self.pick(12) > 0 {
            let (link, there, again) = (self.clone(), self.delay(), (self.pick(8) == 0).then(|| self.delay()));
            tokio::spawn(async move {
                tokio::time::sleep(there).await;
                let said = deliver(&mut link.node());
                if let Some(again) = again {
                    tokio::time::sleep(again).await;
                    let _ = deliver(&mut link.node());
                }
                tokio::time::sleep(link.delay()).await;
                if !link.is_cut.load(Ordering::SeqCst) && link.pick(12) > 0 {
                    let _ = answer.send(said);
                }
            });
        }
        let heard = tokio::time::timeout(Duration::from_secs(3), answered).await;
        if self.is_dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        // The caller cannot tell whether the request or the answer was lost.
        heard.ok().and_then(Result::ok).unwrap_or_else(|| Err(Fault::Unheard.error()))
    }
}

#[async_trait]
impl BudgetStore for Link {
    async fn reserve(&self, ask: &Reserve<'_>, _: At) -> Result<Verdict, StoreError> {
        let (id, session, budgets, wish) = (ask.id, ask.session, ask.budgets.to_vec(), ask.wish);
        self.send(move |node| node.reserve(&Reserve::new(id, session, &budgets, wish))).await
    }

    async fn extend(&self, ask: &Reserve<'_>, _: At) -> Result<Verdict, StoreError> {
        let (id, session, budgets, wish) = (ask.id, ask.session, ask.budgets.to_vec(), ask.wish);
        self.send(move |node| node.extend(&Reserve::new(id, session, &budgets, wish))).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, _: At) -> Result<Vec<Crossing>, StoreError> {
        let reservation = reservation.clone();
        self.send(move |node| node.settle(&reservation, actual)).await
    }

    async fn heartbeat(&self, session: Session, _: At) -> Result<(), StoreError> {
        self.send(move |node| now(node.store.heartbeat(session, At::Store))).await
    }

    async fn standing(&self, budgets: &[Budget], _: At) -> Result<Vec<Standing>, StoreError> {
        let budgets = budgets.to_vec();
        self.send(move |node| now(node.store.standing(&budgets, At::Store))).await
    }
}
