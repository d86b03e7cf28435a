//! Simulates several gateways on one budget store, in one thread, in the order that a seed makes. The network loses,
//! repeats and delays messages. There are crashes, partitions and clocks that jump. Each call is checked against its line
//! of the provider's bill.
#![expect(clippy::disallowed_methods, reason = "clients and faults are tasks of nobody's")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::call::LiveCalls;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::Quality;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::budget::Standing;
use tollgate::store::memory::{MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tower::ServiceExt;

use crate::calls::{Ask, Crowd, Leaves, drain};
use crate::in_process::revoked;
use crate::network::{Link, MachineClock, Node};
use crate::oracle::{price, reckon_one};
use crate::seeded::Seeded;
use crate::site::{Site, served};
use crate::thinking::{THINK, thinking};

/// How long a gateway may be silent before its holds are forfeited.
const LEASE: Duration = Duration::from_secs(300);
const CALLS: u64 = 40;

/// A gateway process and the clients that are connected to it. A crash replaces it with a new process.
struct Gateway {
    site: Site,
    link: Link,
    live: LiveCalls,
    clock: MachineClock,
    clients: JoinSet<()>,
}

/// The whole simulated world.
struct World {
    random: Seeded,
    keys: MemoryKeys,
    crowd: Crowd,
    provider: Simulated,
    node: Arc<Mutex<Node>>,
    clock: MachineClock,
    network: Arc<Mutex<Seeded>>,
    gateways: Vec<Gateway>,
    /// What the processes that died had seen.
    dead: Vec<Site>,
}

/// What became of a world.
#[derive(Debug, Default)]
struct Sum {
    crashes: usize,
    /// Holds that nobody settled.
    forfeits: usize,
    /// Calls that were charged by the time that they took.
    timed: usize,
    refused: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let keys = MemoryKeys::new();
        // In half of the worlds, few calls use up their budgets. In the others, a call gets as many tokens as it wants.
        let limits = if random.one_in(2) { ["0.004", "0.006", "0.010"] } else { ["0.4", "0.5", "0.6"] };
        let crowd = Crowd::new(&keys, limits);
        let clock = MachineClock::new();
        let node = Arc::new(Mutex::new(Node::new(&crowd.pots, clock.clone())));
        let network = Arc::new(Mutex::new(Seeded::new(random.next())));
        let provider = Simulated::new();
        let (gateways, dead) = (Vec::new(), Vec::new());
        let mut world = World { random, keys, crowd, provider, node, clock, network, gateways, dead };
        for _ in 0..2 + world.random.below(3) {
            let gateway = world.start();
            world.gateways.push(gateway);
        }
        world
    }

    /// Starts a new gateway process.
    fn start(&self) -> Gateway {
        let link = Link::new(&self.node, &self.network);
        let over = OverBudget::Clamp { floor: 16, share: 4 };
        let budgets = BudgetLayer::new(link.clone()).over_budget(over);
        let limits = RateLimitLayer::new(MemoryLimits::new());
        let (live, clock) = (LiveCalls::new(), MachineClock::new());
        let build = served(&thinking(&self.provider), |layer| layer.live_calls(live.clone()).clock(clock.clone()));
        let site = Site::toward(self.provider.clone(), self.keys.clone(), limits, budgets, build);
        Gateway { site, link, live, clock, clients: JoinSet::new() }
    }

    async fn run(&mut self) {
        for number in 0..CALLS {
            tokio::time::sleep(Duration::from_millis(self.random.below(20_000))).await;
            let which = usize::try_from(self.random.below(self.gateways.len() as u64)).expect("small");
            let mut ask = Ask::random(number, &self.crowd.secrets, &mut self.random);
            if matches!(ask.leaves, Leaves::After(_)) {
                ask.leaves = Leaves::After(Duration::from_millis(self.random.below(4_000)));
            }
            // A fifth of all calls: every second one is to a model of known speed.
            if ask.model.contains("swift") && self.random.below(5) < 2 {
                (ask.max_tokens, ask.script) = (3_500 + self.random.below(1_000), THINK.to_owned());
            }
            let gateway = &mut self.gateways[which];
            gateway.clients.spawn(ask.run(gateway.site.gateway.clone()));
            self.chance(which).await;
        }
    }

    /// Lets something go wrong, by chance.
    async fn chance(&mut self, which: usize) {
        match self.random.below(24) {
            // The process dies with everything that it knew, and another takes its place.
            0 => {
                let next = self.start();
                let mut gone = std::mem::replace(&mut self.gateways[which], next);
                tokio::time::sleep(Duration::from_millis(self.random.below(250))).await;
                gone.link.die();
                gone.clients.abort_all();
                while let Some(client) = gone.clients.join_next().await {
                    assert!(client.is_ok() || client.is_err_and(|error| error.is_cancelled()), "no client panics");
                }
                self.dead.push(gone.site);
            }
            // A partition, perhaps for longer than the lease.
            1 | 2 => {
                let (link, long) = (self.gateways[which].link.clone(), self.random.below(700));
                link.cut(true);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(long)).await;
                    link.cut(false);
                });
            }
            3 => {
                let seconds = i64::try_from(self.random.below(7_200)).expect("small") - 3_600;
                if self.random.one_in(2) { &self.clock } else { &self.gateways[which].clock }.jump(seconds);
            }
            // The operator cuts all calls of this gateway.
            5 => drop(self.gateways[which].live.cut(&revoked(), |_| true)),
            4 => tokio::time::sleep(Duration::from_secs(self.random.below(400))).await,
            _ => {}
        }
    }

    /// Heals everything, lets time pass, and checks the result.
    async fn reckon(mut self, seed: u64) -> Sum {
        for gateway in &mut self.gateways {
            gateway.link.cut(false);
            while let Some(client) = gateway.clients.join_next().await {
                client.expect("no client panics");
            }
            let settled = tokio::time::timeout(Duration::from_secs(3_600), gateway.site.settled()).await;
            settled.unwrap_or_else(|_| panic!("seed {seed}: settlements come to no end"));
        }
        // A store whose clock was set back stands still until the clock has caught up.
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
        let lines = self.provider.bill().lines();
        let mut bill: HashMap<_, _> = lines.iter().map(|line| (&*line.model, line)).collect();
        assert_eq!(bill.len(), lines.len(), "seed {seed}: each call has a model of its own, and is sent once");
        let alive = self.gateways.iter().map(|gateway| (&gateway.site, true));
        let sites = alive.chain(self.dead.iter().map(|site| (site, false)));
        let (mut all_charged, mut sum) = (Money::ZERO, Sum { crashes: self.dead.len(), ..Sum::default() });
        for (site, is_alive) in sites {
            for outcome in site.closed.lock().iter() {
                let line = outcome.model.as_deref().and_then(|model| bill.remove(model));
                let charged = outcome.charged.unwrap_or(Money::ZERO);
                reckon_one(outcome, charged, line);
                all_charged = all_charged.saturating_add(charged);
                let settled = node.settled.get(&outcome.id).map(|(actual, _)| *actual);
                match settled {
                    // What a process had not told when it died is forfeited: all that was granted is spent.
                    None if !is_alive => {
                        let forfeited = node.granted.get(&outcome.id).map_or(Money::ZERO, |(granted, _)| *granted);
                        assert!(forfeited >= charged, "seed {seed}: {forfeited} is spent: {outcome:?}");
                    }
                    _ => assert_eq!(settled.unwrap_or(Money::ZERO), charged, "seed {seed}: {outcome:?}"),
                }
                sum.timed += usize::from(outcome.quality() == Some(Quality::Estimated));
                sum.refused += usize::from(outcome.rejection.is_some());
            }
        }
        assert!(bill.is_empty(), "seed {seed}: the provider worked for nobody: {bill:?}");
        if self.dead.is_empty() {
            assert_eq!(
                spent_by_teams, all_charged,
                "seed {seed}: nobody died, so that every call is settled for what it cost"
            );
        }
        sum.forfeits = node.granted.keys().filter(|id| !node.settled.contains_key(id)).count();
        sum
    }
}

/// Returns as many seeds as `TOLLGATE_SIMULATIONS` says, or only the one in `TOLLGATE_SEED`.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match number("TOLLGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOLLGATE_SIMULATIONS").unwrap_or(500),
    }
}

/// Reports the seed when it is dropped during a panic.
struct Named<S: Fn(u64)>(u64, S);

impl<S: Fn(u64)> Drop for Named<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1(self.0);
        }
    }
}

#[test]
fn a_seed_that_fails_is_named_though_it_is_a_task_that_panics() {
    let told = Mutex::new(Vec::new());
    for panics in [false, true] {
        let ran = std::panic::catch_unwind(|| {
            let _named = Named(7, |seed| told.lock().unwrap_or_else(PoisonError::into_inner).push(seed));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let mut clients = JoinSet::new();
                clients.spawn(async move { assert!(!panics, "a client that panics") });
                clients.join_next().await.expect("one").expect("no client panics");
            });
        });
        assert_eq!(ran.is_err(), panics);
        assert_eq!(*told.lock().unwrap_or_else(PoisonError::into_inner), vec![7; usize::from(panics)]);
    }
}

#[test]
fn no_budget_is_overspent_and_no_call_is_paid_twice_or_not_at_all_whatever_fails_between_several_gateways() {
    let (mut sum, mut runs) = (Sum::default(), HashSet::new());
    for seed in seeds() {
        let _named = Named(seed, |seed| eprintln!("it was seed {seed}: TOLLGATE_SEED={seed} is this one alone"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let one = runtime.expect("a runtime").block_on(async {
            let mut world = World::new(seed);
            world.run().await;
            world.reckon(seed).await
        });
        runs.insert((one.crashes, one.forfeits));
        sum.crashes += one.crashes;
        sum.forfeits += one.forfeits;
        sum.timed += one.timed;
        sum.refused += one.refused;
    }
    eprintln!("{} seeds: {sum:?}", seeds().count());
    let is_enough = sum.crashes > 100 && sum.forfeits > 10 && sum.timed > 100 && sum.refused > 100 && runs.len() > 5;
    assert!(seeds().count() < 100 || is_enough, "too little went wrong: {sum:?}");
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
    // The provider goes on for ten minutes, during which the store hears nothing.
    gateway.link.cut(true);
    let client = tokio::spawn(drain(answer.into_body(), u64::MAX));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_eq!(stands(), (granted, Money::ZERO), "nobody knows what becomes of it, so all of it counts");
    client.await.expect("no panic");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stands(), (granted, Money::ZERO), "it has ended, and nobody was told");
    gateway.link.cut(false);
    gateway.site.settled().await;
    let bill = world.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    assert_eq!(stands(), (bill, Money::ZERO));
    assert!(bill < granted, "{bill} of {granted}");
}
