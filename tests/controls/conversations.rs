//! The bill for a conversation so far bounds the cost of its next turn.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::budget::Estimator;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::ingest::{IngestLayer, TokenCounter};
use tollgate::testing::{Fault, Script};
use tollgate::{BudgetLayer, Call};

use crate::support::until;
use crate::world::{CHAT, MESSAGES, World, post};

/// A conversation of mostly 200 KB of a tool's output. The last message is marked for the cache, as Claude Code does.
fn turn(model: &str, number: usize) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": "0123456789".repeat(20_000) })];
    for past in 0..number {
        messages.push(json!({ "role": "assistant", "content": [{ "type": "text", "text": format!("turn {past}") }] }));
        messages.push(json!({ "role": "user", "content": [{ "type": "text", "text": "go on" }] }));
    }
    if number > 0 && model.starts_with("claude") {
        messages[2 * number]["content"][0]["cache_control"] = json!({ "type": "ephemeral" });
    }
    json!({ "model": model, "max_tokens": 100, "messages": messages })
}

async fn granted(world: &World, key: &tollgate::domain::key::VirtualKey, body: &Value) -> (Money, Money) {
    let path = if body["model"].as_str().is_some_and(|model| model.starts_with("gpt")) { CHAT } else { MESSAGES };
    let before = world.records().await.len();
    let answer = world.ask(post(path, key, body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let records = world.records().await;
    assert_eq!(records.len(), before + 1);
    let outcome = &records[before];
    (outcome.granted.expect("paid"), outcome.charged.expect("paid"))
}

fn rich(name: &str) -> Principal {
    Principal::new(name).budget_of(Budget::new(
        Scope::team("search"),
        Window::Total,
        "1000".parse().expect("an amount"),
    ))
}

#[tokio::test]
async fn a_turn_that_goes_on_holds_what_the_last_one_was_billed_and_what_is_new() {
    for model in ["claude-haiku-5-5", "gpt-5"] {
        let world = World::new();
        let key = world.mint(rich("ada")).await;
        let (first, charged) = granted(&world, &key, &turn(model, 0)).await;
        for number in 1..5 {
            let (next, actual) = granted(&world, &key, &turn(model, number)).await;
            assert!(next.nanos() * 2 < first.nanos(), "{model}: {next} is held, where the first time it was {first}");
            assert!(next > actual, "{model}: {next} is held for what costs {actual}");
        }
        assert!(first > charged);
        // The last turn again, whose whole prompt is known.
        let (again, actual) = granted(&world, &key, &turn(model, 4)).await;
        assert!(again >= actual && again.nanos() * 2 < first.nanos(), "{model}: {again} and {actual}");
    }
}

#[tokio::test]
async fn what_another_caller_or_another_model_was_billed_says_nothing() {
    let world = World::new();
    let (ada, bob) = (world.mint(rich("ada")).await, world.mint(rich("bob")).await);
    let (first, _) = granted(&world, &ada, &turn("claude-haiku-5-5", 0)).await;
    let (known, _) = granted(&world, &ada, &turn("claude-haiku-5-5", 0)).await;
    assert!(known < first);
    let (of_bob, _) = granted(&world, &bob, &turn("claude-haiku-5-5", 0)).await;
    assert_eq!(of_bob, first);
    let mut changed = turn("claude-haiku-5-5", 1);
    changed["system"] = json!("You are another.");
    let (of_changed, _) = granted(&world, &ada, &changed).await;
    assert!(of_changed > first, "nothing of it is known");
    let mut other_way = post(MESSAGES, &ada, &turn("claude-haiku-5-5", 0));
    other_way.headers_mut().insert("anthropic-beta", "token-efficient-tools-2025-02-19".parse().expect("a value"));
    let before = world.records().await.len();
    assert_eq!(world.ask(other_way).await.status, 200);
    assert_eq!(world.records().await[before].granted, Some(first), "a beta may change what is billed");
}

#[tokio::test]
async fn what_one_dialect_made_of_a_request_says_nothing_of_what_another_makes_of_it() {
    let world = World::new();
    let (ada, bob) = (world.mint(rich("ada")).await, world.mint(rich("bob")).await);
    // Chat Completions has no member `system`, so nothing of it is sent upstream.
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 16, "system": "0123456789".repeat(20_000),
        "messages": [{ "role": "user", "content": "Hello" }] });
    let ask = async |key, path| {
        let before = world.records().await.len();
        assert_eq!(world.ask(post(path, key, &body)).await.status, 200);
        let record = world.records().await.remove(before);
        (record.granted.expect("paid"), record.charged.expect("paid"))
    };
    let (all_of_it, charged) = ask(&bob, MESSAGES).await;
    let (_, without) = ask(&ada, CHAT).await;
    assert!(without.nanos() * 10 < charged.nanos(), "{without}");
    assert_eq!(ask(&ada, MESSAGES).await.0, all_of_it);
    assert!(ask(&ada, MESSAGES).await.0 < all_of_it, "now it is known");
}

#[tokio::test]
async fn a_turn_that_broke_off_teaches_nothing() {
    let world = World::new();
    let key = world.mint(rich("ada")).await;
    let mut body = turn("claude-haiku-5-5", 0);
    body["stream"] = json!(true);
    let stream =
        tower::ServiceExt::oneshot(world.gateway.clone(), post(MESSAGES, &key, &body)).await.expect("infallible");
    drop(stream);
    let first = world.records().await[0].granted.expect("paid");
    let (next, _) = granted(&world, &key, &body).await;
    assert_eq!(next, first);
}

/// A token counter for requests of up to this many bytes, which counts four bytes as a token.
struct Quarter(usize);

#[async_trait]
impl TokenCounter for Quarter {
    async fn count(&self, call: &Call, body: &Bytes) -> Option<u64> {
        assert!(call.model().is_some() && call.principal().is_some(), "both are known");
        (body.len() <= self.0).then_some(body.len() as u64 / 4)
    }
}

#[tokio::test]
async fn each_estimator_holds_what_it_says() {
    let first = turn("claude-haiku-5-5", 0).to_string().len();
    let grant = async |estimator| {
        let world = World::with(|layer| {
            let budgets = BudgetLayer::new(tollgate::store::memory::MemoryBudgets::new());
            layer.budget(budgets.estimator(estimator)).ingest(IngestLayer::new().count_by(Quarter(first)))
        });
        let key = world.mint(rich("ada")).await;
        let (first, _) = granted(&world, &key, &turn("claude-haiku-5-5", 0)).await;
        let (second, _) = granted(&world, &key, &turn("claude-haiku-5-5", 1)).await;
        (first, second)
    };
    let (proven, observed, likely) =
        (grant(Estimator::Proven).await, grant(Estimator::Observed).await, grant(Estimator::Likely).await);
    assert!(proven.0 < proven.1 && proven.0 == observed.0);
    let counted = grant(Estimator::Counted).await;
    // The counter's quarter token per byte plus a twentieth is less than half of the proven token per byte. The second
    // turn is too large for the counter.
    assert!(counted.0.nanos() * 2 < proven.0.nanos() && counted.1 == proven.1, "{counted:?} {proven:?}");
    assert!(observed.1 < proven.1 && likely.0.nanos() * 2 < proven.0.nanos(), "{observed:?} {likely:?} {proven:?}");
}

#[tokio::test]
async fn a_stream_says_in_its_last_usage_what_the_call_has_cost_where_that_is_wanted() {
    for (model, path, wanted) in [
        ("claude-haiku-5-5", MESSAGES, true),
        ("gpt-5", CHAT, true),
        ("gpt-5", MESSAGES, true),
        ("claude-haiku-5-5", CHAT, true),
        ("gpt-5", CHAT, false),
    ] {
        let world =
            World::with(|layer| if wanted { layer.rewrite(tollgate::rewrite::CostInUsage::new()) } else { layer });
        let key = world.mint(rich("ada")).await;
        let mut body = json!({ "model": model, "max_tokens": 100, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
        if path == CHAT {
            body["stream_options"] = json!({ "include_usage": true });
        }
        let answer = world.ask(post(path, &key, &body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let events =
            answer.text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let usages: Vec<Value> =
            events.filter_map(|event| event.get("usage").filter(|usage| !usage.is_null()).cloned()).collect();
        let told = usages.last().expect("a usage")["cost_usd"].as_str().map(str::to_owned);
        let records = world.records().await;
        let cost = records[0].cost.expect("a price").to_string();
        assert_eq!(told, wanted.then_some(cost), "{model} by {path}: {}", answer.text);
        assert!(usages.last().expect("a usage").as_object().expect("an object").len() > 1, "beside what it was");
    }
}

#[tokio::test]
async fn who_leaves_a_call_that_was_guessed_too_small_is_charged_what_it_can_have_cost() {
    for (estimator, beyond) in [(Estimator::Proven, false), (Estimator::Likely, true), (Estimator::Counted, true)] {
        let world = World::with(|layer| {
            let budgets = BudgetLayer::new(tollgate::store::memory::MemoryBudgets::new());
            layer.budget(budgets.estimator(estimator)).ingest(IngestLayer::new().count_by(Quarter(usize::MAX)))
        });
        let key = world.mint(rich("ada")).await;
        let asked = post(CHAT, &key, &turn("gpt-5", 0));
        let stall = Script::new().fault(Fault::Stall, 1);
        world.provider.script(stall);
        let answer = tower::ServiceExt::oneshot(world.gateway.clone(), asked);
        // The client leaves as soon as the provider has the request, so there is no answer.
        tokio::select! {
            answer = answer => drop(answer),
            () = until("the provider is asked", || !world.provider.received().is_empty()) => {}
        }
        let records = world.records().await;
        let outcome = &records[0];
        let (granted, charged) = (outcome.granted.expect("held"), outcome.charged.expect("held"));
        assert_eq!(charged > granted, beyond, "{estimator:?}: {charged} of {granted}");
    }
}
