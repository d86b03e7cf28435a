//! A stack within a stack: a call through both is metered, charged and edited once.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tollgate::dialect::head::Head;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::gateway::{Dispatch, Upstreams};
use tollgate::ingest::TokenCounter;
use tollgate::route::ModelTable;
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, BudgetLayer, Call, CallLayer, Dialect, Gateway, GatewayLayer, IngestLayer, MeterLayer};
use tower::util::{BoxCloneSyncService, MapRequestLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::attempts::{Cap, nowhere};
use crate::support::Outcomes;

const SECOND: Duration = Duration::from_secs(1);
const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";

/// Requests in the upstream's dialect and in the other one, with and without a stream.
const ASKED: [(&str, &str); 8] = [
    (MESSAGES, r#"{"model":"claude-haiku-5-5", "max_tokens":64,"messages":[]}"#),
    (MESSAGES, r#"{"model":"claude-haiku-5-5", "max_tokens":64,"messages":[],"stream":true}"#),
    (MESSAGES, r#"{"model":"gpt-5-mini", "max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#),
    (MESSAGES, r#"{"model":"gpt-5-mini", "max_tokens":64,"messages":[{"role":"user","content":"hi"}],"stream":true}"#),
    (CHAT, r#"{"model":"gpt-5-mini", "max_completion_tokens":64,"messages":[]}"#),
    (CHAT, r#"{"model":"gpt-5-mini", "max_completion_tokens":64,"messages":[],"stream":true}"#),
    (CHAT, r#"{"model":"claude-haiku-5-5", "max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#),
    (
        CHAT,
        r#"{"model":"claude-haiku-5-5", "max_tokens":64,"messages":[{"role":"user","content":"hi"}],"stream":true}"#,
    ),
];

fn gateway(simulated: &Simulated, layer: GatewayLayer) -> Gateway {
    let provider =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, simulated.clone()).expect("a URL");
    Gateway::builder()
        .upstream("a", Dialect::Anthropic, provider(Dialect::Anthropic))
        .upstream("o", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
        .layer(layer)
        .build()
        .expect("a gateway")
}

/// Asks as a principal with a budget, and returns the outcome and the answer.
async fn ask<S>(service: S, outcomes: &mut Outcomes, (path, body): (&str, &'static str)) -> (Outcome, String)
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    let mut request = Request::post(path).body(Body::from(body)).expect("a request");
    let ada = Principal::new("ada").budget(Window::Day, "10".parse().expect("an amount"));
    request.extensions_mut().insert(Arc::new(ada));
    let answer = service.oneshot(request).await.expect("infallible");
    let status = answer.status();
    let text = answer.into_body().collect().await.expect("whole").to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(status, 200, "{body}: {text}");
    (outcomes.next().await, text)
}

#[tokio::test]
async fn a_gateway_behind_a_layer_is_metered_paid_and_edited_as_one_that_stands_alone() {
    for asked in ASKED {
        let paid = || BudgetLayer::new(MemoryBudgets::new());
        let (mut outcomes, observer) = Outcomes::new();
        let layer = GatewayLayer::new().gate(Cap(5)).budget(paid()).on_close(observer);

        let simulated = Simulated::new().recording();
        let alone = gateway(&simulated, layer.clone());
        let (expected, text) = ask(alone, &mut outcomes, asked).await;
        let sent = simulated.received().pop().expect("it was asked").body;
        assert!(expected.usage.is_some_and(|usage| usage.output == 5) && expected.charged.is_some(), "{expected:?}");

        let simulated = Simulated::new().recording();
        let nested = layer.layer(gateway(&simulated, GatewayLayer::new()));
        let (outcome, nested_text) = ask(nested, &mut outcomes, asked).await;
        assert_eq!(simulated.received().pop().expect("it was asked").body, sent);
        let of = |outcome: &Outcome| (outcome.usage, outcome.cost, outcome.charged, outcome.end);
        assert_eq!(of(&outcome), of(&expected), "{asked:?}");
        let targets: Vec<_> = outcome.attempts.iter().map(|attempt| (attempt.target.clone(), attempt.end)).collect();
        let expected: Vec<_> = expected.attempts.iter().map(|attempt| (attempt.target.clone(), attempt.end)).collect();
        assert_eq!(targets, expected, "{asked:?}");
        for text in [text, nested_text] {
            assert!(!text.contains(r#""choices":[]"#), "nobody asked for a usage chunk: {text}");
        }
        outcomes.none_left().await;
    }
}

#[tokio::test]
async fn of_meters_one_within_another_the_innermost_counts() {
    let (mut outcomes, observer) = Outcomes::new();
    let simulated = Simulated::new();
    let provider = || Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, simulated.clone());
    let layer = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())).on_close(observer);
    let thrice = MeterLayer::new().layer(MeterLayer::new().layer(provider().expect("a URL")));
    for asked in [ASKED[4], ASKED[5]] {
        let (outcome, text) = ask(layer.layer(thrice.clone()), &mut outcomes, asked).await;
        let billed = simulated.bill().lines().pop().expect("it was asked");
        assert_eq!(outcome.attempts.len(), 1, "{outcome:?}");
        assert_eq!(outcome.usage.map(|usage| usage.output), Some(billed.output));
        assert!(!text.contains(r#""choices":[]"#), "{text}");
    }

    // A hand-made attempt without a meter. The layer asked for the usage chunk, so the layer withholds it.
    let inner = provider().expect("a URL");
    let by_hand = service_fn(move |request: Request<Body>| {
        let attempt = Call::of(&request).expect("opened further out").begin_attempt();
        let answer = inner.clone().oneshot(request);
        async move {
            let answer = answer.await?;
            drop(attempt);
            Ok::<_, Infallible>(answer)
        }
    });
    let (outcome, text) = ask(layer.layer(by_hand), &mut outcomes, ASKED[5]).await;
    let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [AttemptEnd::Abandoned], "what was said of it by hand");
    assert!(text.contains("Hello") && !text.contains(r#""choices":[]"#), "{text}");
}

#[tokio::test]
async fn attempts_that_follow_each_other_or_go_side_by_side_within_another_are_all_counted() {
    let (mut outcomes, observer) = Outcomes::new();
    let layer = GatewayLayer::new().on_close(observer);
    let simulated = Simulated::new();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated.clone());
    let provider = provider.expect("a URL");
    let table = ModelTable::new()
        .pattern("claude-lost", "lost", Dialect::Anthropic)
        .pattern("claude-*", "found", Dialect::Anthropic)
        .alias("best", ["claude-lost", "claude-haiku-5-5"]);
    let inner = Gateway::builder()
        .upstream("lost", Dialect::Anthropic, nowhere())
        .upstream("found", Dialect::Anthropic, provider.clone())
        .layer(GatewayLayer::new().router(table))
        .build()
        .expect("a gateway");
    let request = |body: &'static str| Request::post(MESSAGES).body(Body::from(body)).expect("a request");
    let answer = layer.layer(inner).oneshot(request(r#"{"model":"best","max_tokens":64,"messages":[]}"#)).await;
    answer.expect("infallible").into_body().collect().await.expect("whole");
    let outcome = outcomes.next().await;
    let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [AttemptEnd::Unsent, AttemptEnd::Complete]);

    // Two upstream requests at once are both charged.
    let metered = MeterLayer::new().layer(provider);
    let both = service_fn(move |request: Request<Body>| {
        let (parts, body) = request.into_parts();
        let body = body.try_into_bytes().expect("in memory");
        let asked = || metered.clone().oneshot(Request::from_parts(parts.clone(), Body::from(body.clone())));
        let (one, other) = (asked(), asked());
        async move {
            let (one, other) = tokio::join!(one, other);
            let (one, other) = (one?.into_body(), other?.into_body());
            other.collect().await.expect("whole");
            Ok::<_, Infallible>(http::Response::new(one))
        }
    });
    let answer = layer.layer(both).oneshot(request(ASKED[0].1)).await.expect("infallible");
    answer.into_body().collect().await.expect("whole");
    let outcome = outcomes.next().await;
    assert_eq!(outcome.attempts.len(), 2, "{outcome:?}");
    let billed: u64 = simulated.bill().lines().iter().skip(1).map(|line| line.output).sum();
    assert_eq!(outcome.usage.map(|usage| usage.output), Some(billed));
}

#[tokio::test]
async fn what_a_host_answers_of_its_own_where_whom_it_asked_first_was_not_there_is_metered_and_paid() {
    let (mut outcomes, observer) = Outcomes::new();
    let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
    let layer = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())).on_close(observer);
    let layer = layer.clock(clock.clone());
    let simulated = Simulated::new();
    let (first, own) = (MeterLayer::new().layer(nowhere()), simulated.clone());
    let mine = service_fn(move |request: Request<Body>| {
        let (first, own, clock) = (first.clone(), own.clone(), clock.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.try_into_bytes().expect("in memory");
            let answer = first.oneshot(Request::from_parts(parts.clone(), Body::from(body.clone()))).await?;
            if answer.extensions().get::<tollgate::Rejection>().is_none() {
                return Ok(answer);
            }
            clock.advance(SECOND);
            own.clone().oneshot(Request::from_parts(parts, Body::from(body))).await
        }
    });
    let (outcome, _) = ask(layer.layer(mine), &mut outcomes, ASKED[0]).await;
    let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [AttemptEnd::Unsent, AttemptEnd::Complete]);
    assert_eq!(outcome.attempts[1].head_after, Some(SECOND), "by the way of the first");
    assert!(
        outcome.charged.is_some_and(|charged| charged > Money::ZERO) && outcome.charged == outcome.cost,
        "{outcome:?}"
    );
    assert_eq!(outcome.usage.map(|usage| usage.output), Some(simulated.bill().lines()[0].output));
}

#[tokio::test]
async fn what_a_gateway_within_answers_by_itself_is_no_attempt_and_costs_nothing() {
    let (mut outcomes, observer) = Outcomes::new();
    let layer = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())).on_close(observer);
    let simulated = Simulated::new().recording();
    let stack = layer.layer(gateway(&simulated, GatewayLayer::new()));
    // Chat Completions can neither fill a cache without an answer nor count tokens.
    let nothing = r#"{"model":"gpt-5-mini","max_tokens":0,"messages":[{"role":"user","content":"hi"}]}"#;
    let count = r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}"#;
    for (asked, charged) in [((MESSAGES, nothing), Some(Money::ZERO)), (("/v1/messages/count_tokens", count), None)] {
        let (outcome, _) = ask(stack.clone(), &mut outcomes, asked).await;
        assert_eq!((outcome.attempts.len(), outcome.charged, outcome.end), (0, charged, End::Complete), "{asked:?}");
    }
    let models = Request::get("/v1/models").body(Body::empty()).expect("a request");
    let answer = stack.oneshot(models).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("whole");
    assert_eq!(outcomes.next().await.attempts.len(), 0);
    assert!(simulated.received().is_empty());
}

#[tokio::test]
async fn what_reads_a_body_within_another_stack_reads_what_the_client_sent() {
    struct Sees(Arc<Mutex<Bytes>>);

    #[async_trait]
    impl TokenCounter for Sees {
        async fn count(&self, _call: &Call, body: &Bytes) -> Option<u64> {
            *self.0.lock().expect("no panic") = body.clone();
            None
        }
    }

    let seen = Arc::new(Mutex::new(Bytes::new()));
    let simulated = Simulated::new();
    let ingest = IngestLayer::new().count_by(Sees(seen.clone()));
    let stack = GatewayLayer::new().gate(Cap(5)).layer(gateway(&simulated, GatewayLayer::new().ingest(ingest)));
    let request = Request::post(CHAT).body(Body::from(ASKED[5].1)).expect("a request");
    assert_eq!(stack.oneshot(request).await.expect("infallible").status(), 200);
    assert_eq!(&*seen.lock().expect("no panic"), ASKED[5].1.as_bytes());
}

#[tokio::test]
async fn a_body_that_two_stacks_read_is_counted_once() {
    let (mut outcomes, observer) = Outcomes::new();
    let ingest = IngestLayer::new().max_in_memory(ASKED[0].1.len());
    let layer = GatewayLayer::new().ingest(ingest.clone()).budget(BudgetLayer::new(MemoryBudgets::new()));
    let simulated = Simulated::new();
    let stack = layer.on_close(observer).layer(gateway(&simulated, GatewayLayer::new().ingest(ingest)));
    for _ in 0..2 {
        ask(stack.clone(), &mut outcomes, ASKED[0]).await;
    }
}

#[tokio::test]
async fn what_no_stack_further_out_has_counted_of_a_body_is_counted_where_it_is_read() {
    let body = ASKED[0].1;
    let asked = async |stack: BoxCloneSyncService<_, http::Response<Body>, Infallible>| {
        let request = Request::post(MESSAGES).body(Body::from(body)).expect("a request");
        stack.oneshot(request).await.expect("infallible").status().as_u16()
    };
    let simulated = Simulated::new();
    let within = |most| gateway(&simulated, GatewayLayer::new().ingest(IngestLayer::new().max_in_memory(most)));
    // A host that sets the head itself has not counted the body.
    let sets = move |request: Request<Body>| {
        let head = Head::read(body.as_bytes(), Dialect::Anthropic).expect("a head");
        Call::of(&request).expect("a call").set_head(head);
        request
    };
    let headed = |most| CallLayer::new().layer(MapRequestLayer::new(sets).layer(within(most)));
    assert_eq!(asked(BoxCloneSyncService::new(headed(body.len()))).await, 200);
    assert_eq!(asked(BoxCloneSyncService::new(headed(body.len() - 1))).await, 429);
    // A host that lengthens the body between the stacks holds more in memory than the outer one counted.
    let longer = move |request: Request<Body>| request.map(|_| Body::from(format!("{body}      ")));
    let outer = GatewayLayer::new().ingest(IngestLayer::new().max_in_memory(body.len()));
    let grown = |most| outer.layer(MapRequestLayer::new(longer).layer(within(most)));
    assert_ne!(asked(BoxCloneSyncService::new(grown(6))).await, 429);
    assert_eq!(asked(BoxCloneSyncService::new(grown(5))).await, 429);
}

#[tokio::test]
async fn a_bare_dispatch_behind_a_layer_finds_the_body_whose_head_was_read() {
    let (mut outcomes, observer) = Outcomes::new();
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, simulated.clone());
    let upstreams = Upstreams::new().add("o", provider.expect("a URL"));
    let table = ModelTable::new().pattern("*", "o", Dialect::OpenAiChat);
    let layer = GatewayLayer::new().router(table).gate(Cap(5)).on_close(observer);
    let dispatch = Dispatch::new(upstreams);
    for stack in [layer.layer(dispatch.clone()), layer.layer(IngestLayer::new().layer(dispatch))] {
        let request = Request::post(CHAT).body(Body::from(ASKED[5].1)).expect("a request");
        let answer = stack.oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("whole");
        assert_eq!(outcomes.next().await.attempts.len(), 1);
        let sent = simulated.received().pop().expect("it was asked").body;
        let sent = String::from_utf8_lossy(&sent);
        assert_eq!(sent.matches("include_usage").count(), 1, "{sent}");
        assert!(sent.contains(r#""max_completion_tokens":5,"#), "{sent}");
    }
}

#[tokio::test]
async fn a_body_that_a_host_has_changed_between_two_stacks_is_refused_and_not_undone() {
    let simulated = Simulated::new().recording();
    let inner = gateway(&simulated, GatewayLayer::new());
    let meddler = MapRequestLayer::new(|request: Request<Body>| {
        request.map(|_| Body::from(r#"{"model":"gpt-5-mini","messages":[],"user":"somebody else"}"#))
    });
    let stack = GatewayLayer::new().gate(Cap(5)).layer(meddler.layer(inner));
    let request = Request::post(CHAT).body(Body::from(ASKED[5].1)).expect("a request");
    assert_eq!(stack.oneshot(request).await.expect("infallible").status(), 500);
    assert!(simulated.received().is_empty());
}
