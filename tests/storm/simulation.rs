//! Several gateways on one budget store, behind a network that loses, repeats and delays, with crashes, partitions and
//! clocks that jump: in one thread, in any order that a seed makes. The provider's bill is the truth.
#![expect(clippy::disallowed_methods, reason = "a network delivers whatever becomes of whoever asked")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::domain::budget::{Budget, Pot};
use tollgate::domain::clock::Clock;
use tollgate::domain::money::Money;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::{At, Session, StoreError};
use tollgate::testing::Simulated;
use tower::ServiceExt;
use uuid::Uuid;

use crate::calls::{Ask, Crowd, Leaves, drain};
use crate::oracle::price;
use crate::seeded::Seeded;
use crate::site::{Site, served};
use crate::watched::now;
use crate::weather::Fault;

/// How long a gateway may be silent.
const LEASE: Duration = Duration::from_secs(300);
const CALLS: u64 = 40;

/// Time as the store has it: what passes, and what its clock was set to besides.
#[derive(Debug, Clone)]
struct StoreClock {
    began: tokio::time::Instant,
    set: Arc<AtomicI64>,
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        let noon: Timestamp = "2026-11-25T12:00:00Z".parse().expect("a time");
        let passed = SignedDuration::try_from(self.began.elapsed()).expect("short");
        noon + passed + SignedDuration::from_secs(self.set.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The machine that the store runs on, and what must be true of it.
struct Node {
    store: MemoryBudgets,
    pots: Vec<Budget>,
    granted: HashMap<Uuid, (Money, Vec<Pot>)>,
    /// For how much, and by which pots: the first word counts.
    settled: HashMap<Uuid, (Money, Vec<Pot>)>,
    wrong: Vec<String>,
}

impl Node {
    fn reserve(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        // A question that comes after its end: nobody waits for the answer, and nobody would ever settle it.
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

    fn standings(&self) -> Vec<Standing> {
        now(self.store.standing(&self.pots, At::Store)).expect("memory")
    }

    fn check(&mut self) {
        for Standing { budget, spent, held, .. } in self.standings() {
            if spent.saturating_add(held) > budget.limit {
                self.wrong.push(format!("{:?}: {spent} and {held} of {}", budget.pot, budget.limit));
            }
        }
    }

    /// What must be spent of a pot once nothing is held any more: every settlement once, and for what nobody settled all
    /// that was granted.
    fn due(&self, pot: &Pot) -> Money {
        let settled = self.settled.values().filter(|(_, pots)| pots.contains(pot)).map(|(actual, _)| *actual);
        let forfeited = self.granted.iter().filter(|(id, _)| !self.settled.contains_key(id));
        let forfeited = forfeited.filter(|(_, (_, pots))| pots.contains(pot)).map(|(_, (granted, _))| *granted);
        settled.chain(forfeited).fold(Money::ZERO, Money::saturating_add)
    }
}

/// One gateway's way to the node. It goes with the process that it belongs to.
#[derive(Clone)]
struct Link {
    node: Arc<Mutex<Node>>,
    random: Arc<Mutex<Seeded>>,
    is_dead: Arc<AtomicBool>,
    is_cut: Arc<AtomicBool>,
}

impl Link {
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

    /// A question on its way, which arrives whatever becomes of whoever asked: once, twice, or not at all; and so does its
    /// answer.
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
        // Lost there or on the way back: nobody can tell.
        heard.ok().and_then(Result::ok).unwrap_or_else(|| Err(Fault::Unheard.error()))
    }
}

#[async_trait]
impl BudgetStore for Link {
    async fn reserve(&self, ask: &Reserve<'_>, _: At) -> Result<Verdict, StoreError> {
        let (id, session, budgets, wish) = (ask.id, ask.session, ask.budgets.to_vec(), ask.wish);
        self.send(move |node| node.reserve(&Reserve::new(id, session, &budgets, wish))).await
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

/// One process after the other under one name, and the clients that are connected to it.
struct Gateway {
    site: Site,
    link: Link,
    clients: JoinSet<()>,
}

/// All of it.
struct World {
    random: Seeded,
    keys: MemoryKeys,
    crowd: Crowd,
    provider: Simulated,
    node: Arc<Mutex<Node>>,
    clock: StoreClock,
    network: Arc<Mutex<Seeded>>,
    gateways: Vec<Gateway>,
    crashes: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let keys = MemoryKeys::new();
        let crowd = Crowd::new(&keys, ["0.004", "0.006", "0.010"]);
        let clock = StoreClock { began: tokio::time::Instant::now(), set: Arc::default() };
        let mut pots: Vec<Budget> = Vec::new();
        for budget in &crowd.pots {
            if pots.iter().all(|known| known.pot != budget.pot) {
                pots.push(budget.clone());
            }
        }
        let node = Arc::new(Mutex::new(Node {
            store: MemoryBudgets::new().clock(clock.clone()),
            pots,
            granted: HashMap::new(),
            settled: HashMap::new(),
            wrong: Vec::new(),
        }));
        let network = Arc::new(Mutex::new(Seeded::new(random.next())));
        let provider = Simulated::new();
        let mut world = World { random, keys, crowd, provider, node, clock, network, gateways: Vec::new(), crashes: 0 };
        for _ in 0..2 + world.random.below(3) {
            let gateway = world.start();
            world.gateways.push(gateway);
        }
        world
    }

    /// A new process.
    fn start(&self) -> Gateway {
        let link = Link {
            node: self.node.clone(),
            random: self.network.clone(),
            is_dead: Arc::default(),
            is_cut: Arc::default(),
        };
        let over = OverBudget::Clamp { floor: 16, share: 4 };
        let budgets = BudgetLayer::new(link.clone()).over_budget(over);
        let limits = RateLimitLayer::new(MemoryLimits::new());
        let build = served(&self.provider, |layer| layer);
        let site = Site::toward(self.provider.clone(), self.keys.clone(), limits, budgets, build);
        Gateway { site, link, clients: JoinSet::new() }
    }

    async fn run(&mut self) {
        for number in 0..CALLS {
            tokio::time::sleep(Duration::from_millis(self.random.below(20_000))).await;
            let which = usize::try_from(self.random.below(self.gateways.len() as u64)).expect("small");
            let mut ask = Ask::random(number, &self.crowd.secrets, &mut self.random);
            if matches!(ask.leaves, Leaves::After(_)) {
                ask.leaves = Leaves::After(Duration::from_millis(self.random.below(4_000)));
            }
            let gateway = &mut self.gateways[which];
            gateway.clients.spawn(ask.run(gateway.site.gateway.clone()));
            self.chance(which).await;
        }
    }

    /// What goes wrong besides.
    async fn chance(&mut self, which: usize) {
        match self.random.below(24) {
            // Its process is gone, with all that it knew; another one takes its place.
            0 => {
                self.crashes += 1;
                let next = self.start();
                let mut gone = std::mem::replace(&mut self.gateways[which], next);
                tokio::time::sleep(Duration::from_millis(self.random.below(250))).await;
                gone.link.is_dead.store(true, Ordering::SeqCst);
                gone.clients.abort_all();
                while gone.clients.join_next().await.is_some() {}
            }
            // For longer than its lease, perhaps.
            1 | 2 => {
                let (is_cut, long) = (self.gateways[which].link.is_cut.clone(), self.random.below(700));
                is_cut.store(true, Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(long)).await;
                    is_cut.store(false, Ordering::SeqCst);
                });
            }
            3 => {
                let seconds = i64::try_from(self.random.below(7_200)).expect("small") - 3_600;
                self.clock.set.store(seconds, Ordering::SeqCst);
            }
            4 => tokio::time::sleep(Duration::from_secs(self.random.below(400))).await,
            _ => {}
        }
    }

    /// Everything is well again, and then time passes.
    async fn reckon(mut self, seed: u64) -> (usize, usize) {
        for gateway in &mut self.gateways {
            gateway.link.is_cut.store(false, Ordering::SeqCst);
            while let Some(client) = gateway.clients.join_next().await {
                client.expect("no client panics");
            }
            let settled = tokio::time::timeout(Duration::from_secs(3_600), gateway.site.settled()).await;
            settled.unwrap_or_else(|_| panic!("seed {seed}: settlements come to no end"));
        }
        // A store's clock that was set back stands still until it has caught up with itself.
        tokio::time::sleep(Duration::from_secs(7_200) + LEASE * 3).await;
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.check();
        assert!(node.wrong.is_empty(), "seed {seed}: {:?}", node.wrong);
        let mut spent_by_teams = Money::ZERO;
        for Standing { budget, spent, held, .. } in node.standings() {
            assert_eq!((spent, held), (node.due(&budget.pot), Money::ZERO), "seed {seed}: {:?}", budget.pot);
            if budget.pot.scope.kind.as_str() == "team" {
                spent_by_teams = spent_by_teams.saturating_add(spent);
            }
        }
        // Every call is paid by one team.
        let bill = self.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
        assert!(spent_by_teams >= bill, "seed {seed}: {spent_by_teams} is spent, and {bill} was billed");
        let mut charged = Money::ZERO;
        for gateway in &self.gateways {
            for outcome in gateway.site.closed.lock().iter() {
                let of_it = outcome.charged.unwrap_or(Money::ZERO);
                charged = charged.saturating_add(of_it);
                let settled = node.settled.get(&outcome.id).map_or(Money::ZERO, |(actual, _)| *actual);
                assert_eq!(settled, of_it, "seed {seed}: {outcome:?}");
            }
        }
        if self.crashes == 0 {
            assert_eq!(
                spent_by_teams, charged,
                "seed {seed}: nobody died, so that every call is settled for what it cost"
            );
        }
        (self.crashes, node.granted.keys().filter(|id| !node.settled.contains_key(id)).count())
    }
}

/// As many as are asked for by `TOLLGATE_SIMULATIONS`, or the one of `TOLLGATE_SEED` alone.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match number("TOLLGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOLLGATE_SIMULATIONS").unwrap_or(500),
    }
}

#[test]
fn no_budget_is_overspent_and_no_call_is_paid_twice_or_not_at_all_whatever_fails_between_several_gateways() {
    let (mut crashes, mut forfeits, mut runs) = (0, 0, HashSet::new());
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (crashed, forfeited) = runtime.expect("a runtime").block_on(async {
            let mut world = World::new(seed);
            world.run().await;
            world.reckon(seed).await
        });
        (crashes, forfeits) = (crashes + crashed, forfeits + forfeited);
        runs.insert((crashed, forfeited));
    }
    eprintln!("{} seeds: {crashes} crashes, {forfeits} forfeits that nobody came to correct", seeds().count());
    assert!(seeds().count() < 100 || (crashes > 100 && forfeits > 10 && runs.len() > 5), "too little went wrong");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_pauses_past_its_lease_is_forfeited_and_when_it_comes_back_corrected_to_the_unit() {
    let world = World::new(1);
    let (gateway, team) = (&world.gateways[0], &world.crowd.pots[2]);
    let stands = || {
        let node = world.node.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = node.standings().into_iter().find(|standing| standing.budget.pot == team.pot).expect("its own");
        (standing.spent, standing.held)
    };
    let ask = Ask {
        model: "claude-storm-00000001".into(),
        key: world.crowd.secrets[0].clone(),
        is_stream: true,
        max_tokens: 50,
        script: "sim:first=1,deltas=30,delay=20000".into(),
        begins: 0,
        leaves: Leaves::Never,
    };
    let answer = gateway.site.gateway.clone().oneshot(ask.request()).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let (spent, granted) = stands();
    assert!(spent == Money::ZERO && granted > Money::ZERO, "{spent} and {granted}");
    // The provider goes on for ten minutes, and for as long the store hears nothing.
    gateway.link.is_cut.store(true, Ordering::SeqCst);
    let client = tokio::spawn(drain(answer.into_body(), u64::MAX));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_eq!(stands(), (granted, Money::ZERO), "nobody knows what becomes of it, so all of it counts");
    client.await.expect("no panic");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stands(), (granted, Money::ZERO), "it has ended, and nobody was told");
    gateway.link.is_cut.store(false, Ordering::SeqCst);
    gateway.site.settled().await;
    let bill = world.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    assert_eq!(stands(), (bill, Money::ZERO));
    assert!(bill < granted, "{bill} of {granted}");
}
