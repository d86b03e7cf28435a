//! The shape of an audit record, which is pinned, and the members that a call fills.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::request::Parts;
use http::{Request, Response};
use serde_json::{Value, json};
use tollgate::call::CallLayer;
use tollgate::dialect::head::Head;
use tollgate::domain::audit::{AuditRecord, SCHEMA};
use tollgate::domain::budget::Window;
use tollgate::domain::outcome::{Decision, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::domain::target::Target;
use tollgate::route::Route;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, Call, Dialect, Gate, GateLayer, Gateway, GatewayLayer, Rejection};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::page::missing;
use crate::world::{CHAT, MESSAGES, World, ask, post};

/// A record with every member of schema 1.
const GOLDEN: &str = r#"{
    "schema": 1,
    "id": "019ac0de-0000-7000-8000-000000000001",
    "opened_at": "2026-11-24T09:00:00.000000123Z",
    "key_id": "019ac0de-0000-7000-8000-000000000002",
    "key_name": "ada",
    "user": "ada@example.com",
    "team": "search",
    "org": "example",
    "agent": "claude-cli/2.1.330",
    "session": "s1",
    "client_user": "a1",
    "client_team": "search",
    "tags": ["batch", "eu"],
    "dialect": "openai_chat",
    "operation": "generate",
    "model": "best",
    "end": "failed",
    "status": 502,
    "rejection": "upstream_unreachable",
    "reason": "the upstream could not be reached",
    "decisions": [
        { "layer": "auth", "reason": "the key is valid" },
        { "layer": "budget", "allowed": false, "reason": "no budget pays for it" }
    ],
    "warnings": "dropped=seed",
    "usage": {
        "input": 10, "cache_read": 1, "cache_write_5m": 2, "cache_write_1h": 3, "output": 9, "reasoning": 4,
        "web_searches": 5, "web_fetches": 6, "served": { "fast": false, "flex": true, "us": true }
    },
    "cost_usd": "0.000055",
    "granted_usd": "0.01",
    "charged_usd": "0.000055",
    "quality": "estimated",
    "clamped_to": 64,
    "attempts": [{
        "upstream": "anthropic",
        "dialect": "anthropic",
        "model": "claude-haiku-5-5",
        "answered": "claude-haiku-5-5-20260101",
        "end": "broken",
        "status": 200,
        "usage": { "input": 10, "output": 9 },
        "usage_is_final": false,
        "cost_usd": "0.000055",
        "price_version": "litellm-1.109.1",
        "at_most_usd": "0.0001",
        "error": "overloaded_error",
        "upstream_request_id": "req_1",
        "head_us": 7,
        "took_us": 8
    }, { "end": "complete", "took_us": 9 }],
    "head_us": 12,
    "own_us": 5,
    "first_byte_us": 13,
    "took_us": 14,
    "bytes_in": 15,
    "bytes_out": 16,
    "content": "redacted"
}"#;

/// A record with only the members that every record has.
const LEAST: &str = r#"{
    "schema": 1,
    "id": "019ac0de-0000-7000-8000-000000000001",
    "opened_at": "2026-11-24T09:00:00Z",
    "dialect": "anthropic",
    "operation": "count_tokens",
    "end": "abandoned",
    "took_us": 1,
    "bytes_out": 0
}"#;

#[test]
fn what_schema_1_has_is_read_and_written_again_as_it_was() {
    for text in [GOLDEN, LEAST] {
        let golden: Value = serde_json::from_str(text).expect("JSON");
        let record: AuditRecord = serde_json::from_value(golden.clone()).expect("a record");
        assert_eq!(record.schema, SCHEMA, "another schema has a golden record of its own, beside this one");
        assert_eq!(serde_json::to_value(&record).expect("plain data"), golden);
        let is_final: Vec<_> = record.attempts.iter().map(|attempt| attempt.usage_is_final).collect();
        assert_eq!(is_final, if text == GOLDEN { vec![false, true] } else { vec![] }, "what is not said is so");
    }
}

#[test]
fn every_member_of_it_is_on_its_page_under_the_name_that_it_serialises_by() {
    let found = missing(&serde_json::from_str(GOLDEN).expect("JSON"));
    assert!(found.is_empty(), "{found:?} are not in src/docs/records.md");
}

#[tokio::test]
async fn a_record_has_tags_warnings_times_sizes_and_the_providers_own_id() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").org("example").tag("batch").tag("eu")).await;
    let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "seed": 7,
        "messages": [{ "role": "user", "content": "Hello" }] });
    let mut request = post(CHAT, &key, &hello);
    request.headers_mut().insert("x-team", "search".parse().expect("a value"));
    let answer = world.ask(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let record = world.records().await.remove(0);
    let tags: Vec<_> = record.tags.iter().map(|tag| &**tag).collect();
    assert_eq!((tags, record.org.as_deref()), (vec!["batch", "eu"], Some("example")));
    assert_eq!((record.team.as_deref(), record.client_team.as_deref()), (None, Some("search")));
    assert_eq!(record.warnings.as_deref(), Some("dropped=seed"));
    // The clock stands still.
    assert_eq!((record.head_us, record.own_us, record.first_byte_us, record.took_us), (Some(0), Some(0), Some(0), 0));
    let sizes = (record.bytes_in, record.bytes_out);
    assert_eq!(sizes, (Some(hello.to_string().len() as u64), answer.text.len() as u64));
    assert_eq!(record.attempts[0].upstream_request_id.as_deref(), Some("req_simulated"));
    assert_eq!(record.attempts[0].upstream.as_deref(), Some("anthropic"));
}

#[tokio::test]
async fn which_targets_were_chosen_is_recorded_of_a_call_that_was_refused_before_it_was_sent() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").budget(Window::Day, "0.000001".parse().expect("money"))).await;
    let hello = json!({ "model": "fast", "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
    assert_ne!(world.ask(post(MESSAGES, &key, &hello)).await.status, 200);
    let record = world.records().await.remove(0);
    assert_eq!((record.model.as_deref(), record.attempts.len()), (Some("fast"), 0));
    let decisions: Vec<_> = record.decisions.iter().map(|one| (&*one.layer, one.allowed)).collect();
    assert_eq!(decisions, [("auth", true), ("route", true), ("budget", false)]);
    assert_eq!(record.decisions[1].reason, "anthropic/claude-haiku-5-5");
}

#[tokio::test]
async fn a_record_says_what_the_provider_calls_its_error_and_nothing_of_what_it_says() {
    let anthropic = |name: &str| json!({ "type": "error", "error": { "type": name, "message": "a secret plan" } });
    let openai =
        |code: Value, name: Value| json!({ "error": { "code": code, "type": name, "message": "a secret plan" } });
    let event = |body: &Value| format!("event: error\ndata: {body}\n\n");
    let begun =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n";
    let long = "a".repeat(65);
    // The path, the status, the answer, and the name of the error.
    let rows = [
        (MESSAGES, 529, anthropic("overloaded_error").to_string(), Some("overloaded_error")),
        (MESSAGES, 400, anthropic("your plan is a secret").to_string(), None),
        (MESSAGES, 400, anthropic(&long).to_string(), None),
        (MESSAGES, 502, "<html>a secret plan</html>".to_owned(), None),
        (MESSAGES, 200, format!("{begun}{}", event(&anthropic("api_error"))), Some("api_error")),
        (CHAT, 429, openai(json!("insufficient_quota"), json!("requests")).to_string(), Some("insufficient_quota")),
        (CHAT, 429, openai(json!("429"), json!("throttling_error")).to_string(), Some("throttling_error")),
        (CHAT, 400, openai(json!(400), json!("BadRequestError")).to_string(), Some("BadRequestError")),
        (CHAT, 200, openai(json!(null), json!("server_error")).to_string(), Some("server_error")),
        (CHAT, 500, json!({ "error": "a secret plan" }).to_string(), None),
    ];
    for (path, status, body, name) in rows {
        let answer = body.clone();
        let upstream = service_fn(move |_: Request<Body>| {
            let kind = if answer.starts_with("event") { "text/event-stream" } else { "application/json" };
            let answer =
                Response::builder().status(status).header("content-type", kind).body(Body::from(answer.clone()));
            async move { Ok::<_, Infallible>(answer.expect("an answer")) }
        });
        let seen: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let outcomes = seen.clone();
        let layer = GatewayLayer::new()
            .on_close(move |outcome| outcomes.lock().expect("no panic").push(Outcome::clone(outcome)));
        let dialect = if path == CHAT { Dialect::OpenAiChat } else { Dialect::Anthropic };
        let gateway = Gateway::builder().layer(layer).upstream("one", dialect, upstream).build().expect("a gateway");
        let model = if path == CHAT { "gpt-5-mini" } else { "claude-haiku-5-5" };
        let hello = json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
        let request = Request::post(path).body(Body::from(hello.to_string())).expect("a request");
        ask(gateway, request).await;
        let record = AuditRecord::new(&seen.lock().expect("no panic").remove(0));
        assert_eq!(record.attempts[0].error.as_deref(), name, "{body}");
        assert!(!serde_json::to_string(&record).expect("plain data").contains("secret"), "{body}");
    }
}

/// Routes to two targets, the better one first.
struct Both;

impl Route for Both {
    fn route(&self, _: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        let target = |upstream: &str| Arc::new(Target::new(upstream, Dialect::Anthropic, head.model()));
        Ok(vec![target("anthropic"), target("spare")])
    }
}

/// A gate that decides at once, or in `admit` if it `waits`.
struct Quiet {
    waits: bool,
}

#[async_trait]
impl Gate for Quiet {
    async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
        Ok(())
    }

    fn decide(&self, _: &mut Parts, _: &Call) -> Option<Result<(), Rejection>> {
        (!self.waits).then_some(Ok(()))
    }
}

struct Says;

#[async_trait]
impl Gate for Says {
    async fn admit(&self, _: &mut Parts, call: &Call) -> Result<(), Rejection> {
        call.note(Decision::allow("says", "its own words"));
        Ok(())
    }
}

/// Refuses every call, at once or after a wait.
struct Refuses {
    waits: bool,
}

#[async_trait]
impl Gate for Refuses {
    async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
        Err(Rejection::new(RejectionKind::NotPermitted, "no cats"))
    }

    fn decide(&self, _: &mut Parts, _: &Call) -> Option<Result<(), Rejection>> {
        (!self.waits).then(|| Err(Rejection::new(RejectionKind::NotPermitted, "no cats")))
    }
}

#[tokio::test]
async fn a_gate_that_refuses_is_in_the_record_by_its_name() {
    for waits in [false, true] {
        let seen: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let hear = seen.clone();
        let layer =
            GatewayLayer::new().on_close(move |outcome| hear.lock().expect("no panic").push(Outcome::clone(outcome)));
        let gated = GateLayer::new(Refuses { waits }).layer(Simulated::new());
        let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] }).to_string();
        let request = || Request::post(MESSAGES).body(Body::from(body.clone())).expect("a request");
        for answer in [
            ask(layer.clone().gate(Refuses { waits }).layer(Simulated::new()), request()).await,
            ask(layer.layer(gated), request()).await,
        ] {
            assert_eq!(answer.status, 400);
        }
        let seen = seen.lock().expect("no panic");
        assert_eq!(seen.len(), 2);
        for outcome in &*seen {
            assert_eq!(outcome.rejection, Some(RejectionKind::NotPermitted));
            let refused: Vec<_> = outcome.decisions.iter().filter(|one| !one.allowed).collect();
            let name = format!("{}: no cats", std::any::type_name::<Refuses>());
            assert!(matches!(refused[..], [one] if one.layer == "gate" && one.reason == name), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn every_gate_that_lets_a_call_pass_is_in_its_record_by_its_own_words_or_by_its_name() {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let hear = || {
        let seen = seen.clone();
        move |outcome: &Arc<Outcome>| {
            let decisions = outcome.decisions.iter().map(|one| (one.layer.to_string(), one.reason.to_string()));
            seen.lock().expect("no panic").extend(decisions);
        }
    };
    let quiet = std::any::type_name::<Quiet>();
    let named = |layer: &str, reason: &str| (layer.to_owned(), reason.to_owned());
    let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] }).to_string();
    let request = || Request::post(MESSAGES).body(Body::from(hello.clone())).expect("a request");

    let upstream = || Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let layer = GatewayLayer::new().router(Both).gate(Quiet { waits: false }).gate(Says).gate(Quiet { waits: true });
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, upstream().expect("a URL"))
        .upstream("spare", Dialect::Anthropic, upstream().expect("a URL"))
        .layer(layer.on_close(hear()))
        .build()
        .expect("a gateway");
    assert_eq!(ask(gateway, request()).await.status, 200);
    let both = "anthropic/claude-haiku-5-5, spare/claude-haiku-5-5";
    let expected = [named("route", both), named("gate", quiet), named("says", "its own words"), named("gate", quiet)];
    assert_eq!(*seen.lock().expect("no panic"), expected);

    // The same for gates in layers of their own.
    for (waits, says) in [(false, false), (true, true)] {
        seen.lock().expect("no panic").clear();
        let call = CallLayer::new().on_close(hear());
        let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("hi"))) });
        let gated = GateLayer::new(Quiet { waits }).layer(inner);
        let mut expected = vec![named("gate", quiet)];
        let answer = match says {
            true => {
                expected.insert(0, named("says", "its own words"));
                call.layer(GateLayer::new(Says).layer(gated)).oneshot(request()).await
            }
            false => call.layer(gated).oneshot(request()).await,
        };
        drop(answer.expect("infallible"));
        assert_eq!(*seen.lock().expect("no panic"), expected);
    }
}
