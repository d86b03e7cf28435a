//! Calls with several targets of several dialects.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::json;
use tollgate::domain::outcome::{AttemptEnd, Outcome};
use tollgate::route::ModelTable;
use tollgate::testing::Simulated;
use tollgate::translate::TranslateLayer;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::{Layer, ServiceExt, service_fn};

const CHAT: &str = "/v1/chat/completions";

/// A port that nothing listens on.
fn nowhere(dialect: Dialect) -> Provider<HttpClient> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    Provider::with_client(dialect, &url, None, HttpClient::new().expect("TLS")).expect("a URL")
}

#[tokio::test]
async fn what_is_told_as_lost_is_what_the_attempt_lost_that_answered() {
    let provider =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, Simulated::new()).expect("a URL");
    for (lost, found, warnings) in [
        (Dialect::Anthropic, Dialect::OpenAiChat, None),
        (Dialect::Anthropic, Dialect::Anthropic, Some("dropped=seed")),
        (Dialect::OpenAiChat, Dialect::Anthropic, Some("dropped=seed")),
    ] {
        let outcomes = Arc::new(Mutex::new(Vec::<Outcome>::new()));
        let seen = outcomes.clone();
        let table = ModelTable::new()
            .pattern("lost", "lost", lost)
            .pattern("found", "found", found)
            .alias("best", ["lost", "found"]);
        let layer = GatewayLayer::new().router(table);
        let gateway = Gateway::builder()
            .upstream("lost", lost, nowhere(lost))
            .upstream("found", found, provider(found))
            .layer(layer.on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome))))
            .build()
            .expect("a gateway");
        let body = json!({"model": "best", "seed": 7, "messages": [{"role": "user", "content": "hi"}]});
        let request = Request::post(CHAT).body(Body::from(body.to_string())).expect("a request");
        let answer = gateway.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), 200);
        let header = answer.headers().get("x-tollgate-warnings").map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(header.as_deref(), warnings, "{lost} before {found}");
        answer.into_body().collect().await.expect("whole");
        let outcome = outcomes.lock().expect("no panic").pop().expect("it closed");
        let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [AttemptEnd::Unsent, AttemptEnd::Complete]);
        assert_eq!(outcome.warnings.as_deref(), warnings, "{lost} before {found}");
    }
}

#[tokio::test]
async fn a_translated_request_is_kept_by_whoever_answers_it_and_nobody_else() {
    let mine = service_fn(|request: Request<Body>| async {
        let body = request.into_body().collect().await.expect("in memory").to_bytes();
        assert!(body.is_unique(), "it may be large, and the answer long");
        let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1, "output_tokens": 1}});
        let answer =
            Response::builder().header("content-type", "application/json").body(Body::from(answer.to_string()));
        Ok::<_, Infallible>(answer.expect("an answer"))
    });
    let body = json!({"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "hi"}]});
    let request = Request::post(CHAT).body(Body::from(body.to_string())).expect("a request");
    let answer = TranslateLayer::new(Dialect::Anthropic).layer(mine).oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn what_one_dialect_cannot_express_goes_to_the_target_that_can() {
    let provider = Simulated::new().recording();
    let upstream = |dialect| Provider::with_client(dialect, "http://sim.invalid", None, provider.clone());
    let table = ModelTable::new()
        .pattern("claude-opus-5-5", "anthropic", Dialect::Anthropic)
        .pattern("gpt-5", "openai", Dialect::OpenAiChat)
        .alias("best", ["claude-opus-5-5", "gpt-5"]);
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, upstream(Dialect::Anthropic).expect("a URL"))
        .upstream("openai", Dialect::OpenAiChat, upstream(Dialect::OpenAiChat).expect("a URL"))
        .layer(GatewayLayer::new().router(table))
        .build()
        .expect("a gateway");
    let user = json!([{"role": "user", "content": "hi"}]);
    let part = |part| json!({"messages": [{"role": "user", "content": [part]}]});
    let tree = json!({"type": "object", "$defs": {"T": {"properties": {"t": {"$ref": "#/$defs/T"}}}}, "properties": {"t": {"$ref": "#/$defs/T"}}});
    let prefill = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]);
    let mut answered = 0;
    for (mut body, status) in [
        (
            json!({"messages": user, "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": tree}}}),
            200,
        ),
        (json!({"messages": prefill}), 200),
        (json!({"messages": user, "tools": [{"type": "file_search"}]}), 200),
        (part(json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}})), 200),
        (part(json!({"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}})), 200),
        (part(json!({"type": "smell"})), 200),
        // What is malformed is so for everyone.
        (part(json!({"type": "image_url"})), 400),
    ] {
        body["model"] = json!("best");
        let request = Request::post(CHAT).body(Body::from(body.to_string())).expect("a request");
        let answer = gateway.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), status, "{body}");
        let sent = provider.received();
        assert!(sent.iter().all(|sent| sent.uri.path() == CHAT), "{body}");
        answered += usize::from(status == 200);
        assert_eq!(sent.len(), answered, "{body}");
    }
}
