//! Measures requests to the stores in memory, including their boxed futures, and the lookup of a key.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Bench, Per, at_once};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::admission::{AdmissionStore, Admit, Admitted, Verdict};
use tollgate::store::budget::{self, BudgetStore, Reserve};
use tollgate::store::cached::CachedKeys;
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits, MemoryStore};
use tollgate::store::rate_limit::{self, Acquire, RateLimitStore, Used};
use tollgate::store::{At, Session};
use uuid::Uuid;

const KEYS: usize = 1_000;

pub(crate) fn run(bench: &Bench) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    bench.group("a call's questions");
    bench.case("an id, which every case below makes", Per::CALL, Uuid::now_v7);
    budgets(bench);
    limits(bench);
    admission(bench);
    keys(bench);
}

fn budgets(bench: &Bench) {
    let store: Arc<dyn BudgetStore> = Arc::new(MemoryBudgets::new());
    let session = Session::new(Duration::from_secs(300));
    let scopes = [Scope::key(Uuid::now_v7().to_string()), Scope::user("ada@example.com")];
    let pots: Vec<_> = scopes
        .iter()
        .flat_map(|scope| [Window::Day, Window::Month].map(|window| Budget::new(scope.clone(), window, Money::MAX)))
        .collect();
    let wish = Wish { min: Money::from_nanos(1), want: Money::from_nanos(1_000), share: 4 };
    bench.case("reserve + settle over four pots", Per::CALL, || {
        let ask = Reserve::new(Uuid::now_v7(), session, &pots, wish);
        let Ok(budget::Verdict::Allow(grant)) = at_once(store.reserve(&ask, At::Store)) else {
            panic!("there is enough");
        };
        at_once(store.settle(&grant.reservation, Money::from_nanos(700), At::Store)).expect("memory");
    });
    bench.case("standing of four pots", Per::CALL, || at_once(store.standing(&pots, At::Store)));
}

fn limits(bench: &Bench) {
    let store: Arc<dyn RateLimitStore> = Arc::new(MemoryLimits::new());
    let session = Session::new(Duration::from_secs(8));
    let key = Scope::key(Uuid::now_v7().to_string());
    let limits = [
        Limit::new(key.clone(), Measure::Requests, 60_000_000_000),
        Limit::new(key.clone(), Measure::Tokens, 60_000_000_000_000),
        Limit::new(key, Measure::Parallel, 100),
    ];
    bench.case("acquire + settle over three limits", Per::CALL, || {
        let ask = Acquire::new(Uuid::now_v7(), session, &limits).tokens(1_000);
        let Ok(rate_limit::Verdict::Allow(allowed)) = at_once(store.acquire(&ask, At::Store)) else {
            panic!("there is room");
        };
        at_once(store.settle(&allowed.permit, Used::Tokens(700), At::Store)).expect("memory");
    });
}

/// Six claims in one request: two limits of a key, and two budgets each of the key and its team.
fn admission(bench: &Bench) {
    let store: Arc<dyn AdmissionStore> = Arc::new(MemoryStore::new());
    let (slots, money) = (Session::new(Duration::from_secs(8)), Session::new(Duration::from_secs(300)));
    let key = Scope::key(Uuid::now_v7().to_string());
    let limits = [
        Limit::new(key.clone(), Measure::Requests, 60_000_000_000),
        Limit::new(key.clone(), Measure::Tokens, 60_000_000_000_000),
    ];
    let pots: Vec<_> = [key, Scope::team("search")]
        .iter()
        .flat_map(|scope| [Window::Day, Window::Month].map(|window| Budget::new(scope.clone(), window, Money::MAX)))
        .collect();
    let wish = Wish { min: Money::from_nanos(1), want: Money::from_nanos(1_000), share: 4 };
    let cycle = |store: &dyn AdmissionStore| {
        let id = Uuid::now_v7();
        let limits = Acquire::new(id, slots, &limits).tokens(1_000);
        let ask = Admit::new().limits(limits).budgets(Reserve::new(id, money, &pots, wish));
        let Ok(Verdict::Allow(Admitted { allowed: Some(allowed), grant: Some(grant) })) =
            at_once(store.admit(&ask, At::Store))
        else {
            panic!("there is enough");
        };
        at_once(RateLimitStore::settle(store, &allowed.permit, Used::Tokens(700), At::Store)).expect("memory");
        at_once(BudgetStore::settle(store, &grant.reservation, Money::from_nanos(700), At::Store)).expect("memory");
    };
    bench.case("admit + settle over six claims", Per::CALL, || cycle(&*store));
    bench.case("the same, one of four threads on the same pots", Per { bytes: 0, events: 4_000 }, || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| cycle(&*store)));
            }
        });
    });
}

fn keys(bench: &Bench) {
    let pepper = Pepper::new(b"32 random bytes from your vault.").expect("long enough");
    let store = MemoryKeys::new();
    let keys: Vec<_> = (0..KEYS)
        .map(|n| {
            let key = VirtualKey::mint(Environment::Live).expect("randomness");
            let now = "2026-11-24T09:00:00Z".parse().expect("a time");
            let record = KeyRecord::new(&key, &pepper, Principal::new(format!("key {n}")), now);
            assert!(at_once(store.put(&record)).expect("memory").is_written(), "a new key");
            key
        })
        .collect();
    let store = CachedKeys::new(store);
    let mut next = 0;
    let mut presented = || {
        next = (next + 1) % KEYS;
        keys[next].expose().as_bytes()
    };
    bench.case("a key: its HMAC alone", Per::CALL, || pepper.digest(black_box(presented())));
    bench.case("a key: its HMAC, and its record from the cache", Per::CALL, || {
        let digest = pepper.digest(black_box(presented())).expect("well formed");
        at_once(store.find(&digest)).expect("memory").expect("it is there")
    });
}
