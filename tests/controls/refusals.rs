//! The messages of budgets that refuse, and who is notified.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::key::{Environment, KeyDigest, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::domain::scope::{Scope, ScopeKind};
use tollgate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};
use tollgate::store::key::KeyStore;
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use tollgate::testing::Script;
use tollgate::{Dialect, GatewayLayer, KeyAuthLayer};
use uuid::Uuid;

use crate::world::{CHAT, MESSAGES, World, post};

const HAIKU: &str = "claude-haiku-5-5";

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

fn body(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

/// Holds this much, like another call.
async fn hold(store: &MemoryBudgets, pot: &Budget, dollars: &str) -> Reservation {
    let (id, wish) = (Uuid::now_v7(), Wish { min: usd(dollars), want: usd(dollars), share: 1 });
    let pots = [pot.clone()];
    let ask = Reserve::new(id, Session::new(Duration::from_secs(300)), &pots, wish);
    match store.reserve(&ask, At::Store).await.expect("memory") {
        Verdict::Allow(grant) => grant.reservation,
        Verdict::Deny(denial) => panic!("{denial:?}"),
    }
}

async fn spend(store: &MemoryBudgets, pot: &Budget, dollars: &str) {
    let held = hold(store, pot, dollars).await;
    store.settle(&held, usd(dollars), At::Store).await.expect("memory");
}

#[tokio::test]
async fn a_day_ends_where_its_time_zone_says() {
    let world = World::new();
    let day = Window::Day.in_zone("America/New_York").expect("a zone");
    let key = world.mint(Principal::new("ada").budget(day, usd("0.0006"))).await;
    let refused = world.refused(|| post(MESSAGES, &key, &body(HAIKU))).await;
    // 09:00 UTC is 04:00 in New York.
    assert_eq!(refused.header("retry-after"), Some("72000"));
    assert!(refused.message().contains("the day (America/New_York) budget"), "{}", refused.message());
    let never = world.mint(Principal::new("bob").budget(day, usd("0"))).await;
    let refused = world.ask(post(MESSAGES, &never, &body(HAIKU))).await;
    assert_eq!(refused.header("anthropic-ratelimit-unified-overage-period"), None);
    assert_eq!(refused.header("retry-after"), None, "nor does tomorrow help");
    assert!(
        refused.message().contains("is more than the whole of the day (America/New_York) budget"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_refusal_says_all_that_there_is_to_say_of_a_budget_and_nothing_that_is_not_so() {
    let world = World::of_budgets(|layer| layer.contact("#llm-platform"));
    let (store, day) = (&world.budgets, Budget::new(Scope::team("search"), Window::Day, usd("3")));
    let key = world.mint(Principal::new("ada").budget_of(day.clone())).await;
    spend(store, &day, "1").await;
    let held = hold(store, &day, "2").await;
    // 400,000 bytes may be up to 400,000 tokens.
    let mut large = body(HAIKU);
    large["messages"][0]["content"] = json!("word ".repeat(80_000));
    large["max_tokens"] = json!(64_000);
    let said = world.ask(post(MESSAGES, &key, &body(HAIKU))).await;
    assert_eq!(said.header("retry-after"), Some("1"), "{}", said.message());
    let said = said.message();
    assert!(said.contains("$1.00 of $3.00 is spent and $2.00 held") && said.contains("the budget resets at"), "{said}");
    store.settle(&held, usd("1.98"), At::Store).await.expect("memory");
    let _held = hold(store, &day, "0.01").await;
    let said = world.ask(post(MESSAGES, &key, &large)).await.message();
    assert!(said.contains("$0.01 of $3.00 is left ($2.98 spent, $0.01 held)"), "{said}");
    assert!(said.contains("the budget resets at") && said.ends_with("ask #llm-platform for more"), "{said}");
}

#[tokio::test]
async fn whoever_hears_of_a_budget_is_told_what_its_key_is_called() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let [passed, refused] = [told.clone(), told.clone()];
    let heard = Arc::new(AtomicUsize::new(0));
    let [also_passed, also_refused] = [heard.clone(), heard.clone()];
    let world = World::of_budgets(|layer| {
        layer
            .on_threshold(move |_| _ = also_passed.fetch_add(1, Ordering::Relaxed))
            .on_exhausted(move |_| _ = also_refused.fetch_add(1, Ordering::Relaxed))
            .on_threshold(move |crossing| {
                let told = (crossing.percent.to_string(), crossing.pot.scope.kind, crossing.key_name.clone());
                passed.lock().expect("whole").push(told);
            })
            .on_exhausted(move |standing| {
                let kind = standing.budget.pot.scope.kind;
                refused.lock().expect("whole").push(("refused".to_owned(), kind, standing.key_name.clone()));
            })
    });
    let principal = || {
        Principal::new("ada").budget(Window::Day, usd("0.0001")).budget_of(Budget::new(
            Scope::team("search"),
            Window::Day,
            usd("0.0001"),
        ))
    };
    let key = world.mint(principal()).await;
    while world.ask(post(MESSAGES, &key, &body(HAIKU))).await.status == 200 {}
    let told = std::mem::take(&mut *told.lock().expect("whole"));
    assert_eq!(heard.load(Ordering::Relaxed), told.len(), "both callbacks of each kind");
    assert!(told.iter().any(|(what, ..)| what == "refused") && told.iter().any(|(what, ..)| what != "refused"));
    let names = |kind| told.iter().filter(move |(_, of, _)| *of == kind).map(|(_, _, name)| name.as_deref());
    assert!(names(ScopeKind::Key).count() > 0 && names(ScopeKind::Key).all(|name| name == Some("ada")), "{told:?}");
    assert!(names(ScopeKind::Team).count() > 0 && names(ScopeKind::Team).all(|name| name.is_none()), "{told:?}");
}

#[tokio::test]
async fn somebody_hears_of_a_budget_with_the_first_call_that_it_locks_out() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let world = World::of_budgets(|layer| {
        layer.on_exhausted(move |standing| {
            heard.lock().expect("whole").push((standing.budget.limit, standing.spent));
        })
    });
    let news = || std::mem::take(&mut *told.lock().expect("whole"));
    let month = |limit| Budget::new(Scope::team("search"), Window::Month, usd(limit));
    let key = world.mint(Principal::new("ada").budget_of(month("0.02"))).await;
    let raised = world.mint(Principal::new("bob").budget_of(month("0.0201"))).await;
    let mut large = body(HAIKU);
    let ask = async |key, body: &Value| world.ask(post(MESSAGES, key, body)).await.status.as_u16();

    // First a request that may cost three quarters of a cent, when half a cent is left. Then one that may cost more
    // than the whole budget.
    spend(&world.budgets, &month("0.02"), "0.015").await;
    large["messages"][0]["content"] = json!("word ".repeat(15_000));
    for _ in 0..5 {
        assert_eq!(ask(&key, &large).await, 429);
    }
    assert_eq!(news(), [(usd("0.02"), usd("0.015"))], "once, though it is not spent");
    large["messages"][0]["content"] = json!("word ".repeat(50_000));
    assert_eq!((ask(&key, &large).await, news()), (429, Vec::new()), "that is news of the call");
    assert_eq!((ask(&key, &body(HAIKU)).await, news()), (200, Vec::new()), "a small one passes");

    // Now the budget is spent, also for a key that has another limit on the same pot.
    let left = world.budgets.standing(&[month("0.02")], At::Store).await.expect("memory").remove(0).left();
    spend(&world.budgets, &month("0.02"), &left.to_string()).await;
    let spent = usd("0.02");
    for _ in 0..5 {
        assert_eq!(ask(&key, &body(HAIKU)).await, 429);
        let _ = world.refused(|| post(MESSAGES, &raised, &body(HAIKU))).await;
    }
    let limits: Vec<_> = news().into_iter().map(|(limit, spent_then)| (limit, spent_then >= spent)).collect();
    assert_eq!(limits, [(usd("0.02"), true), (usd("0.0201"), true)]);
    world.clock.advance(Duration::from_secs(31 * 86_400));
    spend(&world.budgets, &month("0.02"), "0.02").await;
    assert_eq!((ask(&key, &body(HAIKU)).await, news()), (429, vec![(usd("0.02"), usd("0.02"))]));

    // In a rolling window, money comes back all the time.
    let hour = Budget::new(Scope::team("agents"), "rolling 1h".parse().expect("a window"), usd("0.02"));
    let agent = world.mint(Principal::new("agent").budget_of(hour.clone())).await;
    let mut told = 0;
    for _ in 0..20 {
        let left =
            world.budgets.standing(std::slice::from_ref(&hour), At::Store).await.expect("memory").remove(0).left();
        if left > Money::ZERO {
            spend(&world.budgets, &hour, &left.to_string()).await;
        }
        assert_eq!(ask(&agent, &body(HAIKU)).await, 429);
        told += news().len();
        world.clock.advance(Duration::from_secs(151));
    }
    assert!((1..=2).contains(&told), "told {told} times within an hour");
}

#[tokio::test]
async fn a_refusal_has_the_status_that_its_host_set_for_clients_of_its_dialect_and_is_otherwise_what_it_was() {
    const STATUSES: [(Dialect, RejectionKind, u16); 4] = [
        (Dialect::OpenAiChat, RejectionKind::BudgetSpent, 422),
        (Dialect::OpenAiChat, RejectionKind::StoreUnavailable, 503),
        (Dialect::Anthropic, RejectionKind::StoreUnavailable, 503),
        // The later setting counts.
        (Dialect::OpenAiChat, RejectionKind::BudgetSpent, 402),
    ];
    let set = |layer: GatewayLayer| {
        STATUSES.into_iter().fold(layer, |layer, (dialect, kind, status)| {
            layer.status(dialect, kind, StatusCode::from_u16(status).expect("a status"))
        })
    };
    let (usual, own) = (World::new(), World::with(set));
    let mut said = Vec::new();
    for world in [&usual, &own] {
        let spent = world.mint(Principal::new("ada").budget(Window::Day, usd("0.002"))).await;
        let refused = world.refused(|| post(CHAT, &spent, &body("gpt-5"))).await;
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert!(refused.header("retry-after").is_some());
        said.push((refused.error(), refused.message()));
        let spent = world.mint(Principal::new("bob").budget(Window::Day, usd("0.0006"))).await;
        let refused = world.refused(|| post(MESSAGES, &spent, &body(HAIKU))).await;
        assert_eq!(refused.error(), (429, "billing_error".to_owned(), json!(null)), "nobody set it");
    }
    let spent = json!("insufficient_quota");
    assert_eq!(said[0].0, (429, "insufficient_quota".to_owned(), spent.clone()));
    assert_eq!(said[1].0, (402, "insufficient_quota".to_owned(), spent));
    let record = own.records().await.into_iter().find(|record| record.status == Some(402)).expect("as it was sent");
    assert_eq!(record.rejection, Some(RejectionKind::BudgetSpent));

    let mut said = Vec::new();
    for set in [|layer| layer, set] {
        let world = World::bare(|layer| {
            set(layer).auth(KeyAuthLayer::new(Away, Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long")))
        });
        let key = VirtualKey::mint(Environment::Live).expect("randomness");
        for (path, model) in [(CHAT, "gpt-5"), (MESSAGES, HAIKU)] {
            let refused = world.ask(post(path, &key, &body(model))).await;
            assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), (Some("1"), None));
            said.push(refused.error());
        }
    }
    let [server, overloaded] = ["server_error", "overloaded_error"].map(str::to_owned);
    assert_eq!(said[..2], [(429, server.clone(), json!("overloaded")), (529, overloaded.clone(), json!(null))]);
    assert_eq!(said[2..], [(503, server, json!("overloaded")), (503, overloaded, json!(null))]);

    // A provider's own errors are not changed.
    let own = World::with(|layer| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        layer.status(Dialect::Anthropic, RejectionKind::RateLimited, status)
    });
    let key = own.mint(Principal::new("ada")).await;
    own.provider.script(Script::new().status(429));
    assert_eq!(own.ask(post(MESSAGES, &key, &body(HAIKU))).await.status, 429);
    let once = own.mint(Principal::new("bob").limit(Measure::Requests, 1)).await;
    let refused = own.refused(|| post(MESSAGES, &once, &body(HAIKU))).await;
    assert_eq!(refused.error(), (503, "rate_limit_error".to_owned(), json!(null)));
    assert!(refused.header("retry-after").is_some() && refused.header("anthropic-ratelimit-requests-limit").is_some());
}

/// A key store that cannot be reached.
struct Away;

#[async_trait]
impl KeyStore for Away {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Err(StoreError::unavailable("away"))
    }
}

#[test]
fn a_status_that_is_no_error_or_of_what_an_upstream_did_is_refused_when_it_is_set() {
    for (kind, status) in [
        (RejectionKind::BudgetSpent, StatusCode::OK),
        (RejectionKind::BudgetSpent, StatusCode::TEMPORARY_REDIRECT),
        (RejectionKind::UpstreamCredential, StatusCode::UNAUTHORIZED),
    ] {
        let set = || GatewayLayer::new().status(Dialect::Anthropic, kind, status);
        assert!(std::panic::catch_unwind(set).is_err(), "{kind:?} {status}");
    }
}
