//! The stores in memory, bare and behind pointers.

use std::sync::Arc;

use tollgate::store::budget::BudgetStore;
use tollgate::store::cached::CachedKeys;
use tollgate::store::conformance;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;

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
    conformance::budgets(async || Box::new(MemoryBudgets::new()) as Box<dyn BudgetStore>).await;
    conformance::budgets(async || Arc::new(MemoryBudgets::new()) as Arc<dyn BudgetStore>).await;
    conformance::budget_histories(async || MemoryBudgets::new(), 1_000..1_500, 100).await;
    conformance::budget_histories(async || MemoryBudgets::new(), 0..8, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_in_memory_pass_the_suite() {
    let rules = conformance::limits(async || MemoryLimits::new()).await;
    assert!(rules.len() > 20 && rules.contains(&"a_slot_is_held_until_it_is_settled"), "{rules:?}");
    conformance::limits(async || Box::new(MemoryLimits::new()) as Box<dyn RateLimitStore>).await;
    conformance::limits(async || Arc::new(MemoryLimits::new()) as Arc<dyn RateLimitStore>).await;
    conformance::limit_histories(async || MemoryLimits::new(), 1_000..1_500, 100).await;
    conformance::limit_histories(async || MemoryLimits::new(), 0..8, 1_000).await;
}
