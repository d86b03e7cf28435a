use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::domain::budget::Window;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::ingest::{IngestLayer, TokenCounter};
use tollgate::store::At;
use tollgate::store::memory::MemoryLimits;
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::testing::Script;
use tollgate::{Body, Call, CallLayer, RateLimitLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::world::{CHAT, MESSAGES, World, post};

fn hello(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

#[tokio::test]
async fn requests_a_minute_are_counted_and_come_back_when_retry_after_says() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Requests, 2)).await;
    for left in ["1", "0"] {
        let answer = world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("anthropic-ratelimit-requests-limit"), Some("2"));
        assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), Some(left));
    }
    let answer = world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await;
    assert_eq!(answer.error(), (429, "rate_limit_error".to_owned(), json!(null)));
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(answer.header("x-should-retry"), None);
    assert_eq!(answer.header("anthropic-ratelimit-requests-reset"), Some("2026-11-24T09:01:00Z"));
    let told = "the limit of 2 requests a minute for this key is reached: 2 used; there is room for this request in 30 s, \
                and all of the limit is free again in 60 s";
    assert_eq!(answer.message(), told);
    world.clock.advance(Duration::from_secs(29));
    assert_eq!(world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await.status, 429);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await.status, 200);
    assert_eq!(world.provider.received().len(), 3);
}

#[tokio::test]
async fn an_openai_client_reads_its_own_limit_headers_on_streams_too() {
    let world = World::new();
    let principal = Principal::new("ada").limit(Measure::Requests, 5).limit(Measure::Tokens, 60_000);
    let key = world.mint(principal).await;
    let mut body = hello("gpt-5");
    body["stream"] = json!(true);
    let answer = world.ask(post(CHAT, &key, &body)).await;
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("4"));
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("12s"));
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("60000"));
    assert!(answer.header("x-ratelimit-remaining-tokens").is_some());
}

#[tokio::test]
async fn tokens_are_estimated_first_and_true_after() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Tokens, 1_000)).await;
    let mut body = hello("claude-haiku-5-5");
    body["max_tokens"] = json!(900);
    // The estimate for an answer is at most 512 tokens, whatever was asked for.
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
    world.settlements.drain().await;
    let limit = [Limit::new(Scope::key(key_id(&world).await), Measure::Tokens, 1_000)];
    let left = world.limits.standing(&limit, At::Store).await.expect("memory")[0].left;
    let line = &world.provider.bill().lines()[0];
    assert_eq!(left, 1_000 - line.input - line.output);
}

/// Anthropic's own limits leave tokens from the cache out, and OpenAI's do not.
#[tokio::test]
async fn tokens_that_anthropics_cache_had_do_not_count_and_those_that_openais_had_do() {
    let messages = json!({
        "type": "message", "model": "claude-haiku-5-5", "content": [], "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 10, "cache_read_input_tokens": 500, "cache_creation_input_tokens": 20, "output_tokens": 5,
        },
    });
    let completion = json!({
        "object": "chat.completion", "model": "gpt-5", "choices": [],
        "usage": {
            "prompt_tokens": 530, "completion_tokens": 5, "prompt_tokens_details": { "cached_tokens": 500 },
        },
    });
    for (path, model, answer, used) in [(MESSAGES, "claude-haiku-5-5", messages, 35), (CHAT, "gpt-5", completion, 535)]
    {
        let body = answer.to_string();
        let answers = move |_: Request<Body>| {
            let answer = Response::builder().header("content-type", "application/json").body(Body::from(body.clone()));
            async { Ok::<_, Infallible>(answer.expect("an answer")) }
        };
        let world = World::behind(|_| service_fn(answers), |layer| layer);
        let key = world.mint(Principal::new("ada").limit(Measure::Tokens, 1_000)).await;
        assert_eq!(world.ask(post(path, &key, &hello(model))).await.status, 200);
        world.settlements.drain().await;
        let limit = [Limit::new(Scope::key(key_id(&world).await), Measure::Tokens, 1_000)];
        let left = world.limits.standing(&limit, At::Store).await.expect("memory")[0].left;
        assert_eq!(left, 1_000 - used, "{model}");
    }
}

/// A token counter that counts nine thousand tokens for every request.
struct NineThousand;

#[async_trait]
impl TokenCounter for NineThousand {
    async fn count(&self, _call: &Call, _body: &Bytes) -> Option<u64> {
        Some(9_000)
    }
}

#[tokio::test]
async fn tokens_that_somebody_has_counted_are_not_guessed() {
    let world = World::with(|layer| layer.ingest(IngestLayer::new().count_by(NineThousand)));
    let key = world.mint(Principal::new("ada").limit(Measure::Tokens, 10_000)).await;
    let mut body = hello("gpt-5");
    body["max_tokens"] = json!(100);
    let answer = world.ask(post(CHAT, &key, &body)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-remaining-tokens")), (200, Some("900")));
}

async fn key_id(world: &World) -> String {
    use tollgate::store::key::KeyRegistry as _;
    world.keys.named("ada").await.expect("memory").expect("minted").id.to_string()
}

#[tokio::test]
async fn a_request_larger_than_its_limit_is_told_not_to_come_again() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Tokens, 10)).await;
    let nothing = world.mint(Principal::new("nobody").limit(Measure::Requests, 0)).await;
    for key in [&key, &nothing] {
        let answer = world.ask(post(MESSAGES, key, &hello("claude-haiku-5-5"))).await;
        assert_eq!(answer.error().0, 429);
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (None, Some("false")));
    }
    assert!(world.provider.received().is_empty());
}

#[tokio::test]
async fn a_call_counts_as_one_at_once_until_its_last_byte() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Parallel, 1)).await;
    let mut body = hello("claude-haiku-5-5");
    body["stream"] = json!(true);
    let mut stream = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible").into_body();
    stream.frame().await.expect("a frame").expect("no error");
    let answer = world.ask(post(MESSAGES, &key, &body)).await;
    assert_eq!((answer.error().0, answer.header("retry-after")), (429, Some("1")));
    stream.collect().await.expect("whole");
    world.settlements.drain().await;
    let half = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
    assert_eq!(half.status(), 200);
    // A client that hangs up frees its slot too.
    drop(half);
    world.settlements.drain().await;
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
}

#[tokio::test]
async fn all_limits_are_counted_or_none() {
    let world = World::new();
    let team = || Limit::new(Scope::team("search"), Measure::Requests, 1);
    let ada = world.mint(Principal::new("ada").team("search").limit(Measure::Requests, 5).limit_of(team())).await;
    let bob = world.mint(Principal::new("bob").team("search").limit(Measure::Requests, 5).limit_of(team())).await;
    assert_eq!(world.ask(post(MESSAGES, &ada, &hello("claude-haiku-5-5"))).await.status, 200);
    let answer = world.ask(post(MESSAGES, &bob, &hello("claude-haiku-5-5"))).await;
    let told = "the limit of 1 requests a minute for team search is reached: 1 used; ";
    assert!(answer.message().starts_with(told), "{}", answer.text);
    use tollgate::store::key::KeyRegistry as _;
    let id = world.keys.named("bob").await.expect("memory").expect("minted").id;
    let own = [Limit::new(Scope::key(id.to_string()), Measure::Requests, 5)];
    assert_eq!(world.limits.standing(&own, At::Store).await.expect("memory")[0].left, 5);
}

#[tokio::test]
async fn a_budgets_refusal_gives_back_what_the_limits_counted_and_says_so() {
    let world = World::new();
    // The tightest of the limits is shown.
    for (name, own, team) in [("ada", 2, 700), ("bob", 700, 2)] {
        let principal = Principal::new(name)
            .limit(Measure::Tokens, 7_000)
            .limit(Measure::Requests, own)
            .limit_of(Limit::new(Scope::team(name), Measure::Requests, team))
            .limit(Measure::Parallel, 1)
            .team(name)
            .budget(Window::Day, "0.000001".parse().expect("an amount"));
        let key = world.mint(principal).await;
        for _ in 0..5 {
            let answer = world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await;
            assert_eq!(answer.error().1, "billing_error", "{}", answer.text);
            for (name, most) in [("requests", "2"), ("tokens", "7000")] {
                let header = |what| answer.headers.get_all(format!("anthropic-ratelimit-{name}-{what}"));
                let values = ["limit", "remaining", "reset"].map(|what| Vec::from_iter(header(what)));
                assert_eq!(values, [[most], [most], ["2026-11-24T09:00:00Z"]], "{name}");
            }
            let answer = world.ask(post(CHAT, &key, &hello("gpt-5"))).await;
            assert_eq!(answer.error().2, "insufficient_quota", "{}", answer.text);
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("2"));
            assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("0ms"));
            world.settlements.drain().await;
        }
    }
}

#[tokio::test]
async fn what_goes_on_counting_is_counted_in_the_headers_of_a_refusal_and_of_what_is_answered_here() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Requests, 3)).await;
    // A provider was asked, so the request counts.
    world.provider.script(Script::new().status(401));
    let failed = world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await;
    assert_eq!((failed.status.as_u16(), failed.header("anthropic-ratelimit-requests-remaining")), (500, Some("2")));
    // Chat Completions upstreams cannot count tokens, so the gateway answers by itself.
    let counted = world.ask(post("/v1/messages/count_tokens", &key, &hello("gpt-5"))).await;
    assert_eq!((counted.status.as_u16(), counted.header("anthropic-ratelimit-requests-remaining")), (200, Some("1")));
    assert_eq!(world.provider.received().len(), 1);

    // If one of two layers refuses, its limit is shown.
    let (everyone, outer) =
        (Limit::new(Scope::global(), Measure::Requests, 1), RateLimitLayer::new(MemoryLimits::new()));
    let inner = RateLimitLayer::new(MemoryLimits::new()).for_everyone(everyone);
    let service = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let stack = CallLayer::new().layer(IngestLayer::new().layer(outer.layer(inner.layer(service))));
    for (status, left) in [(200, "0"), (429, "0")] {
        let mut request = post(MESSAGES, &key, &hello("claude-haiku-5-5"));
        let ada = Principal::new("ada").limit(Measure::Requests, 9);
        request.extensions_mut().insert(std::sync::Arc::new(ada));
        let answer = stack.clone().oneshot(request).await.expect("infallible");
        let shown = &answer.headers()["anthropic-ratelimit-requests-remaining"];
        assert_eq!((answer.status().as_u16(), shown.to_str().ok()), (status, Some(left)));
    }
}

#[tokio::test]
async fn what_was_counted_before_a_budget_refuses_is_still_counted_in_its_headers() {
    let world = World::new();
    let principal = Principal::new("ada").limit(Measure::Requests, 3).limit(Measure::Tokens, 60_000);
    let key = world.mint(principal.budget(Window::Day, "0.0003".parse().expect("an amount"))).await;
    let served = async || {
        let answer = world.ask(post(MESSAGES, &key, &hello("claude-haiku-5-5"))).await;
        world.settlements.drain().await;
        answer
    };
    assert_eq!(served().await.header("anthropic-ratelimit-requests-remaining"), Some("2"));
    // The budget does not cover a call of a dearer model.
    let refused = world.ask(post(MESSAGES, &key, &hello("claude-opus-5-5"))).await;
    assert_eq!(refused.error().1, "billing_error", "{}", refused.text);
    assert_eq!(refused.header("anthropic-ratelimit-requests-remaining"), Some("2"));
    assert_eq!(refused.header("anthropic-ratelimit-requests-reset"), Some("2026-11-24T09:00:20Z"));
    world.settlements.drain().await;
    assert_eq!(served().await.header("anthropic-ratelimit-requests-remaining"), Some("1"));
}

#[tokio::test]
async fn a_count_of_tokens_is_a_request_too() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").limit(Measure::Requests, 1).limit(Measure::Tokens, 1)).await;
    let ask = || post("/v1/messages/count_tokens", &key, &hello("claude-haiku-5-5"));
    assert_eq!(world.ask(ask()).await.status, 200);
    assert_eq!(world.ask(ask()).await.status, 429);
}

#[tokio::test]
async fn who_is_refused_for_a_limit_is_told_what_of_it_is_gone_until_when_and_whom_to_ask() {
    let clock = std::sync::Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
    let limits = RateLimitLayer::new(MemoryLimits::new().clock(clock)).contact("#llm-platform");
    let world = World::with(|layer| layer.rate_limit(limits));
    let tokens = world.mint(Principal::new("ada").limit(Measure::Tokens, 1_000)).await;
    let slots = world.mint(Principal::new("bob").limit(Measure::Parallel, 1)).await;
    world.provider.script(Script::new().deltas(400));
    let mut body = hello("claude-haiku-5-5");
    body["max_tokens"] = json!(400);
    assert_eq!(world.ask(post(MESSAGES, &tokens, &body)).await.status, 200);
    world.settlements.drain().await;
    body["max_tokens"] = json!(512);
    // Ask until the tokens used and the estimate of the next call exceed the limit.
    let (mut answer, mut asked) = (world.ask(post(MESSAGES, &tokens, &body)).await, 1);
    while answer.status == 200 && asked < 100 {
        world.settlements.drain().await;
        (answer, asked) = (world.ask(post(MESSAGES, &tokens, &body)).await, asked + 1);
    }
    let (message, after) = (answer.message(), answer.header("retry-after").expect("told"));
    assert!(message.starts_with("the limit of 1000 tokens a minute for this key is reached: "), "{message}");
    assert!(message.contains(&format!(
        " used; there is room for this request in {after} s, and all of the limit is free again in "
    )));
    assert!(message.ends_with(" s; ask #llm-platform for more"), "{message}");

    body["stream"] = json!(true);
    let first = world.gateway.clone().oneshot(post(MESSAGES, &slots, &body)).await.expect("infallible");
    let answer = world.ask(post(MESSAGES, &slots, &body)).await;
    let told = "the limit of 1 calls at once for this key is reached: 1 running; ask #llm-platform for more";
    assert_eq!(answer.message(), told);
    drop(first);

    body["max_tokens"] = json!(64);
    body["messages"][0]["content"] = json!("x".repeat(9_000));
    let answer = world.ask(post(MESSAGES, &tokens, &body)).await;
    assert!(answer.message().ends_with("so waiting does not help; ask #llm-platform for more"), "{}", answer.text);
}

#[tokio::test]
async fn nobody_gets_more_tokens_through_by_hanging_up() {
    const MOST: u64 = 600_000;
    // The count is what can have been made in the time, or what came if the speed of the model is not known.
    for (path, model, frames, seconds) in
        [(MESSAGES, "claude-haiku-5-5", 3, 9), (CHAT, "gpt-5", 3, 9), (MESSAGES, "claude-unheard-of", 2_000, 0)]
    {
        let world = World::new();
        let key = world.mint(Principal::new("ada").limit(Measure::Tokens, MOST)).await;
        world.provider.script(Script::new().deltas(10_000));
        let mut body = hello(model);
        (body["max_tokens"], body["stream"]) = (json!(10_000), json!(true));
        let answer = world.gateway.clone().oneshot(post(path, &key, &body)).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        let mut stream = answer.into_body();
        for _ in 0..frames {
            stream.frame().await.expect("a frame").expect("no error");
        }
        // Longer than the estimate needs to flow back.
        world.clock.advance(Duration::from_secs(seconds));
        drop(stream);
        world.settlements.drain().await;
        let limit = [Limit::new(Scope::key(key_id(&world).await), Measure::Tokens, MOST)];
        let left = world.limits.standing(&limit, At::Store).await.expect("memory")[0].left;
        assert!((1_900..=5_100).contains(&(MOST - left)), "{model}: {}", MOST - left);
    }
}
