//! The money that is held is for the model that is charged, and bounds its output. This includes clients that name no
//! limit, inner layers that choose the model, and two layers over one store.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::catalog::{Catalog, ModelCard, Prices, Terms};
use tollgate::domain::ledger::Wish;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::domain::usage::Usage;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::route::ModelTable;
use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::{At, Session};
use tollgate::translate::TranslateLayer;
use tollgate::{Body, CallLayer, Dialect, GatewayLayer, IngestLayer, MeterLayer, RouteLayer};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::oracle::price;
use crate::site::{Closed, Site, catalog, mint, pepper};
use crate::support::log::Log;
use crate::watched::now;

const CHAT: &str = "/v1/chat/completions";

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

fn card(name: &str, input: &str, output: &str) -> ModelCard {
    ModelCard::new(name, Prices::new(input.parse().expect("a price"), output.parse().expect("a price")))
}

/// A site with this catalog, whose only key has this budget.
fn site(budget: Budget, catalog: Catalog, more: impl FnOnce(GatewayLayer) -> GatewayLayer) -> (Site, String) {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada").budget_of(budget));
    let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()));
    (Site::with(keys, limits, budgets, |layer| more(layer.catalog(catalog))), key)
}

fn total(limit: &str) -> Budget {
    Budget::new(Scope::user("ada"), Window::Total, usd(limit))
}

/// Makes a Chat Completions call. Returns whether the client was told of a clamp, the upstream's body, and the outcome.
async fn ask(site: &Site, key: &str, body: &str) -> (bool, Value, Outcome) {
    let request = Request::post(CHAT).header("x-api-key", key).body(Body::from(body.to_owned()));
    let answer = site.gateway.clone().oneshot(request.expect("a request")).await.expect("infallible");
    assert_eq!(answer.status(), 200, "{body:.200}");
    let is_told = answer.headers().contains_key("x-tollgate-clamped");
    answer.into_body().collect().await.expect("whole");
    let outcome = site.only().await;
    (is_told, serde_json::from_slice(&site.provider.received()[0].body).expect("JSON"), outcome)
}

fn stated(sent: &Value) -> Vec<u64> {
    ["max_tokens", "max_completion_tokens"].iter().filter_map(|name| sent[*name].as_u64()).collect()
}

#[tokio::test]
async fn a_client_that_names_no_limit_gets_the_one_that_is_held_for_though_the_budget_reaches_for_all_of_it() {
    for (limits, named) in [("", 1), (r#""max_tokens":null,"#, 1), (r#""max_completion_tokens":4000,"#, 2)] {
        let (site, key) = site(total("100"), catalog(), |layer| layer);
        let body =
            format!(r#"{{"model":"gpt-storm",{limits}"messages":[{{"role":"user","content":"sim:deltas=9000"}}]}}"#);
        let (is_told, sent, outcome) = ask(&site, &key, &body).await;
        let most = if limits.contains("4000") { 4_000 } else { 8_192 };
        let stated = stated(&sent);
        assert!((1..=named).contains(&stated.len()) && stated.iter().all(|stated| *stated == most), "{limits}: {sent}");
        assert_eq!((is_told, outcome.clamped), (false, None), "nothing was cut down: {limits}");
        let line = &site.provider.bill().lines()[0];
        assert_eq!((line.output, outcome.charged), (most, Some(price(line))), "{limits}");
        assert!(outcome.charged <= outcome.granted, "{limits}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_client_that_names_no_limit_is_asked_for_as_it_came_where_no_budget_refuses_anything() {
    let free = card("gpt-storm", "0", "0");
    for (budget, catalog) in [
        (total("100").soft(), catalog()),
        // A model without a known maximum of output, which costs nothing.
        (total("100"), catalog().with(free)),
    ] {
        let (site, key) = site(budget, catalog, |layer| layer);
        let body = r#"{ "model": "gpt-storm", "messages": [{"role":"user","content":"sim:deltas=9"}] }"#;
        let (is_told, _, _) = ask(&site, &key, body).await;
        assert!(!is_told);
        assert_eq!(site.provider.received()[0].body, body);
    }
}

#[tokio::test]
async fn the_limit_that_nobody_named_is_said_where_the_window_has_room_for_it_and_is_no_more_than_its_model_gives() {
    let small = || card("gpt-storm", "3", "15").context_window(10_000).max_output(8_000);
    // If the input leaves no room for the limit, no limit is sent. A server that counts both would refuse it, and the
    // window bounds the output anyway.
    for (bytes, said) in [(100, &[8_000][..]), (1_500, &[8_000]), (2_500, &[]), (40_000, &[])] {
        let (site, key) = site(total("100"), catalog().with(small()), |layer| layer);
        let content = format!("sim:deltas=9 {}", "x".repeat(bytes));
        let body = json!({ "model": "gpt-storm", "messages": [{ "role": "user", "content": content }] }).to_string();
        let (_, sent, outcome) = ask(&site, &key, &body).await;
        assert_eq!(stated(&sent), said, "{bytes}");
        assert!(outcome.granted.expect("granted").nanos() >= 8_000 * 15_000, "held for all the same: {outcome:?}");
    }

    // The client's own limit is also sent under the other name, which is the only one that some servers know, whether
    // or not there is room for it.
    let llama = card("llama-storm", "3", "15").context_window(10_000).max_output(8_000);
    let table = ModelTable::new().pattern("llama*", "openai", Dialect::OpenAiChat);
    let (site, key) = site(total("100"), catalog().with(llama), |layer| layer.router(table));
    let content = format!("sim:deltas=9 {}", "x".repeat(40_000));
    let body = json!({
        "model": "llama-storm", "max_completion_tokens": 4_000, "messages": [{ "role": "user", "content": content }],
    });
    let (_, sent, _) = ask(&site, &key, &body.to_string()).await;
    assert_eq!(stated(&sent), [4_000, 4_000]);

    // The hold covers the largest output of any target. The limit that is sent is that of the target.
    let catalog = catalog().with(card("gpt-tiny", "3", "15").context_window(200_000).max_output(1_000));
    let table = ModelTable::new().pattern("gpt*", "openai", Dialect::OpenAiChat);
    let table = table.alias("gpt-any", ["gpt-tiny", "gpt-storm"]);
    let narrow = catalog.clone().with(small());
    let (site, key) = self::site(total("100"), catalog, |layer| layer.router(table.clone()));
    let body = r#"{"model":"gpt-any","messages":[{"role":"user","content":"sim:deltas=9"}]}"#;
    let (_, sent, outcome) = ask(&site, &key, body).await;
    assert_eq!((&sent["model"], stated(&sent)), (&json!("gpt-tiny"), vec![1_000]));
    assert!(outcome.granted.expect("granted").nanos() > 8_192 * 15_000, "{outcome:?}");

    // One of the possible targets has no room for the limit.
    let (site, key) = self::site(total("100"), narrow, |layer| layer.router(table));
    let content = format!("sim:deltas=9 {}", "x".repeat(40_000));
    let body = json!({ "model": "gpt-any", "messages": [{ "role": "user", "content": content }] });
    let (_, sent, _) = ask(&site, &key, &body.to_string()).await;
    assert_eq!((&sent["model"], stated(&sent)), (&json!("gpt-tiny"), vec![]));
}

/// A host's service, and the count of its requests.
fn mine(
    answer: &'static str,
) -> (
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    Arc<AtomicUsize>,
) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let service = service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let answer = Response::builder().header("content-type", "application/json").body(Body::from(answer));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    (service, asked)
}

const MESSAGE: &str = r#"{"type":"message","role":"assistant","content":[],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":5}}"#;
const COMPLETION: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#;

fn dear(name: &str) -> ModelCard {
    card(name, "30", "150").context_window(200_000).max_output(8_192)
}

fn cost(card: &ModelCard) -> Option<Money> {
    card.cost(&Usage { input: 9, output: 5, ..Usage::default() }, Terms::default())
}

const QUESTION: &str = r#"{"model":"claude-NAME","max_tokens":50,"messages":[{"role":"user","content":"a"}]}"#;

#[tokio::test]
async fn in_front_of_the_hosts_own_service_a_call_is_charged_by_the_model_that_was_held_for() {
    let table = || {
        let table = ModelTable::new().pattern("claude*", "mine", Dialect::Anthropic);
        // The first alias has its own price, and the second has none.
        let table = table.alias("claude-cheap", ["claude-dear"]).alias("claude-fast", ["claude-dear"]);
        table.alias("claude-any", ["claude-storm", "claude-dear"])
    };
    for name in ["cheap", "fast", "any"] {
        let (keys, budgets, closed) = (MemoryKeys::new(), MemoryBudgets::new(), Closed::default());
        let (record, key) = mint(&keys, Principal::new("ada").budget_of(total("9")));
        let (observer, (service, asked)) = (closed.clone(), mine(MESSAGE));
        let cheap = card("claude-cheap", "0.1", "0.5").context_window(200_000).max_output(8_192);
        let stack = GatewayLayer::new()
            .auth(KeyAuthLayer::new(keys, pepper()))
            .budget(BudgetLayer::new(budgets.clone()))
            .catalog(catalog().with(cheap).with(dear("claude-dear").price_version("dear")))
            .router(table())
            .on_close(move |outcome| observer.lock().push(Outcome::clone(outcome)))
            .layer(service);
        let body = Body::from(QUESTION.replace("NAME", name));
        let request = Request::post("/v1/messages").header("x-api-key", &key).body(body).expect("a request");
        let answer = stack.oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200, "{name}");
        answer.into_body().collect().await.expect("whole");
        let outcome = closed.lock()[0].clone();
        assert_eq!(outcome.charged, cost(&dear("claude-dear")), "{name}: {outcome:?}");
        assert!(outcome.charged < outcome.granted, "{name}: {outcome:?}");
        assert_eq!(outcome.attempts[0].price_version.as_deref(), Some("dear"), "{name}");
        let standing = now(budgets.standing(&record.principal.budgets, At::Store)).expect("memory");
        assert_eq!((Some(standing[0].spent), standing[0].held), (outcome.charged, Money::ZERO), "{name}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Asks a hand-built stack as a principal with this budget. Returns the status and the outcome.
async fn by_hand(stack: Stack, model: &str, budget: Budget) -> (u16, Outcome) {
    let closed = Closed::default();
    let observer = closed.clone();
    let catalog = catalog().with(dear("gpt-dear"));
    let call = CallLayer::new().catalog(catalog).on_close(move |outcome| observer.lock().push(Outcome::clone(outcome)));
    let body = Body::from(QUESTION.replace("NAME", model));
    let mut request = Request::post("/v1/messages").body(body).expect("a request");
    request.extensions_mut().insert(Arc::new(Principal::new("ada").budget_of(budget)));
    let answer = call.layer(IngestLayer::new().layer(stack)).oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    answer.into_body().collect().await.expect("whole");
    let outcome = closed.lock()[0].clone();
    (status, outcome)
}

#[tokio::test]
async fn a_translation_asks_for_no_model_that_the_money_was_not_granted_for() {
    let table = || {
        let table = ModelTable::new().pattern("gpt*", "mine", Dialect::OpenAiChat);
        let table = table.alias("claude-any", ["gpt-dear"]).alias("claude-storm", ["gpt-storm"]);
        RouteLayer::new(table.alias("claude-two", ["gpt-dear", "gpt-storm"]))
    };
    for (model, translated, is_routed, status) in [
        ("storm", Some("gpt-dear"), false, 500),
        ("storm", Some("gpt-dear"), true, 500),
        ("any", Some("gpt-dear"), true, 200),
        // Without a model of its own, the translation asks for the route's model, or else for the client's.
        ("any", None, true, 200),
        ("storm", None, false, 200),
        // It does not choose among several targets.
        ("two", None, true, 500),
    ] {
        let what = format!("{model} as {translated:?}, routed: {is_routed}");
        let (budgets, (service, asked)) = (MemoryBudgets::new(), mine(COMPLETION));
        let translate = TranslateLayer::new(Dialect::OpenAiChat);
        let translate = translated.map_or(translate.clone(), |model| translate.model(model));
        let stack = translate.layer(MeterLayer::new().layer(service));
        let mut stack = Stack::new(BudgetLayer::new(budgets.clone()).layer(stack));
        if is_routed {
            stack = Stack::new(table().layer(stack));
        }
        let (answered, outcome) = by_hand(stack, model, total("9")).await;
        assert_eq!((answered, asked.load(Ordering::SeqCst)), (status, usize::from(status == 200)), "{what}");
        let due = match (status, translated) {
            (500, _) => Some(Money::ZERO),
            (_, None) if !is_routed => cost(catalog().find("claude-storm").expect("a price")),
            _ => cost(&dear("gpt-dear")),
        };
        assert_eq!(outcome.charged, due, "{what}: {outcome:?}");
        assert!(outcome.charged <= outcome.granted, "{what}");
        let standing = now(budgets.standing(&[total("9")], At::Store)).expect("memory");
        assert_eq!((Some(standing[0].spent), standing[0].held), (due, Money::ZERO), "{what}");
    }
}

#[tokio::test]
async fn what_costs_more_than_was_held_is_charged_whole_and_said() {
    for (output, is_said) in [("5", false), ("50000", true)] {
        let (log, _listening) = Log::listen();
        let answer = MESSAGE.replace(r#""output_tokens":5"#, &format!(r#""output_tokens":{output}"#));
        let (service, _) = mine(answer.leak());
        let stack = Stack::new(BudgetLayer::new(MemoryBudgets::new()).layer(MeterLayer::new().layer(service)));
        let (_, outcome) = by_hand(stack, "storm", total("9")).await;
        assert_eq!(outcome.charged > outcome.granted, is_said, "{outcome:?}");
        let said = log.text().lines().any(|line| {
            line.contains("a call was charged more than was held for it") && line.contains(&outcome.id.to_string())
        });
        assert_eq!(said, is_said, "{}", log.text());
    }
}

#[tokio::test]
async fn soft_budgets_pay_for_whatever_model_is_asked_for() {
    let (service, asked) = mine(COMPLETION);
    let translate = TranslateLayer::new(Dialect::OpenAiChat).model("gpt-dear");
    let stack = translate.layer(MeterLayer::new().layer(service));
    let soft = |inner| Stack::new(BudgetLayer::new(MemoryBudgets::new()).layer(inner));
    let table = ModelTable::new().pattern("gpt*", "mine", Dialect::OpenAiChat).alias("claude-storm", ["gpt-dear"]);
    let routed = Stack::new(RouteLayer::new(table).layer(stack.clone()));
    for (at, inner) in [Stack::new(stack.clone()), routed].into_iter().enumerate() {
        let (answered, outcome) = by_hand(soft(inner), "storm", total("9").soft()).await;
        assert_eq!((answered, asked.load(Ordering::SeqCst)), (200, at + 1));
        assert_eq!(outcome.charged, cost(&dear("gpt-dear")), "{outcome:?}");
    }

    // An outer hard budget has held money for the model that the client named.
    let everyone = Budget::new(Scope::global(), Window::Day, usd("5"));
    let hard = BudgetLayer::new(MemoryBudgets::new()).for_everyone(everyone);
    let (answered, _) = by_hand(Stack::new(hard.layer(soft(Stack::new(stack)))), "storm", total("9").soft()).await;
    assert_eq!((answered, asked.load(Ordering::SeqCst)), (500, 2));
}

#[tokio::test]
async fn two_layers_over_one_store_that_pay_from_different_pots_let_nothing_through() {
    let day = |limit| Budget::new(Scope::global(), Window::Day, usd(limit));
    for (own, outer, inner, status) in [
        (total("9"), None, Some(day("5")), 500),
        (total("9"), Some(day("5")), None, 200),
        (total("9"), Some(day("5")), Some(day("5")), 200),
        (total("9"), None, None, 200),
        (total("9").soft(), None, Some(day("5").soft()), 500),
        (total("9").soft(), None, None, 200),
    ] {
        let what = format!("{own:?}, {outer:?}, {inner:?}");
        let (budgets, (service, asked)) = (MemoryBudgets::new(), mine(MESSAGE));
        let layer = |everyone: &Option<Budget>| {
            let layer = BudgetLayer::new(budgets.clone());
            everyone.iter().cloned().fold(layer, BudgetLayer::for_everyone)
        };
        let inner_most = layer(&inner).layer(MeterLayer::new().layer(service));
        let stack = Stack::new(layer(&outer).layer(inner_most));
        let (answered, outcome) = by_hand(stack, "storm", own.clone()).await;
        assert_eq!((answered, asked.load(Ordering::SeqCst)), (status, usize::from(status == 200)), "{what}");
        let due =
            if status == 200 { cost(catalog().find("claude-storm").expect("a price")) } else { Some(Money::ZERO) };
        assert_eq!(outcome.charged, due, "{what}: {outcome:?}");
        for pot in [own].into_iter().chain(outer) {
            let standing = now(budgets.standing(&[pot], At::Store)).expect("memory");
            assert_eq!((Some(standing[0].spent), standing[0].held), (due, Money::ZERO), "{what}");
        }
    }
}

#[tokio::test]
async fn a_model_that_costs_nothing_may_be_asked_for_when_its_budget_is_spent_and_not_where_there_is_none() {
    for (limit, status) in [("0.001", 200), ("0", 429)] {
        let (keys, budgets) = (MemoryKeys::new(), MemoryBudgets::new());
        let (record, key) = mint(&keys, Principal::new("ada").budget_of(total(limit)));
        let (pots, all) = (&record.principal.budgets, usd(limit));
        let session = Session::new(std::time::Duration::from_secs(300));
        let wish = Wish { min: all, want: all, share: 1 };
        let reserved = now(budgets.reserve(&Reserve::new(uuid::Uuid::now_v7(), session, pots, wish), At::Store));
        if let Verdict::Allow(grant) = reserved.expect("memory") {
            now(budgets.settle(&grant.reservation, all, At::Store)).expect("memory");
        }
        let (limits, layer) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(budgets.clone()));
        let catalog = catalog().with(card("claude-free", "0", "0"));
        let site = Site::with(keys, limits, layer, |layer| layer.catalog(catalog));
        for (model, status) in [("free", status), ("storm", 429)] {
            let body = Body::from(QUESTION.replace("NAME", model));
            let request = Request::post("/v1/messages").header("x-api-key", &key).body(body).expect("a request");
            let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
            assert_eq!(answer.status(), status, "{model} of {limit}");
            answer.into_body().collect().await.expect("whole");
        }
        site.settled().await;
        let free = site.closed.lock()[0].clone();
        assert_eq!(free.charged.unwrap_or_default(), Money::ZERO, "{free:?}");
        let standing = now(budgets.standing(pots, At::Store)).expect("memory");
        assert_eq!((standing[0].spent, standing[0].held), (all, Money::ZERO), "{limit}");
    }
}
