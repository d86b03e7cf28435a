//! `AdmissionLayer`: limits and budgets asked in one request to the store.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::key::{Environment, KeyRecord, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::cached::CachedKeys;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryStore};
use tollgate::testing::Simulated;
use tollgate::{AdmissionLayer, Body, BudgetLayer, Dialect, Gateway, GatewayLayer, KeyAuthLayer};
use tower::{Layer, ServiceExt};

use crate::world::{MESSAGES, World, get, post};

const MODEL: &str = "claude-haiku-5-5";

fn hello() -> Value {
    json!({ "model": MODEL, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

/// A world whose only controls are keys and this layer.
fn governed() -> (World, MemoryStore) {
    let world = World::new();
    let store = MemoryStore::new().clock(world.clock.clone());
    let admission = AdmissionLayer::new(store.clone());
    let keys = CachedKeys::new(store.keys());
    let (pepper, cached) = (world.pepper.clone(), keys.clone());
    let clock = world.clock.clone();
    let controls =
        move |layer: GatewayLayer| layer.clock(clock).auth(KeyAuthLayer::new(cached, pepper)).admission(admission);
    let governed = World::bare(controls);
    (World { gateway: governed.gateway, provider: governed.provider, ..world }, store)
}

async fn mint(world: &World, store: &MemoryStore, principal: Principal) -> (VirtualKey, KeyRecord) {
    let key = VirtualKey::mint(Environment::Test).expect("randomness");
    let now = "2026-11-24T08:00:00Z".parse().expect("a time");
    let record = KeyRecord::new(&key, &world.pepper, principal, now);
    assert!(store.keys().put(&record).await.expect("memory").is_written());
    (key, record)
}

#[tokio::test]
async fn a_call_is_counted_and_paid_as_by_the_two_layers() {
    let (world, store) = governed();
    let budget = Budget::new(Scope::team("search"), Window::Day, usd("1"));
    let principal = Principal::new("ada")
        .budget_of(budget.clone())
        .limit(Measure::Requests, 2)
        .limit(Measure::Tokens, 10_000)
        .limit(Measure::Parallel, 1);
    let (key, _) = mint(&world, &store, principal).await;
    let answer = world.ask(post(MESSAGES, &key, &hello())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), Some("1"));
    assert!(answer.header("x-tollgate-budget-remaining-usd").expect("told").starts_with("0.99"));
    assert_eq!(answer.header("anthropic-ratelimit-unified-status"), Some("allowed"));
    let stands = store.budgets().standing(std::slice::from_ref(&budget), At::Store).await.expect("memory").remove(0);
    assert!(stands.spent > Money::ZERO && stands.held == Money::ZERO, "{stands:?}");
    assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200, "its slot is free again");
    let refused = world.ask(post(MESSAGES, &key, &hello())).await;
    assert_eq!(refused.error().1, "rate_limit_error");
    assert_eq!(refused.header("retry-after"), Some("30"));
    let info = world.ask(get("/v1/key", &key)).await.json();
    assert_eq!((&info["budgets"][0]["held_usd"], &info["limits"][0]["remaining"]), (&json!("0.00"), &json!(0)));
    assert_eq!(world.provider.received().len(), 2, "the third went nowhere");
}

#[tokio::test]
async fn a_call_that_a_budget_refuses_takes_nothing_from_its_limits_and_is_told_how_they_stand() {
    let (world, store) = governed();
    let principal = Principal::new("ada").budget(Window::Day, usd("0.000001")).limit(Measure::Requests, 1);
    let (key, _) = mint(&world, &store, principal).await;
    for _ in 0..3 {
        let refused = world.ask(post(MESSAGES, &key, &hello())).await;
        assert_eq!(refused.error(), (429, "billing_error".to_owned(), json!(null)), "not once a limit");
        assert_eq!(refused.header("retry-after"), None, "it is more than the whole budget");
        assert_eq!(refused.header("anthropic-ratelimit-requests-limit"), Some("1"));
        assert_eq!(refused.header("anthropic-ratelimit-requests-remaining"), Some("1"));
    }
    let info = world.ask(get("/v1/key", &key)).await.json();
    assert_eq!(info["limits"][0]["remaining"], 1);
}

#[tokio::test]
async fn a_key_that_was_revoked_behind_the_cache_admits_nothing_from_that_moment_on() {
    let (world, store) = governed();
    let (key, record) = mint(&world, &store, Principal::new("ada").budget(Window::Day, usd("1"))).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200);
    // Another gateway revokes the key, and this one is not notified.
    assert!(store.keys().put(&record.revoked()).await.expect("memory").is_written());
    let refused = world.ask(post(MESSAGES, &key, &hello())).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.message(), "this API key is no longer valid");
    assert_eq!(world.provider.received().len(), 1);
    // The same for a key without limits and hard budgets.
    let (bare, record) = mint(&world, &store, Principal::new("bare")).await;
    let soft = Principal::new("soft").budget_of(Budget::new(Scope::team("search"), Window::Day, usd("0")).soft());
    let (soft, other) = mint(&world, &store, soft).await;
    for key in [&bare, &soft] {
        assert_eq!(world.ask(post(MESSAGES, key, &hello())).await.status, 200);
    }
    for record in [record, other] {
        assert!(store.keys().put(&record.revoked()).await.expect("memory").is_written());
    }
    for key in [&bare, &soft] {
        assert_eq!(world.ask(post(MESSAGES, key, &hello())).await.status, 401);
    }
}

#[tokio::test]
async fn a_stack_with_both_ways_to_ask_says_so_and_lets_nothing_through() {
    let both = || {
        let layer = GatewayLayer::new().admission(AdmissionLayer::new(MemoryStore::new()));
        layer.budget(BudgetLayer::new(MemoryBudgets::new()))
    };
    let provider = Simulated::new().recording();
    let gateway = Gateway::builder().upstream("a", Dialect::Anthropic, provider.clone()).layer(both()).build();
    let problem = gateway.map(|_| ()).expect_err("it asks twice").to_string();
    assert!(problem.contains("use either `admission` or these two"), "{problem}");
    // A service of the host's has no builder that would refuse it.
    let mut request = Request::post(MESSAGES).body(Body::from(hello().to_string())).expect("a request");
    request.extensions_mut().insert(Principal::new("ada").budget(Window::Day, usd("1")));
    let answer = both().layer(provider.clone()).oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 500);
    assert!(provider.received().is_empty());
}

#[tokio::test]
async fn a_call_waits_in_turn_and_holds_nothing_of_its_limits_meanwhile() {
    let world = World::new();
    let store = MemoryStore::new();
    let (pepper, keys) = (world.pepper.clone(), store.keys());
    let admission = AdmissionLayer::new(store.clone()).budgets(|budgets| budgets.wait(Duration::from_secs(5)));
    let governed = World::bare(move |layer| layer.auth(KeyAuthLayer::new(keys, pepper)).admission(admission));
    let world = World { gateway: governed.gateway, ..world };
    // Enough money for one call at a time.
    let principal = Principal::new("ada").budget(Window::Day, usd("0.0006")).limit(Measure::Parallel, 2);
    let (key, _) = mint(&world, &store, principal).await;
    let mut stream = hello();
    stream["stream"] = json!(true);
    let ask = || world.ask(post(MESSAGES, &key, &stream));
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    for answer in <[_; 4]>::from(answers) {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
