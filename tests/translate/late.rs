//! Answers that break off near their end, refusals, and what is taken from the head of the upstream's answer.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use serde_json::{Value, json};
use tollgate::dialect::translate::{Mode, Reply, error};
use tollgate::domain::outcome::Outcome;
use tollgate::translate::{TranslateLayer, Translation};
use tollgate::upstream::Provider;
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::make::{anthropic, block, chunks};
use crate::read;

fn asked(client: Dialect, stream: bool) -> Request<Body> {
    let path = if client == Dialect::Anthropic { "/v1/messages" } else { "/v1/chat/completions" };
    let model = if client == Dialect::Anthropic { "gpt-5-mini" } else { "claude-haiku-5-5" };
    let body =
        json!({"model": model, "max_tokens": 64, "stream": stream, "messages": [{"role": "user", "content": "q"}]});
    Request::post(path)
        .header("x-app", "cli")
        .header("x-app-tenant", "t1")
        .header("x-codex-turn-metadata", "{}")
        .header("x-claude-remote-session-id", "s")
        .body(Body::from(body.to_string()))
        .expect("a request")
}

/// Returns what a client gets if the upstream answers with these chunks, and breaks off if `breaks`.
async fn told(
    client: Dialect,
    streams: bool,
    kind: &'static str,
    answer: Vec<u8>,
    breaks: bool,
) -> (StatusCode, Vec<u8>) {
    told_by(TranslateLayer::new(other(client)), client, streams, kind, answer, breaks).await
}

fn other(client: Dialect) -> Dialect {
    if client == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic }
}

async fn told_by(
    layer: TranslateLayer,
    client: Dialect,
    streams: bool,
    kind: &'static str,
    answer: Vec<u8>,
    breaks: bool,
) -> (StatusCode, Vec<u8>) {
    let mine = service_fn(move |_request: Request<Body>| {
        let answer = Bytes::from(answer.clone());
        async move {
            let (mut end, body) = Channel::<Bytes, std::io::Error>::new(1);
            end.send_data(answer).await.expect("room");
            if breaks {
                end.abort(std::io::Error::other("reset"));
            }
            let response = Response::builder().header("content-type", kind).body(Body::new(body));
            Ok::<_, Infallible>(response.expect("an answer"))
        }
    });
    let answer = layer.layer(mine).oneshot(asked(client, streams)).await.unwrap_or_else(|never| match never {});
    let status = answer.status();
    (status, answer.into_body().collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default())
}

const EVENTS: &str = "text/event-stream";

#[tokio::test]
async fn what_breaks_off_behind_the_reason_of_its_end_has_ended() {
    let text = json!({"type": "text", "text": "so"});
    let mut messages = anthropic(&block(0, &text, &[]), None);
    messages.extend(b"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n");
    let chat = chunks(&[json!({"content": "so"})], Some("stop"), false);
    for streams in [true, false] {
        let (status, body) = told(Dialect::Anthropic, streams, EVENTS, chat.clone(), true).await;
        assert_eq!(status, StatusCode::OK);
        if streams {
            let told = read::messages(&body, true);
            assert!(told.ended && told.stop.as_deref() == Some("end_turn") && told.text == "so", "{told:?}");
        } else {
            let told: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((&told["content"][0]["text"], &told["stop_reason"]), (&json!("so"), &json!("end_turn")));
        }
        let (status, body) = told(Dialect::OpenAiChat, streams, EVENTS, messages.clone(), true).await;
        assert_eq!(status, StatusCode::OK);
        assert!(String::from_utf8_lossy(&body).contains(r#""finish_reason":"stop""#));
    }
    // Before the finish reason it has not.
    let half = chunks(&[json!({"content": "so"})], None, false);
    let (_, body) = told(Dialect::Anthropic, true, EVENTS, half.clone(), true).await;
    assert!(!String::from_utf8_lossy(&body).contains("message_stop"));
    assert_eq!(told(Dialect::Anthropic, false, EVENTS, half, true).await.0, StatusCode::BAD_GATEWAY);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_with_the_beginning_is_the_end_though_the_upstream_stays() {
    let error = json!({"error": {"message": "slow down", "type": "overloaded_error", "code": "rate_limit_exceeded"}});
    for client in [Dialect::Anthropic, Dialect::OpenAiChat] {
        let mut answer = match client {
            Dialect::Anthropic => chunks(&[json!({"content": "so"})], None, false),
            _ => anthropic(&block(0, &json!({"type": "text", "text": "so"}), &[]), None),
        };
        let name = if client == Dialect::Anthropic { "" } else { "event: error\n" };
        answer.extend(format!("{name}data: {error}\n\n").bytes());
        let answer = Bytes::from(answer);
        let keep = Arc::new(Mutex::new(Vec::new()));
        let open = keep.clone();
        let mine = service_fn(move |_request: Request<Body>| {
            let (answer, open) = (answer.clone(), open.clone());
            async move {
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
                sender.send_data(answer).await.expect("room");
                open.lock().expect("no panic").push(sender);
                let response = Response::builder().header("content-type", EVENTS).body(Body::new(body));
                Ok::<_, Infallible>(response.expect("an answer"))
            }
        });
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let seen = outcomes.clone();
        let service = GatewayLayer::new()
            .on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome)))
            .layer(TranslateLayer::new(other(client)).layer(mine));
        let answer = service.oneshot(asked(client, true)).await.unwrap_or_else(|never| match never {});
        let all = tokio::time::timeout(Duration::from_secs(3_600), answer.into_body().collect()).await;
        let all = all.expect("it ends").expect("whole").to_bytes();
        let told = if client == Dialect::Anthropic { read::messages(&all, true) } else { read::chat(&all, true) };
        assert_eq!((told.error.as_deref(), told.ended), (Some("slow down"), false));
        assert_eq!(keep.lock().expect("no panic").len(), 1, "the upstream had more to say");
        let outcome: Outcome = outcomes.lock().expect("no panic").pop().expect("a call closed");
        assert_eq!(outcome.warnings, None, "of what failed nothing is guessed");
    }
}

#[tokio::test]
async fn a_pause_that_is_the_last_word_of_a_stream_is_gone_on_with() {
    let times = Arc::new(AtomicUsize::new(0));
    let mine = service_fn(move |_request: Request<Body>| {
        let is_first = times.fetch_add(1, Ordering::Relaxed) == 0;
        let text = json!({"type": "text", "text": if is_first { "so " } else { "it is" }});
        let mut answer = anthropic(&block(0, &text, &[]), (!is_first).then_some("end_turn"));
        if is_first {
            answer.extend(b"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"pause_turn\"},\"usage\":{\"output_tokens\":3}}\n\n");
        }
        async move {
            let response = Response::builder().header("content-type", EVENTS).body(Body::from(answer));
            Ok::<_, Infallible>(response.expect("an answer"))
        }
    });
    let layer = TranslateLayer::new(Dialect::Anthropic).translation(Translation::new().server_tools(true));
    let body =
        json!({"model": "m", "stream": true, "web_search_options": {}, "messages": [{"role": "user", "content": "q"}]});
    let request = Request::post("/v1/chat/completions").body(Body::from(body.to_string())).expect("a request");
    let answer = layer.layer(mine).oneshot(request).await.unwrap_or_else(|never| match never {});
    let told = read::chat(&answer.into_body().collect().await.expect("whole").to_bytes(), true);
    assert!(told.ended && told.text == "so it is" && told.stop.as_deref() == Some("stop"), "{told:?}");
}

#[tokio::test]
async fn an_answer_that_says_that_the_content_is_against_a_policy_is_a_refusal() {
    let error =
        json!({"error": {"message": "no", "type": "invalid_request_error", "code": "content_policy_violation"}});
    for (kind, answer) in [("application/json", error.to_string()), (EVENTS, format!("data: {error}\n\n"))] {
        for streams in [true, false] {
            let (status, body) = told(Dialect::Anthropic, streams, kind, answer.clone().into_bytes(), false).await;
            assert_eq!(status, StatusCode::OK, "{kind} {streams}");
            if streams {
                let told = read::messages(&body, true);
                assert!(told.ended && told.stop.as_deref() == Some("refusal") && told.text.is_empty(), "{told:?}");
            } else {
                let told: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!((&told["stop_reason"], &told["content"]), (&json!("refusal"), &json!([])));
            }
            let strict = TranslateLayer::new(Dialect::OpenAiChat).translation(Translation::new().mode(Mode::Strict));
            let answer = answer.clone().into_bytes();
            let (status, body) = told_by(strict, Dialect::Anthropic, streams, kind, answer, false).await;
            let told: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((status, &told["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_error")));
        }
    }
}

/// Returns the head and the body of the gateway's answer if the upstream answers like this, and the outcome.
async fn through(client: Dialect, answer: Response<&'static str>) -> (Parts, Value, Outcome) {
    let (head, body) = answer.into_parts();
    let upstream = service_fn(move |_request: Request<Body>| {
        let answer = Response::from_parts(head.clone(), Body::from(body));
        async { Ok::<_, Infallible>(answer) }
    });
    let provider = Provider::with_client(other(client), "http://sim.invalid", None, upstream).expect("a URL");
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = outcomes.clone();
    let gateway = Gateway::builder()
        .upstream("other", other(client), provider)
        .layer(
            GatewayLayer::new().on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome))),
        )
        .build()
        .expect("a gateway");
    let answer = gateway.oneshot(asked(client, false)).await.unwrap_or_else(|never| match never {});
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    let outcome = outcomes.lock().expect("no panic").pop().expect("a call closed");
    (head, serde_json::from_slice(&body).expect("JSON"), outcome)
}

#[tokio::test]
async fn what_a_refusal_in_a_good_answer_has_cost_is_not_known() {
    let error = r#"{"error":{"message":"no","type":"invalid_request_error","code":"content_policy_violation"}}"#;
    for (status, warnings) in [(200, Some(&b"usage=unknown"[..])), (400, None)] {
        let answer = Response::builder().status(status).header("content-type", "application/json").body(error);
        let (head, told, _) = through(Dialect::Anthropic, answer.expect("an answer")).await;
        assert_eq!((head.status, &told["stop_reason"]), (StatusCode::OK, &json!("refusal")));
        let said = head.headers.get("x-tollgate-warnings").map(HeaderValue::as_bytes);
        assert_eq!(said, warnings, "{status}: an error of the provider's costs nothing");
    }
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_room_is_an_empty_one_to_anthropics_clients() {
    // OpenAI's answer to Claude Code, which asks a model for one token when it is chosen.
    const ERROR: &str = r#"{"error":{"message":"Could not finish the message because max_tokens or model output limit was reached. Please try again with higher max_tokens.","type":"invalid_request_error","param":null,"code":null}}"#;
    let answer =
        || Response::builder().status(400).header("content-type", "application/json").body(ERROR).expect("an answer");
    let (head, told, _) = through(Dialect::Anthropic, answer()).await;
    assert_eq!(
        (head.status, &told["stop_reason"], &told["content"]),
        (StatusCode::OK, &json!("max_tokens"), &json!([]))
    );
    // Where nothing may be replaced, it stays an error.
    let service = service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(answer().map(Body::from)) });
    let strict = TranslateLayer::new(Dialect::OpenAiChat).translation(Translation::new().mode(Mode::Strict));
    let answer = strict.layer(service).oneshot(asked(Dialect::Anthropic, false)).await;
    assert_eq!(answer.unwrap_or_else(|never| match never {}).status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_a_host_says_of_its_own_goes_upstream_and_what_the_client_is_does_not() {
    let seen = Arc::new(Mutex::new(HeaderMap::new()));
    let kept = seen.clone();
    let mine = service_fn(move |request: Request<Body>| {
        *kept.lock().expect("no panic") = request.headers().clone();
        async { Ok::<_, Infallible>(Response::new(Body::from("{}"))) }
    });
    let service = TranslateLayer::new(Dialect::OpenAiChat).layer(mine);
    service.oneshot(asked(Dialect::Anthropic, false)).await.unwrap_or_else(|never| match never {});
    let seen = seen.lock().expect("no panic");
    assert_eq!((seen.get("x-app"), seen["x-app-tenant"].as_bytes()), (None, &b"t1"[..]));
    assert!(
        !seen.contains_key("x-codex-turn-metadata") && !seen.contains_key("x-claude-remote-session-id"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_calls_of_one_session_share_the_key_of_a_cache() {
    let key = |model: &'static str, session: Option<&'static str>, user: Option<&'static str>| async move {
        let sent = Arc::new(Mutex::new(Bytes::new()));
        let kept = sent.clone();
        let mine = service_fn(move |request: Request<Body>| {
            let kept = kept.clone();
            async move {
                *kept.lock().expect("no panic") = request.into_body().collect().await.expect("in memory").to_bytes();
                Ok::<_, Infallible>(Response::new(Body::from("{}")))
            }
        });
        let body = json!({"model": model, "max_tokens": 64, "metadata": {"user_id": user}, "messages": [{"role": "user", "content": "q"}]});
        let mut request = Request::post("/v1/messages");
        if let Some(session) = session {
            request = request.header("x-claude-code-session-id", session);
        }
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let service = TranslateLayer::new(Dialect::OpenAiChat).layer(mine);
        service.oneshot(request).await.unwrap_or_else(|never| match never {});
        let sent: Value = serde_json::from_slice(&sent.lock().expect("no panic")).expect("JSON");
        assert!(!sent.to_string().contains("s1"), "a hash of it is told");
        (sent["prompt_cache_key"].clone(), sent["safety_identifier"].clone())
    };
    let (ours, _) = key("gpt-5", Some("s1"), Some("u1")).await;
    assert_eq!(ours.as_str().map(str::len), Some(32));
    assert_eq!(key("gpt-5", Some("s1"), Some("u2")).await, (ours.clone(), json!("u2")));
    assert_eq!(key("gpt-5", Some("s1"), None).await, (ours.clone(), Value::Null));
    assert_ne!(key("gpt-5", Some("s2"), Some("u1")).await.0, ours);
    // Without a session, the key is that of the user.
    assert_ne!(key("gpt-5", None, Some("u1")).await.0, ours);
    assert_eq!(key("gpt-5", None, None).await.0, Value::Null);
    assert_eq!(key("llama-4", Some("s1"), Some("u1")).await.0, Value::Null, "OpenAI alone knows it");
}

#[test]
fn a_rate_that_is_out_of_tokens_says_so() {
    let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
    for (name, left, kind) in [
        ("anthropic-ratelimit-input-tokens-remaining", "0", "tokens"),
        ("anthropic-ratelimit-output-tokens-remaining", "0", "tokens"),
        ("anthropic-ratelimit-tokens-remaining", "0", "tokens"),
        ("anthropic-ratelimit-input-tokens-remaining", "7", "requests"),
        ("anthropic-ratelimit-requests-remaining", "0", "requests"),
    ] {
        let headers = HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::from_static(left))]);
        let reply = Reply::new("m", "r");
        let told =
            error(StatusCode::TOO_MANY_REQUESTS, &headers, body, Dialect::Anthropic, Dialect::OpenAiChat, &reply);
        let json: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!((told.status.as_u16(), &json["error"]["type"]), (429, &json!(kind)), "{name}");
        assert_eq!(json["error"]["code"], "rate_limit_exceeded");
    }
}

#[tokio::test]
async fn a_rate_that_is_out_of_tokens_says_so_through_a_provider_and_nothing_else_of_the_account() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
    for (name, left, status, kind) in [
        ("anthropic-ratelimit-input-tokens-remaining", "0", 429, "tokens"),
        ("anthropic-ratelimit-output-tokens-remaining", "0", 429, "tokens"),
        ("anthropic-ratelimit-input-tokens-remaining", "7", 429, "requests"),
        ("anthropic-ratelimit-requests-remaining", "0", 429, "requests"),
        ("anthropic-ratelimit-input-tokens-remaining", "0", 400, "invalid_request_error"),
    ] {
        let answer = Response::builder().status(status).header("content-type", "application/json");
        let answer = answer.header(name, left).header("retry-after", "7").body(body).expect("an answer");
        let (head, told, _) = through(Dialect::OpenAiChat, answer).await;
        assert_eq!((head.status.as_u16(), &told["error"]["type"]), (status, &json!(kind)), "{name} {left}");
        let is_theirs = |name: &str| name.contains("ratelimit");
        assert!(!head.headers.keys().any(|name| is_theirs(name.as_str())), "{:?}", head.headers);
    }
}
