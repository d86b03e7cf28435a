//! Budgets and limits of every scope, over every window, hard and soft, and the notifications of thresholds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::ManualClock;
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{self, BudgetStore, Crossing, Reservation, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::{At, Session, StoreError};
use tollgate::{BudgetLayer, GatewayLayer, RateLimitLayer};
use tower::ServiceExt;
use uuid::Uuid;

use crate::world::{Answer, CHAT, MESSAGES, World, get, post};

const HAIKU: &str = "claude-haiku-5-5";
const OPUS: &str = "claude-opus-5-5";

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

fn body(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

/// A world whose budget layer uses this store, with a change to the layer.
fn governed(
    budgets: &MemoryBudgets,
    change: impl FnOnce(BudgetLayer<MemoryBudgets>) -> BudgetLayer<MemoryBudgets>,
) -> World {
    let budgets = budgets.clone();
    World::with(|layer| layer.budget(change(BudgetLayer::new(budgets))))
}

async fn spent(store: &MemoryBudgets, scope: Scope, window: Window) -> Money {
    store.standing(&[Budget::new(scope, window, usd("1"))], At::Store).await.expect("memory")[0].spent
}

async fn ask(world: &World, key: &tollgate::domain::key::VirtualKey, model: &str) -> Answer {
    let path = if model.starts_with("gpt") { CHAT } else { MESSAGES };
    world.ask(post(path, key, &body(model))).await
}

#[tokio::test]
async fn a_call_is_paid_from_the_pots_of_its_model_its_provider_its_tags_and_everyone() {
    let store = MemoryBudgets::new();
    let total = |scope| Budget::new(scope, Window::Total, usd("10"));
    let scopes = || {
        [
            Scope::model("claude-opus-*"),
            Scope::model(HAIKU),
            Scope::provider("anthropic"),
            Scope::provider("openai"),
            Scope::tag("batch"),
            Scope::team("search"),
            Scope::user("ada@example.com"),
            Scope::org("acme"),
            Scope::global(),
        ]
    };
    let world = governed(&store, |layer| scopes().into_iter().map(total).fold(layer, BudgetLayer::for_everyone));
    let ada = world.mint(Principal::new("ada").user("ada@example.com").team("search").tag("batch")).await;
    let bob = world.mint(Principal::new("bob").org("acme")).await;
    // One digit per scope: 1 if it pays.
    for (key, model, paying) in [
        (&ada, OPUS, "101011101"),
        (&ada, HAIKU, "011011101"),
        (&bob, "gpt-5", "000100011"),
        (&bob, HAIKU, "011000011"),
    ] {
        let mut before = Vec::new();
        for scope in scopes() {
            before.push(spent(&store, scope, Window::Total).await);
        }
        let answer = ask(&world, key, model).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut paid = String::new();
        let mut amounts = Vec::new();
        for (scope, before) in scopes().into_iter().zip(before) {
            let amount = spent(&store, scope, Window::Total).await.saturating_sub(before);
            paid.push(if amount > Money::ZERO { '1' } else { '0' });
            amounts.extend((amount > Money::ZERO).then_some(amount));
        }
        assert_eq!(paid, paying, "{model}");
        assert!(amounts.windows(2).all(|two| two[0] == two[1]), "{amounts:?}");
    }
}

#[tokio::test]
async fn a_model_is_paid_for_under_the_name_that_it_was_asked_for_by_whatever_stands_for_it() {
    let store = MemoryBudgets::new();
    let total = |model: &str| Budget::new(Scope::model(model), Window::Total, usd("10"));
    let names = ["fast", HAIKU, "default", OPUS];
    let world = governed(&store, |layer| names.map(total).into_iter().fold(layer, BudgetLayer::for_everyone));
    // The key's own alias for an alias of the gateway.
    let key = world.mint(Principal::new("ada").alias("default", "fast")).await;
    assert_eq!(ask(&world, &key, "default").await.status, 200);
    let mut paid = Vec::new();
    for name in names {
        paid.push(spent(&store, Scope::model(name), Window::Total).await > Money::ZERO);
    }
    assert_eq!(paid, [true, true, false, false]);
}

#[tokio::test]
async fn a_refusal_names_the_scope_whose_budget_or_limit_it_is() {
    let limits = MemoryLimits::new();
    let none = |scope| Budget::new(scope, Window::Day, Money::ZERO);
    let limited = limits.clone();
    let world = World::with(|layer: GatewayLayer| {
        let budgets = BudgetLayer::new(MemoryBudgets::new());
        let few =
            RateLimitLayer::new(limited).for_everyone(Limit::new(Scope::provider("openai"), Measure::Requests, 1));
        layer
            .budget(budgets.for_everyone(none(Scope::model("claude-opus-*"))).for_everyone(none(Scope::tag("batch"))))
            .rate_limit(few)
    });
    let (ada, batch) = (world.mint(Principal::new("ada")).await, world.mint(Principal::new("b").tag("batch")).await);
    let refused = ask(&world, &ada, OPUS).await;
    assert!(refused.message().contains("the day budget of model claude-opus-*"), "{}", refused.message());
    assert_eq!(ask(&world, &ada, HAIKU).await.status, 200);
    let refused = ask(&world, &batch, HAIKU).await;
    assert!(refused.message().contains("the day budget of tag batch"), "{}", refused.message());
    assert_eq!(ask(&world, &ada, "gpt-5").await.status, 200);
    let refused = ask(&world, &ada, "gpt-5").await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("1 requests a minute for provider openai"), "{}", refused.message());
    // The key's holder sees these budgets beside its own.
    let info = world.ask(get("/v1/key", &batch)).await.json();
    let scopes: Vec<_> = info["budgets"].as_array().expect("a list").iter().map(|one| one["scope"].clone()).collect();
    assert_eq!(scopes, ["model", "tag"]);
    assert_eq!(info["limits"][0]["scope"], "provider");
    let info = world.ask(get("/v1/key", &ada)).await.json();
    assert_eq!(info["budgets"].as_array().map(Vec::len), Some(1), "nothing of a tag that it has not");
}

#[tokio::test]
async fn a_soft_budget_refuses_nothing_and_tells_when_it_is_reached() {
    let (store, told) = (MemoryBudgets::new(), Arc::new(Mutex::new(Vec::new())));
    let heard = told.clone();
    let world = governed(&store, |layer| {
        layer.on_threshold(move |crossing: &Crossing| {
            heard.lock().expect("whole").push((crossing.percent, crossing.limit));
        })
    });
    let soft = Budget::new(Scope::team("search"), Window::Month, usd("0.000001")).soft();
    let key = world.mint(Principal::new("ada").budget_of(soft)).await;
    for model in [HAIKU, HAIKU, "gpt-5"] {
        let answer = ask(&world, &key, model).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("anthropic-ratelimit-unified-status"), None, "nothing is capped");
        assert!(answer.header("x-tollgate-clamped").is_none());
    }
    assert_eq!(*told.lock().expect("whole"), [50, 80, 95, 100].map(|percent| (percent, usd("0.000001"))));
    assert!(spent(&store, Scope::team("search"), Window::Month).await > usd("0.000001"));
    // A cost without a bound is not refused either.
    let mut unbounded = body(HAIKU);
    unbounded["tools"] = json!([{ "type": "web_search_20250305", "name": "web_search" }]);
    assert_eq!(world.ask(post(MESSAGES, &key, &unbounded)).await.status, 200);
    let info = world.ask(get("/v1/key", &key)).await.json();
    assert_eq!(info["budgets"][0]["soft"], true);
}

#[tokio::test]
async fn nobody_gets_free_tokens_by_hanging_up_on_a_soft_budget_either() {
    let store = MemoryBudgets::new();
    let world = governed(&store, |layer| layer);
    let soft = Budget::new(Scope::team("search"), Window::Total, usd("1")).soft();
    let key = world.mint(Principal::new("ada").budget_of(soft)).await;
    let mut body = body("claude-haiku-4-5");
    body["stream"] = json!(true);
    let mut request = post(MESSAGES, &key, &body);
    // A larger window than the model has a price for, so its cost has no bound.
    request.headers_mut().insert("anthropic-beta", "context-1m-2025-08-07".parse().expect("a value"));
    let mut stream = world.gateway.clone().oneshot(request).await.expect("infallible").into_body();
    for _ in 0..5 {
        stream.frame().await.expect("a frame").expect("no error");
    }
    drop(stream);
    let outcome = world.records().await[0].clone();
    assert_eq!(outcome.granted, Some(Money::ZERO));
    let charged = outcome.charged.expect("counted");
    assert!(charged > Money::ZERO, "{outcome:?}");
    assert_eq!(spent(&store, Scope::team("search"), Window::Total).await, charged);
}

/// A store that fails requests for holds, but accepts settlements.
#[derive(Clone)]
struct Deaf(MemoryBudgets);

#[async_trait]
impl BudgetStore for Deaf {
    async fn reserve(&self, _: &Reserve<'_>, _: At) -> Result<budget::Verdict, StoreError> {
        Err(StoreError::unavailable("no answer"))
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.0.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.0.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

#[tokio::test]
async fn a_store_that_cannot_answer_lets_soft_budgets_pass_and_counts_them_later_and_hard_ones_not() {
    let store = MemoryBudgets::new();
    let deaf = Deaf(store.clone());
    let world = World::with(|layer| layer.budget(BudgetLayer::new(deaf)));
    let month = Budget::new(Scope::team("search"), Window::Total, usd("10"));
    let soft = world.mint(Principal::new("soft").budget_of(month.clone().soft())).await;
    let both = Principal::new("both").budget_of(month.clone().soft()).budget_of(Budget::new(
        Scope::global(),
        Window::Day,
        usd("1"),
    ));
    let both = world.mint(both).await;
    let answer = ask(&world, &soft, HAIKU).await;
    assert_eq!(answer.status, 200);
    let stands = |name: &&http::HeaderName| name.as_str().contains("budget") || name.as_str().contains("unified");
    assert_eq!(answer.headers.keys().find(stands), None, "how they stand nobody knows");
    let record = world.records().await.remove(0);
    assert!(record.decisions.iter().any(|decision| decision.allowed && decision.reason.contains("cannot answer")));
    let charged = record.charged;
    assert_eq!(Some(spent(&store, Scope::team("search"), Window::Total).await), charged);
    assert!(charged > Some(Money::ZERO));
    let answer = ask(&world, &both, HAIKU).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["type"].clone()), (429, json!("billing_error")));
    assert_eq!(answer.header("anthropic-ratelimit-unified-overage-disabled-reason"), Some("fetch_error"));
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), (Some("false"), None));
    assert!(answer.message().contains("cannot read the budgets") && !answer.text.contains("no answer"), "{answer:?}");
    let body = json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": "hi" }] });
    let answer = world.ask(post(CHAT, &both, &body)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
    assert_eq!((answer.header("x-should-retry"), answer.json()["error"]["code"].clone()), (None, json!("overloaded")));
}

#[tokio::test]
async fn each_threshold_of_each_pot_is_told_once_however_many_calls_reach_it() {
    let (store, told) = (MemoryBudgets::new(), Arc::new(Mutex::new(Vec::new())));
    let heard = told.clone();
    let world = governed(&store, |layer| {
        layer.on_threshold(move |crossing: &Crossing| {
            heard.lock().expect("whole").push((crossing.pot.scope.to_string(), crossing.percent, crossing.soft));
        })
    });
    let month = |scope, limit| Budget::new(scope, Window::Month, usd(limit));
    let principal = Principal::new("ada")
        .budget_of(month(Scope::team("search"), "0.02"))
        .budget_of(month(Scope::org("acme"), "0.1"))
        .budget_of(month(Scope::user("ada"), "0.01").soft())
        // It ends calls, but far above what is told of the soft one.
        .budget_of(month(Scope::user("ada"), "1"));
    let key = world.mint(principal).await;
    let mut calls = 0;
    while ask(&world, &key, HAIKU).await.status == 200 {
        calls += 1;
        assert!(calls < 5_000, "it ends");
    }
    assert!(calls > 10, "{calls}");
    let told = told.lock().expect("whole").clone();
    let of = |scope: &str| {
        let of_it = told.iter().filter(|(name, ..)| name == scope);
        of_it.map(|(_, percent, soft)| (*percent, *soft)).collect::<Vec<_>>()
    };
    // 100 percent is never reached, since a call may cost more than the rest.
    assert_eq!(of("team search"), [50, 80, 95].map(|percent| (percent, false)));
    assert_eq!(of("org acme"), [], "not half of it");
    assert_eq!(of("user ada"), [50, 80, 95, 100].map(|percent| (percent, true)), "it refuses nothing, and says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_threshold_is_told_once_by_calls_that_end_at_one_moment() {
    const CALLS: usize = 400;
    let (store, told) = (MemoryBudgets::new(), Arc::new(Mutex::new(Vec::new())));
    let heard = told.clone();
    let world = governed(&store, |layer| {
        layer.on_threshold(move |crossing: &Crossing| {
            heard.lock().expect("whole").push((crossing.pot.scope.to_string(), crossing.percent));
        })
    });
    // Measure the cost of one call, so that all calls together spend one pot twice and half of the other.
    let alone =
        world.mint(Principal::new("one").budget_of(Budget::new(Scope::user("one"), Window::Total, usd("100")))).await;
    assert_eq!(ask(&world, &alone, HAIKU).await.status, 200);
    let each = spent(&store, Scope::user("one"), Window::Total).await.nanos();
    let calls = i64::try_from(CALLS).expect("a few");
    let soft = |scope, nanos| Budget::new(scope, Window::Month, Money::from_nanos(nanos)).soft();
    let principal = Principal::new("ada")
        .budget_of(soft(Scope::team("search"), each * calls / 2))
        .budget_of(soft(Scope::org("acme"), each * calls * 2));
    let key = world.mint(principal).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let (gateway, request) = (world.gateway.clone(), post(MESSAGES, &key, &body(HAIKU)));
        asked.spawn(async move { crate::world::ask(gateway, request).await.status.as_u16() });
    }
    assert_eq!(asked.join_all().await, [200; CALLS]);
    world.settlements.drain().await;
    let mut told = told.lock().expect("whole").clone();
    told.sort();
    let team = [50, 80, 95, 100].map(|percent| ("team search".to_owned(), percent));
    assert_eq!(told, [&[("org acme".to_owned(), 50)][..], &team].concat());
}

#[tokio::test]
async fn a_burn_rate_stops_a_runaway_agent_and_lets_it_go_on_an_hour_later() {
    let world = World::new();
    let hour: Window = "rolling 1h".parse().expect("a window");
    let principal = Principal::new("agent").budget(hour, usd("0.001")).budget(Window::Month, usd("100"));
    let key = world.mint(principal).await;
    let mut calls = 0;
    let refused = loop {
        let answer = ask(&world, &key, HAIKU).await;
        if answer.status != 200 {
            break answer;
        }
        calls += 1;
        world.clock.advance(Duration::from_secs(10));
        assert!(calls < 360, "it stops within the hour");
    };
    assert_eq!(refused.error(), (429, "billing_error".to_owned(), json!(null)));
    assert!(refused.message().contains("the rolling 1h budget of this key"), "{}", refused.message());
    assert!(
        refused.message().contains("part of the budget becomes available at 2026-11-24T10:02:30Z"),
        "{}",
        refused.message()
    );
    let wait: u64 = refused.header("retry-after").expect("told").parse().expect("seconds");
    world.clock.advance(Duration::from_secs(wait - 1));
    assert_eq!(ask(&world, &key, HAIKU).await.status, 429, "a second too early");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&world, &key, HAIKU).await.status, 200);
}

#[tokio::test]
async fn how_a_budget_stands_is_said_with_what_was_served_and_that_it_is_spent_where_it_is() {
    let store = MemoryBudgets::new();
    let world = governed(&store, |layer| layer);
    let key = world.mint(Principal::new("ada").budget(Window::Day, usd("0.05"))).await;
    let unified = |answer: &Answer| answer.headers.keys().any(|header| header.as_str().contains("unified"));
    for (script, status) in [("hi", 200), ("sim:status=429", 429), ("sim:status=529", 529), ("sim:status=400", 400)] {
        let mut body = body(HAIKU);
        body["messages"][0]["content"] = json!(script);
        let answer = world.ask(post(MESSAGES, &key, &body)).await;
        assert_eq!((answer.status.as_u16(), unified(&answer)), (status, status == 200), "{script}");
    }
    // This call is too large for what is left, but a smaller one is not, so the cap is not reached.
    let mut body = body(HAIKU);
    body["messages"][0]["content"] = json!("word ".repeat(100_000));
    let refused = world.ask(post(MESSAGES, &key, &body)).await;
    assert_eq!((refused.status.as_u16(), unified(&refused)), (429, false), "{}", refused.message());
    assert!(
        refused.message().contains("is more than the whole of") && refused.header("x-should-retry") == Some("false")
    );
}

#[tokio::test]
async fn claude_code_is_told_on_every_answer_how_its_fullest_budget_stands() {
    let now = ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time"));
    let store = MemoryBudgets::new().clock(Arc::new(now));
    let world = governed(&store, |layer| layer);
    let team = Budget::new(Scope::team("search"), Window::Total, usd("1"));
    let key = world.mint(Principal::new("ada").budget_of(team.clone()).budget(Window::Month, usd("100"))).await;
    let nobody = world.mint(Principal::new("bob")).await;
    let session = Session::new(Duration::from_secs(300));
    let name = |name: &str| format!("anthropic-ratelimit-unified-{name}");
    for (spends, utilization, status, surpassed) in [
        ("0.1", "0.10", "allowed", None),
        ("0.65", "0.75", "allowed_warning", Some("0.75")),
        ("0.205", "0.95", "allowed_warning", Some("0.95")),
    ] {
        let wish = Wish { min: usd(spends), want: usd(spends), share: 1 };
        let pots = [team.clone()];
        let asked = Reserve::new(Uuid::now_v7(), session, &pots, wish);
        let Ok(budget::Verdict::Allow(grant)) = store.reserve(&asked, At::Store).await else {
            panic!("there is enough")
        };
        store.settle(&grant.reservation, usd(spends), At::Store).await.expect("memory");
        let answer = ask(&world, &key, HAIKU).await;
        let told = |header: &str| answer.header(&name(header)).map(str::to_owned);
        assert_eq!(answer.status, 200);
        assert_eq!(told("status").as_deref(), Some(status));
        assert_eq!(told("overage-status").as_deref(), Some(status));
        assert_eq!(told("representative-claim").as_deref(), Some("overage"));
        assert_eq!(told("overage-utilization").as_deref(), Some(utilization));
        assert_eq!(told("overage-surpassed-threshold").as_deref(), surpassed);
        assert_eq!((told("reset"), told("overage-reset")), (None, None), "it has no end");
    }
    let answer = ask(&world, &nobody, HAIKU).await;
    assert!(!answer.headers.keys().any(|header| header.as_str().contains("unified")), "{:?}", answer.headers);
    let monthly = world.mint(Principal::new("eve").budget(Window::Month, usd("100"))).await;
    let answer = ask(&world, &monthly, HAIKU).await;
    // The first of December, in seconds since 1970.
    assert_eq!(answer.header(&name("reset")), Some("1796083200"));
    let of_openai = ask(&world, &monthly, "gpt-5").await;
    assert_eq!(of_openai.header(&name("reset")), None, "other clients do not read it");
}

#[tokio::test]
async fn what_is_kept_for_everyone_under_a_key_is_kept_for_that_key_by_its_id_or_its_name() {
    let store = MemoryBudgets::new();
    let hour: Window = "rolling 1h".parse().expect("a window");
    let runaway = Budget::new(Scope::key("ci"), hour, usd("0.000001"));
    let world = governed(&store, |layer| layer.for_everyone(runaway));
    let ci = world.mint(Principal::new("ci")).await;
    let ada = world.mint(Principal::new("ada")).await;
    assert_eq!(ask(&world, &ci, HAIKU).await.status, 429);
    assert_eq!(ask(&world, &ada, HAIKU).await.status, 200);
}

#[tokio::test]
async fn a_model_is_the_same_one_with_a_date_behind_its_name() {
    let store = MemoryBudgets::new();
    let gpt = Budget::new(Scope::model("gpt-5"), Window::Total, usd("10"));
    let world = governed(&store, |layer| layer.for_everyone(gpt));
    let ada = world.mint(Principal::new("ada")).await;
    let spent = async || spent(&store, Scope::model("gpt-5"), Window::Total).await;
    let mut before = Money::ZERO;
    for (model, counts) in [("gpt-5", true), ("gpt-5-2025-08-07", true), ("gpt-5-mini", false)] {
        assert_eq!(ask(&world, &ada, model).await.status, 200);
        let now = spent().await;
        assert_eq!(now > before, counts, "{model}");
        before = now;
    }
}
