use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::domain::usage::Usage;
use tollgate::store::At;
use tollgate::store::budget::{BudgetStore, Standing};
use tollgate::testing::{Line, Script};
use tollgate::{BudgetLayer, GatewayLayer};
use tower::ServiceExt;

use crate::world::{CHAT, MESSAGES, World, post};

const MODEL: &str = "claude-haiku-5-5";

pub(crate) fn hello(max_tokens: u64) -> Value {
    json!({ "model": MODEL, "max_tokens": max_tokens, "messages": [{ "role": "user", "content": "Hello" }] })
}

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

/// A pot of a team, which tests can look up without the key's id.
fn team(limit: &str) -> Budget {
    Budget::new(Scope::team("search"), Window::Day, usd(limit))
}

pub(crate) fn ada(limit: &str) -> Principal {
    Principal::new("ada").budget_of(team(limit))
}

/// The store in memory settles at once, so there is no drain, which would wait for calls that are meant to stay open.
pub(crate) async fn standing(world: &World) -> Standing {
    world.budgets.standing(&[team("1")], At::Store).await.expect("memory").remove(0)
}

pub(crate) fn price(line: &Line) -> Money {
    let usage = Usage { input: line.input, output: line.output, ..Usage::default() };
    Catalog::builtin().find(&line.model).expect("a price").cost(&usage, Terms::default()).expect("an amount")
}

#[tokio::test]
async fn a_call_is_charged_what_the_provider_bills() {
    let world = World::new();
    let key = world.mint(ada("1")).await;
    for stream in [false, true] {
        let mut body = hello(64);
        body["stream"] = json!(stream);
        let answer = world.ask(post(MESSAGES, &key, &body)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("x-tollgate-budget-remaining-usd").expect("told").starts_with("0.99"), "{answer:?}");
    }
    let bill: Money = world.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    let standing = standing(&world).await;
    assert_eq!((standing.spent, standing.held), (bill, Money::ZERO));
    let charged = world.records().await.iter().filter_map(|r| r.charged).fold(Money::ZERO, Money::saturating_add);
    assert_eq!(charged, bill);
}

#[tokio::test]
async fn money_is_held_for_all_that_a_call_may_cost_until_it_ends() {
    let world = World::new();
    let key = world.mint(ada("1")).await;
    let mut body = hello(1_000);
    body["stream"] = json!(true);
    let mut stream = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible").into_body();
    stream.frame().await.expect("a frame").expect("no error");
    let held = standing(&world).await.held;
    let output = Usage { output: 1_000, ..Usage::default() };
    let least = Catalog::builtin().find(MODEL).expect("a price").cost(&output, Terms::default()).expect("an amount");
    assert!(held > least, "{held} is held for 1,000 tokens that cost {least}");
    stream.collect().await.expect("whole");
    assert_eq!(standing(&world).await.held, Money::ZERO);
}

#[tokio::test]
async fn a_spent_budget_is_told_with_its_reset_and_not_to_be_retried() {
    let world = World::new();
    let key = world.mint(ada("0.0001")).await;
    let lifetime = world.mint(Principal::new("bob").budget(Window::Total, usd("0"))).await;
    let answer = world.refused(|| post(MESSAGES, &key, &hello(64))).await;
    assert_eq!(answer.error(), (429, "billing_error".to_owned(), json!(null)));
    assert_eq!(answer.header("retry-after"), Some("54000"), "until midnight, UTC");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    for words in ["the day budget of team search", "$0.0001", "2026-11-25T00:00:00Z"] {
        assert!(answer.message().contains(words), "{}", answer.message());
    }
    let mut body = hello(64);
    body["model"] = json!("gpt-5");
    let answer = world.ask(post(CHAT, &key, &body)).await;
    assert_eq!(answer.error(), (429, "insufficient_quota".to_owned(), json!("insufficient_quota")));
    let answer = world.ask(post(MESSAGES, &lifetime, &hello(64))).await;
    assert_eq!(answer.error().1, "billing_error");
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (None, Some("false")));
    assert_eq!(world.provider.received().len(), world.provider.bill().lines().len(), "what is refused goes nowhere");
    world.clock.advance(Duration::from_secs(54_000));
    assert_eq!(world.ask(post(MESSAGES, &key, &hello(64))).await.status, 200, "a new day");
}

#[tokio::test]
async fn a_budget_held_by_calls_in_flight_is_told_from_one_that_is_spent() {
    let world = World::with(|layer| layer);
    let card = Catalog::builtin().find(MODEL).expect("a price").clone();
    let output = Usage { output: 1_500, ..Usage::default() };
    let limit = card.cost(&output, Terms::default()).expect("an amount");
    let key = world.mint(ada(&limit.to_string())).await;
    let mut body = hello(1_024);
    body["stream"] = json!(true);
    let first = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
    assert_eq!(first.status(), 200);
    let answer = world.ask(post(MESSAGES, &key, &body)).await;
    assert_eq!(answer.error(), (429, "rate_limit_error".to_owned(), json!(null)), "{}", answer.text);
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("1"), None));
    world.clock.advance(Duration::from_secs(40));
    first.into_body().collect().await.expect("whole");
    world.settlements.drain().await;
    let second = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
    assert_eq!(second.status(), 200);
    world.clock.advance(Duration::from_secs(10));
    let answer = world.ask(post(MESSAGES, &key, &body)).await;
    assert_eq!(answer.header("retry-after"), Some("30"), "when the one that holds it has taken as long as one does");
}

#[tokio::test]
async fn what_is_left_cuts_the_answer_down_and_says_so() {
    let world = World::new();
    let key = world.mint(ada("0.05")).await;
    let answer = world.ask(post(MESSAGES, &key, &hello(128_000))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cap: u64 = answer.header("x-tollgate-clamped").expect("told").parse().expect("a number");
    let sent: Value = serde_json::from_slice(&world.provider.received()[0].body).expect("JSON");
    assert_eq!(sent["max_tokens"], json!(cap));
    assert!((1_024..128_000).contains(&cap), "{cap}");
    let record = &world.records().await[0];
    assert_eq!(record.clamped, Some(cap));
    let granted = record.granted.expect("held");
    assert!(granted <= usd("0.0125"), "a quarter of what was left, and it was {granted}");
}

#[tokio::test]
async fn a_clamp_never_comes_down_to_what_is_set_aside_for_thinking() {
    let world = World::new();
    let key = world.mint(ada("0.02")).await;
    let mut body = hello(64_000);
    body["thinking"] = json!({ "type": "enabled", "budget_tokens": 5_000 });
    let answer = world.ask(post(MESSAGES, &key, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cap: u64 = answer.header("x-tollgate-clamped").expect("told").parse().expect("a number");
    assert!(cap > 5_000, "{cap}");
    body["thinking"]["budget_tokens"] = json!(60_000);
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.error().1, "billing_error");
}

#[tokio::test]
async fn all_or_nothing_is_a_choice() {
    use tollgate::budget::OverBudget;
    use tollgate::store::memory::MemoryBudgets;
    let change =
        |layer: GatewayLayer| layer.budget(BudgetLayer::new(MemoryBudgets::new()).over_budget(OverBudget::Reject));
    let world = World::with(change);
    let key = world.mint(ada("0.05")).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &hello(128_000))).await.error().1, "billing_error");
    let answer = world.ask(post(MESSAGES, &key, &hello(1_000))).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-tollgate-clamped")), (200, None));
}

#[tokio::test]
async fn a_model_without_a_price_is_not_paid_from_a_budget() {
    let world = World::new();
    let paid = world.mint(ada("1")).await;
    let free = world.mint(Principal::new("free")).await;
    let mut body = hello(64);
    body["model"] = json!("claude-unheard-of");
    let answer = world.ask(post(MESSAGES, &paid, &body)).await;
    assert_eq!(answer.error(), (400, "invalid_request_error".to_owned(), json!(null)));
    assert!(answer.message().contains("claude-unheard-of"), "{}", answer.text);
    assert_eq!(world.ask(post(MESSAGES, &free, &body)).await.status, 200);
}

#[tokio::test]
async fn what_became_of_a_call_says_what_it_is_charged() {
    let world = World::new();
    let key = world.mint(ada("1")).await;
    // (directive, streamed, unknown): if the cost is unknown, its bound is charged, which is at most the grant.
    // Otherwise the bill is charged, or nothing if there is none.
    for (directive, stream, unknown) in [
        ("sim:status=500", false, false),
        ("sim:status=529", true, false),
        ("sim:nousage", false, true),
        ("sim:abort=3", true, true),
        ("sim:end=3", true, true),
        ("sim:error=3", true, true),
        ("sim:garbage=3", true, true),
        ("sim:html", false, false),
        ("sim:deltas=20", true, false),
    ] {
        let before = standing(&world).await.spent;
        let lines = world.provider.bill().lines().len();
        let mut body = hello(64);
        body["stream"] = json!(stream);
        body["messages"][0]["content"] = json!(directive);
        let answer = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
        // Some of these answers break off. Only the account matters here.
        let _ = answer.into_body().collect().await;
        let standing = standing(&world).await;
        let charged = standing.spent.saturating_sub(before);
        let record = world.records().await.pop().expect("a record");
        let granted = record.granted.expect("held");
        let billed: Money =
            world.provider.bill().lines()[lines..].iter().map(price).fold(Money::ZERO, Money::saturating_add);
        assert_eq!(standing.held, Money::ZERO, "{directive}");
        assert_eq!(record.charged, Some(charged), "{directive}");
        let bound = if unknown { granted } else { billed };
        assert!(charged >= billed && charged <= bound, "{directive}: {billed} <= {charged} <= {bound}");
        // A second is enough to make all the tokens that were asked for.
        assert!(!unknown || charged.nanos() * 2 > granted.nanos(), "{directive}: {charged} of {granted}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_pays_for_what_its_time_can_have_made_and_never_more_than_was_granted() {
    for (max_tokens, whole) in [(64, true), (30_000, false)] {
        let world = World::new();
        let key = world.mint(ada("1")).await;
        world.provider.script(Script::new().deltas(50));
        let mut body = hello(max_tokens);
        body["stream"] = json!(true);
        let asked = world.gateway.clone().oneshot(post(MESSAGES, &key, &body));
        let mut stream = asked.await.expect("infallible").into_body();
        for _ in 0..9 {
            stream.frame().await.expect("a frame").expect("no error");
        }
        drop(stream);
        let standing = standing(&world).await;
        let record = world.records().await.pop().expect("a record");
        let outcome = &record;
        let (charged, granted) = (outcome.charged.expect("held"), outcome.granted.expect("held"));
        assert_eq!((standing.spent, standing.held), (charged, Money::ZERO));
        let billed = price(&world.provider.bill().lines()[0]);
        assert!(charged >= billed && charged <= granted, "{billed} <= {charged} <= {granted}");
        // 64 tokens can be made in no time.
        assert!(
            if whole { charged.nanos() > granted.nanos() / 2 } else { charged.nanos() < granted.nanos() / 10 },
            "{charged} of {granted}"
        );
    }
}

#[tokio::test]
async fn counting_tokens_costs_nothing() {
    let world = World::new();
    let key = world.mint(ada("0")).await;
    let answer = world.ask(post("/v1/messages/count_tokens", &key, &hello(64))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(world.ask(post(MESSAGES, &key, &hello(64))).await.error().1, "billing_error");
}

#[tokio::test]
async fn what_goes_upstream_is_no_more_than_was_priced() {
    let world = World::new();
    let key = world.mint(ada("1000")).await;
    let most = Catalog::builtin().find(MODEL).expect("a price").max_output;
    world.provider.script(Script::new().deltas(most + 500));
    let answer = world.ask(post(MESSAGES, &key, &hello(most + 1_000))).await;
    assert_eq!(answer.header("x-tollgate-clamped"), Some(&*most.to_string()));
    let sent: Value = serde_json::from_slice(&world.provider.received()[0].body).expect("JSON");
    assert_eq!(sent["max_tokens"], json!(most));
    let record = &world.records().await[0];
    assert!(record.charged <= record.granted, "{record:?}");
}

#[tokio::test]
async fn a_header_does_not_widen_what_was_priced() {
    let world = World::new();
    let key = world.mint(ada("1000")).await;
    let mut request = post(MESSAGES, &key, &json!({ "model": "claude-haiku-4-5", "max_tokens": 64, "messages": [] }));
    request.headers_mut().insert("anthropic-beta", "tools-2026, context-1m-2025-08-07".parse().expect("text"));
    let answer = world.ask(request).await;
    assert_eq!(answer.error().0, 400);
    assert!(answer.message().contains("anthropic-beta"), "{}", answer.text);
    let mut request = post(CHAT, &key, &json!({ "model": "gpt-5", "max_tokens": 64, "messages": [] }));
    request.headers_mut().insert("anthropic-beta", "context-1m-2025-08-07".parse().expect("text"));
    assert_eq!(world.ask(request).await.status, 400, "untranslated, it goes to the server");
    // The header changes nothing for a model whose window is as large without it, nor for one that it is not sent to.
    for body in
        [hello(64), json!({ "model": "gpt-5", "max_tokens": 64, "messages": [{ "role": "user", "content": "hi" }] })]
    {
        let mut request = post(MESSAGES, &key, &body);
        request.headers_mut().insert("anthropic-beta", "context-1m-2025-08-07".parse().expect("text"));
        let answer = world.ask(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_cap_of_a_gate_before_it_lowers_what_is_held() {
    struct Cap;
    #[async_trait::async_trait]
    impl tollgate::Gate for Cap {
        async fn admit(
            &self,
            _parts: &mut http::request::Parts,
            call: &tollgate::Call,
        ) -> Result<(), tollgate::Rejection> {
            call.cap_max_tokens(100);
            Ok(())
        }
    }
    let world = World::with(|layer| layer.gate(Cap));
    let key = world.mint(ada("1000")).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &hello(64_000))).await.status, 200);
    let output = Usage { output: 200, ..Usage::default() };
    let little = Catalog::builtin().find(MODEL).expect("a price").cost(&output, Terms::default()).expect("an amount");
    let granted = world.records().await[0].granted.expect("held");
    assert!(granted < little.saturating_add(little), "{granted} for 100 tokens of output");
}

#[tokio::test]
async fn zeros_are_no_usage() {
    let world = World::new();
    let key = world.mint(ada("1")).await;
    let zeros = r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let service = tower::service_fn(move |_request: http::Request<tollgate::Body>| async move {
        let mut answer = http::Response::new(tollgate::Body::from(zeros));
        answer.headers_mut().insert("content-type", "application/json".parse().expect("text"));
        Ok::<_, std::convert::Infallible>(answer)
    });
    let (mut outcomes, observer) = crate::support::Outcomes::new();
    let governed = GatewayLayer::new()
        .auth(tollgate::KeyAuthLayer::new(world.keys.clone(), world.pepper.clone()))
        .budget(BudgetLayer::new(world.budgets.clone()))
        .on_close(observer);
    let mut body = hello(64);
    body["model"] = json!("gpt-5");
    let answer = crate::world::ask(tower::Layer::layer(&governed, service), post(CHAT, &key, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let outcome = outcomes.next().await;
    assert_eq!(outcome.charged, outcome.granted);
    assert!(outcome.granted.is_some());
}

#[tokio::test]
async fn a_stack_by_hand_whose_service_applies_no_edits_is_granted_all_or_nothing() {
    use tower::Layer as _;
    let world = World::new();
    let service = tower::service_fn(|_request: http::Request<tollgate::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(tollgate::Body::from("{}")))
    });
    let stack = tollgate::IngestLayer::new().layer(BudgetLayer::new(world.budgets.clone()).layer(service));
    for (max_tokens, status) in [(64_000, 429), (1_000, 200)] {
        let request = http::Request::post(MESSAGES).body(tollgate::Body::from(hello(max_tokens).to_string()));
        let mut request = request.expect("a request");
        request.extensions_mut().insert(std::sync::Arc::new(ada("0.02")));
        let answer = crate::world::ask(stack.clone(), request).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-tollgate-clamped")), (status, None), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_spent_cap_says_until_when_and_whom_to_ask_as_claude_code_reads_it() {
    use tollgate::domain::clock::ManualClock;
    use tollgate::store::memory::MemoryBudgets;
    let now = ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time"));
    let budgets = BudgetLayer::new(MemoryBudgets::new().clock(now)).contact("#llm-platform");
    let world = World::with(|layer| layer.budget(budgets));
    let team = Budget::new(Scope::team("search"), Window::Month, usd("0.002"));
    let key = world.mint(Principal::new("ada").team("search").budget_of(team)).await;
    // Less than a fiftieth of the budget is left in the end.
    let answer = world.refused(|| post(MESSAGES, &key, &hello(64))).await;
    assert_eq!((answer.error().0, answer.error().1), (429, "billing_error".to_owned()));
    let message = answer.message();
    assert!(message.ends_with("the budget resets at 2026-12-01T00:00:00Z; ask #llm-platform for more"), "{message}");
    let first_of_december = "1796083200";
    for (name, value) in [
        ("status", Some("rejected")),
        ("reset", Some(first_of_december)),
        ("overage-reset", Some(first_of_december)),
        ("overage-utilization", Some("1")),
        ("overage-surpassed-threshold", Some("1")),
        ("overage-period", Some("monthly")),
        ("overage-disabled-reason", Some("org_spend_cap_reached")),
        ("overage-scope", Some("group_pool")),
        ("representative-claim", None),
        ("overage-status", None),
    ] {
        assert_eq!(answer.header(&format!("anthropic-ratelimit-unified-{name}")), value, "{name}");
    }
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let mut body = hello(64);
    body["model"] = json!("gpt-5");
    let answer = world.ask(post(CHAT, &key, &body)).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("anthropic-")), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_key_without_a_budget_that_refuses_may_not_call_where_one_is_required() {
    let world = World::of_budgets(|layer| layer.required().contact("#llm-platform"));
    let free = world.mint(Principal::new("free")).await;
    let told = world.mint(Principal::new("told").budget_of(team("1").soft())).await;
    let paid = world.mint(ada("1")).await;
    for key in [&free, &told] {
        let answer = world.ask(post(MESSAGES, key, &hello(64))).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-should-retry")), (429, Some("false")));
        assert_eq!(answer.message(), "this key has no budget, and one is required; ask #llm-platform for one");
    }
    assert_eq!(world.ask(post(MESSAGES, &paid, &hello(64))).await.status, 200);
    assert_eq!(world.provider.bill().lines().len(), 1);
}

#[tokio::test]
async fn a_limit_that_money_is_held_by_is_said_under_a_name_that_its_server_knows() {
    let mut card = Catalog::builtin().find("gpt-5").expect("a price").clone();
    card.name = "deepseek-chat".into();
    let world = World::with(|layer| layer.catalog(Catalog::builtin().with(card)));
    let paid = world.mint(ada("1")).await;
    let free = world.mint(Principal::new("free")).await;
    let body = |model: &str| json!({ "model": model, "max_completion_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
    let sent = async |key, body: &Value| {
        let answer = world.ask(post(CHAT, key, body)).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-tollgate-clamped")), (200, None), "{}", answer.text);
        let sent = world.provider.received().pop().expect("it was asked");
        let sent: Value = serde_json::from_slice(&sent.body).expect("JSON");
        (sent["max_tokens"].clone(), sent["max_completion_tokens"].clone())
    };
    // DeepSeek's API ignores the newer name, and OpenAI's rejects the older one.
    assert_eq!(sent(&paid, &body("deepseek-chat")).await, (json!(64), json!(64)));
    assert_eq!(sent(&paid, &body("gpt-5")).await, (json!(null), json!(64)));
    assert_eq!(sent(&free, &body("deepseek-chat")).await, (json!(null), json!(64)), "nobody's money");
    let mut open = body("deepseek-chat");
    open["max_tokens"] = json!(null);
    assert_eq!(sent(&paid, &open).await, (json!(64), json!(64)), "left open, it is no limit");
}

#[tokio::test]
async fn what_a_translation_does_not_ask_for_is_not_charged() {
    let world = World::new();
    let key = world.mint(ada("10")).await;
    let mut charged = Vec::new();
    for speed in [json!(null), json!("fast")] {
        let mut body = hello(64);
        body["model"] = json!("gpt-5");
        if !speed.is_null() {
            body["speed"] = speed;
        }
        let before = world.records().await.len();
        let answer = world.ask(post(MESSAGES, &key, &body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        charged.push(world.records().await[before].charged.expect("paid"));
    }
    assert_eq!(charged[0], charged[1]);
}
