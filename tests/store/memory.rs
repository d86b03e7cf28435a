//! The conformance suite for the stores in memory, bare and behind pointers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::ManualClock;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::admission::AdmissionStore;
use tollgate::store::budget::{self, BudgetStore, Reserve};
use tollgate::store::cached::CachedKeys;
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits, MemoryStore};
use tollgate::store::rate_limit::{self, Acquire, RateLimitStore, Used};
use tollgate::store::{At, Session, conformance};
use uuid::Uuid;

fn twice<S: Clone>(store: S) -> (S, S) {
    (store.clone(), store)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_memory_pass_the_suite() {
    let rules = conformance::keys(async || MemoryKeys::new()).await;
    assert!(rules.len() > 10 && rules.contains(&"a_rotated_secret_opens_nothing"), "{rules:?}");
    conformance::keys(async || Box::new(MemoryKeys::new()) as Box<dyn KeyRegistry>).await;
    conformance::keys(async || Arc::new(MemoryKeys::new()) as Arc<dyn KeyRegistry>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_behind_the_cache_pass_the_suite() {
    conformance::keys(async || CachedKeys::new(MemoryKeys::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_in_memory_pass_the_suite() {
    let rules = conformance::budgets(async || MemoryBudgets::new()).await;
    assert!(rules.len() > 20 && rules.contains(&"settling_twice_is_settling_once"), "{rules:?}");
    let boxed = conformance::budgets(async || Box::new(MemoryBudgets::new()) as Box<dyn BudgetStore>).await;
    let shared = conformance::budgets(async || Arc::new(MemoryBudgets::new()) as Arc<dyn BudgetStore>).await;
    assert!(boxed == rules && shared == rules, "a pointer keeps nothing back: {boxed:?} {shared:?}");
    conformance::budgets_that_grow(async || MemoryBudgets::new()).await;
    conformance::budgets_that_grow(async || Box::new(MemoryBudgets::new()) as Box<dyn BudgetStore>).await;
    conformance::budgets_that_grow(async || Arc::new(MemoryBudgets::new()) as Arc<dyn BudgetStore>).await;
    // A clone is a handle to the same store.
    let rules = conformance::budgets_shared(async || twice(MemoryBudgets::new())).await;
    assert!(rules.contains(&"a_hold_that_two_settle_is_settled_once"), "{rules:?}");
    conformance::budget_histories(async || MemoryBudgets::new(), 1_000..1_256, 200).await;
    conformance::budget_histories(async || MemoryBudgets::new(), 0..8, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_in_memory_pass_the_suite() {
    let rules = conformance::limits(async || MemoryLimits::new()).await;
    assert!(rules.len() > 20 && rules.contains(&"a_slot_is_held_until_it_is_settled"), "{rules:?}");
    conformance::limits(async || Box::new(MemoryLimits::new()) as Box<dyn RateLimitStore>).await;
    conformance::limits(async || Arc::new(MemoryLimits::new()) as Arc<dyn RateLimitStore>).await;
    let rules = conformance::limits_shared(async || twice(MemoryLimits::new())).await;
    assert!(rules.contains(&"a_permit_that_two_settle_is_settled_once"), "{rules:?}");
    conformance::limit_histories(async || MemoryLimits::new(), 1_000..1_256, 200).await;
    conformance::limit_histories(async || MemoryLimits::new(), 0..8, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_in_memory_passes_the_suite() {
    let rules = conformance::admission(async || {
        let store = MemoryStore::new();
        (store.clone(), store.keys())
    })
    .await;
    assert!(rules.contains(&"a_refusal_by_a_budget_counts_nowhere"), "{rules:?}");
    conformance::admission(async || {
        let store = MemoryStore::new();
        (Box::new(store.clone()) as Box<dyn AdmissionStore>, store.keys())
    })
    .await;
    conformance::admission(async || {
        let store = MemoryStore::new();
        (Arc::new(store.clone()) as Arc<dyn AdmissionStore>, store.keys())
    })
    .await;
    let rules = conformance::admission_shared(async || twice(MemoryStore::new())).await;
    assert!(rules.len() > 8, "{rules:?}");
    conformance::budgets(async || MemoryStore::new()).await;
    conformance::budgets_that_grow(async || MemoryStore::new()).await;
    let shared = async || Arc::new(MemoryStore::new()) as Arc<dyn AdmissionStore>;
    conformance::budgets_that_grow(shared).await;
    conformance::limits(async || MemoryStore::new()).await;
}

#[tokio::test]
async fn a_store_in_memory_decides_by_the_clock_that_it_is_given() {
    let clock = Arc::new(ManualClock::at("2026-11-24T23:59:00Z".parse().expect("a time")));
    let (budgets, limits) = (MemoryBudgets::new().clock(clock.clone()), MemoryLimits::new().clock(clock.clone()));
    let session = Session::new(Duration::from_secs(300));
    let pots = [Budget::new(Scope::global(), Window::Day, Money::from_nanos(1))];
    let one = Wish { min: Money::from_nanos(1), want: Money::from_nanos(1), share: 1 };
    let counts = [Limit::new(Scope::global(), Measure::Requests, 1)];
    for passes in [true, false] {
        let reserved = budgets.reserve(&Reserve::new(Uuid::now_v7(), session, &pots, one), At::Store).await;
        let acquired = limits.acquire(&Acquire::new(Uuid::now_v7(), session, &counts), At::Store).await;
        assert_eq!(matches!(reserved, Ok(budget::Verdict::Allow(_))), passes);
        assert_eq!(matches!(acquired, Ok(rate_limit::Verdict::Allow(_))), passes);
    }
    clock.advance(Duration::from_secs(60));
    let standing = &budgets.clone().standing(&pots, At::Store).await.expect("memory")[0];
    assert_eq!((standing.spent, standing.held), (Money::ZERO, Money::ZERO), "it is midnight");
    assert_eq!(limits.clone().standing(&counts, At::Store).await.expect("memory")[0].left, 1);
}

#[tokio::test]
async fn what_is_settled_takes_no_room_but_for_its_id_and_that_for_an_hour() {
    let (budgets, limits) = (MemoryBudgets::new(), MemoryLimits::new());
    let session = Session::new(Duration::from_secs(8));
    let pots = [Budget::new(Scope::global(), Window::Total, Money::MAX)];
    let wish = Wish { min: Money::ZERO, want: Money::from_nanos(10), share: 1 };
    let counts = [Limit::new(Scope::global(), Measure::Parallel, 1)];
    for second in 0..20_000 {
        let at = At::Fixed(Timestamp::from_second(1_795_500_000 + second).expect("a time"));
        let ask = Reserve::new(Uuid::now_v7(), session, &pots, wish);
        let Ok(budget::Verdict::Allow(grant)) = budgets.reserve(&ask, at).await else { panic!("there is enough") };
        budgets.settle(&grant.reservation, Money::from_nanos(1), at).await.expect("memory");
        let Ok(rate_limit::Verdict::Allow(allowed)) =
            limits.acquire(&Acquire::new(Uuid::now_v7(), session, &counts), at).await
        else {
            panic!("there is room")
        };
        limits.settle(&allowed.permit, Used::Nothing, at).await.expect("memory");
    }
    let shown = format!("{budgets:?} {limits:?}");
    assert!(shown.contains("holds: 0") && shown.contains("permits: 0"), "{shown}");
    let settled = shown.split("settled: ").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
    assert!(settled.is_some_and(|settled| (3_600..5_000).contains(&settled)), "{shown}");
}

#[tokio::test]
async fn no_debug_of_a_store_shows_who_its_keys_are() {
    let keys = CachedKeys::new(MemoryKeys::new());
    let (key, pepper) = (VirtualKey::mint(Environment::Live).expect("randomness"), Pepper::new(&[7; 32]));
    let record = KeyRecord::new(&key, &pepper.expect("long enough"), Principal::new("canary"), Timestamp::UNIX_EPOCH);
    assert!(keys.put(&record).await.expect("memory").is_written());
    keys.find(&record.digest).await.expect("memory").expect("it is there");
    let shown = format!("{keys:?} {:?}", keys.get_ref());
    assert!(shown.contains("keys: 1"), "{shown}");
    assert!(!shown.contains("canary") && !shown.contains(key.expose()), "{shown}");
}
