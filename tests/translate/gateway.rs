//! Calls to an upstream of the other dialect, through the gateway and through the layer alone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::{Value, json};
use tollgate::body::BoxError;
use tollgate::dialect::translate::{AnthropicVersion, Mode};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::catalog::{Abilities, Catalog};
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::rejection::RejectionKind;
use tollgate::route::ModelTable;
use tollgate::testing::Simulated;
use tollgate::translate::{TranslateLayer, Translation};
use tollgate::upstream::Provider;
use tollgate::{Body, Call, Dialect, Gate, Gateway, GatewayLayer, MeterLayer, Rejection};
use tower::{Layer, ServiceExt, service_fn};

use crate::read;

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";

/// A gateway in front of a simulated provider of both dialects, and the outcomes of its calls.
struct Site {
    gateway: Gateway,
    provider: Simulated,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

impl Site {
    fn new(translation: Translation) -> Self {
        let provider = Simulated::new().recording();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let seen = outcomes.clone();
        let upstream =
            |dialect| Provider::with_client(dialect, "http://sim.invalid", None, provider.clone()).expect("a URL");
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, upstream(Dialect::Anthropic))
            .upstream("openai", Dialect::OpenAiChat, upstream(Dialect::OpenAiChat))
            .translation(translation)
            .layer(
                GatewayLayer::new()
                    .on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome))),
            )
            .build()
            .expect("a gateway");
        Site { gateway, provider, outcomes }
    }

    async fn ask(&self, path: &str, body: Value) -> (StatusCode, HeaderMap, Vec<u8>) {
        let request =
            Request::post(path).header("anthropic-beta", "b").body(Body::from(body.to_string())).expect("a request");
        let (head, body) =
            self.gateway.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
        let bytes = body.collect().await.expect("a whole answer").to_bytes();
        (head.status, head.headers, bytes.to_vec())
    }

    fn outcome(&self) -> Outcome {
        self.outcomes.lock().expect("no panic").pop().expect("a call closed")
    }
}

struct Capping;

#[async_trait]
impl Gate for Capping {
    async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        call.cap_max_tokens(100);
        Ok(())
    }
}

fn claude(prompt: &str, stream: bool) -> Value {
    json!({"model": "claude-haiku-5-5", "stream": stream, "seed": 7, "messages": [{"role": "user", "content": prompt}]})
}

fn gpt(prompt: &str, stream: bool) -> Value {
    json!({"model": "gpt-5-mini", "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]})
}

#[tokio::test]
async fn a_chat_client_is_answered_by_claude_and_the_call_is_accounted() {
    let site = Site::new(Translation::new());
    let (status, headers, body) = site.ask(CHAT, claude("hi", false)).await;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &answer["object"]), (StatusCode::OK, &json!("chat.completion")));
    assert_eq!(headers["x-tollgate-warnings"], "dropped=seed");
    assert_eq!(answer["model"], "claude-haiku-5-5");
    let sent = site.provider.received().pop().expect("a request");
    assert_eq!(sent.uri.path(), MESSAGES);
    assert_eq!(sent.headers.get("anthropic-beta"), None, "a client of OpenAI has nothing to say of Anthropic's betas");
    let outcome = site.outcome();
    assert_eq!((outcome.end, outcome.warnings.as_deref()), (End::Complete, Some("dropped=seed")));
    assert_eq!(AuditRecord::new(&outcome).warnings.as_deref(), Some("dropped=seed"), "and whoever audits it is told");
    let usage = outcome.usage.expect("the provider's own figures");
    assert_eq!(
        (json!(usage.total_input()), json!(usage.output)),
        (answer["usage"]["prompt_tokens"].clone(), answer["usage"]["completion_tokens"].clone())
    );
    assert!(outcome.cost.is_some() && outcome.attempts[0].usage_is_final);
}

#[tokio::test]
async fn streams_are_translated_both_ways_and_metered() {
    let site = Site::new(Translation::new());
    let (status, headers, body) = site.ask(CHAT, claude("hi", true)).await;
    assert_eq!(
        (status, headers["content-type"].as_bytes()),
        (StatusCode::OK, &b"text/event-stream; charset=utf-8"[..])
    );
    let told = read::chat(&body, true);
    assert!(told.ended && !told.text.is_empty() && told.stop.as_deref() == Some("stop"));
    assert!(site.outcome().attempts[0].usage_is_final);

    let (status, _, body) = site.ask(MESSAGES, gpt("hi", true)).await;
    let told = read::messages(&body, true);
    assert!(status.is_success() && told.ended && told.stop.as_deref() == Some("end_turn"), "{told:?}");
    let outcome = site.outcome();
    assert!(outcome.end == End::Complete && outcome.attempts[0].usage_is_final, "{outcome:?}");
    assert_eq!(told.usage.map(|usage| usage.output), outcome.usage.map(|usage| usage.output));
}

#[tokio::test]
async fn a_stream_begins_with_how_much_is_likely_to_have_gone_in() {
    let site = Site::new(Translation::new());
    let began = |body: Vec<u8>| {
        let text = String::from_utf8(body).expect("UTF-8");
        let data = text.split("data: ").nth(1).and_then(|rest| rest.lines().next()).expect("an event").to_owned();
        let event: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!((&event["type"], &event["message"]["usage"]["estimated"]), (&json!("message_start"), &json!(true)));
        event["message"]["usage"]["input_tokens"].as_u64().expect("a number")
    };
    let mut last = 0;
    for prompt in ["hi".to_owned(), "word ".repeat(400), "word ".repeat(4_000)] {
        let (_, _, body) = site.ask(MESSAGES, gpt(&prompt, true)).await;
        let told = began(body);
        // The guess counts bytes, so it is only about right.
        let likely = prompt.len() as u64 / 4;
        assert!(told > last && (likely / 2..=likely * 2 + 100).contains(&told), "{told} of {}", prompt.len());
        last = told;
    }
}

#[tokio::test]
async fn nobody_is_billed_by_the_guess_that_a_stream_begins_with() {
    let seen: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let outcomes = seen.clone();
    // The meter is outside of the translation and reads its answers.
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, Simulated::new());
    let service = GatewayLayer::new()
        .on_close(move |outcome| outcomes.lock().expect("no panic").push(Outcome::clone(outcome)))
        .layer(TranslateLayer::new(Dialect::OpenAiChat).layer(provider.expect("a URL")));
    let request = Request::post(MESSAGES).body(Body::from(gpt("sim:deltas=9,stall=4", true).to_string()));
    let answer = service.oneshot(request.expect("a request")).await.unwrap_or_else(|never| match never {});
    let mut body = answer.into_body();
    let first = body.frame().await.expect("a frame").expect("no error").into_data().expect("bytes");
    assert!(String::from_utf8_lossy(&first).contains(r#""estimated":true"#));
    drop(body);
    let outcome = seen.lock().expect("no panic").pop().expect("a call closed");
    assert_eq!((outcome.end, outcome.attempts.len(), outcome.usage), (End::Abandoned, 1, None), "{outcome:?}");
}

#[tokio::test]
async fn thinking_that_another_provider_has_answered_with_does_not_go_to_anthropic() {
    let site = Site::new(Translation::new());
    // A conversation of a Messages client that a Chat Completions server has answered so far, and Claude continues.
    let turn =
        json!([{"type": "thinking", "thinking": "hm", "signature": "tgsig_v1."}, {"type": "text", "text": "so"}]);
    let mut body = json!({"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": turn}, {"role": "user", "content": "and?"}]});
    for path in [MESSAGES, "/v1/messages/count_tokens"] {
        let (status, headers, _) = site.ask(path, body.clone()).await;
        assert_eq!((status, headers["x-tollgate-warnings"].as_bytes()), (StatusCode::OK, &b"dropped=thinking"[..]));
        let sent = site.provider.received().pop().expect("a request");
        let left = body.to_string().replace(r#"{"signature":"tgsig_v1.","thinking":"hm","type":"thinking"},"#, "");
        assert!(left.len() < body.to_string().len(), "{body}");
        assert_eq!(String::from_utf8_lossy(&sent.body), left, "and every other byte does");
    }
    assert_eq!(site.outcome().warnings.as_deref(), Some("dropped=thinking"));
    // Other servers that speak Messages may require their thinking back.
    let local = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, site.provider.clone());
    let any = GatewayLayer::new().router(ModelTable::new().pattern("*", "local", Dialect::Anthropic));
    let local = Gateway::builder()
        .layer(any)
        .upstream("local", Dialect::Anthropic, local.expect("a URL"))
        .build()
        .expect("a gateway");
    for model in ["qwen3-coder", "deepseek-chat"] {
        let mut asked = body.clone();
        asked["model"] = json!(model);
        let request = Request::post(MESSAGES).body(Body::from(asked.to_string())).expect("a request");
        let answer = local.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!((answer.status(), answer.headers().get("x-tollgate-warnings")), (StatusCode::OK, None));
        assert_eq!(site.provider.received().pop().expect("a request").body, asked.to_string());
    }
    let silent = Site::new(Translation::new().mode(Mode::Silent));
    let (_, headers, _) = silent.ask(MESSAGES, body.clone()).await;
    assert_eq!(headers.get("x-tollgate-warnings"), None, "nobody is told");
    assert!(!String::from_utf8_lossy(&silent.provider.received().pop().expect("a request").body).contains("tgsig_v1."));
    // Thinking that Anthropic signed is kept.
    body["messages"][1]["content"][0]["signature"] = json!("EqQBCgIYAhIkMTIz");
    let (status, headers, _) = site.ask(MESSAGES, body.clone()).await;
    assert_eq!((status, headers.get("x-tollgate-warnings")), (StatusCode::OK, None));
    assert_eq!(site.provider.received().pop().expect("a request").body, body.to_string());
}

#[tokio::test]
async fn row_22_ids_of_calls_that_claude_refuses_go_there_in_its_own_form() {
    let site = Site::new(Translation::new());
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"tool": id}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": id});
    // A conversation of a Messages client that a Chat Completions server has answered so far, and Claude continues.
    let turns = |first: &str, second: &str| {
        json!({"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"},
            {"role": "assistant", "content": [call(first)]}, {"role": "user", "content": [result(first)]},
            {"role": "assistant", "content": [call(second)]}, {"role": "user", "content": [result(second)]}]})
    };
    let mut body = turns("functions.Bash:0", "call_0");
    for path in [MESSAGES, "/v1/messages/count_tokens"] {
        let (status, headers, _) = site.ask(path, body.clone()).await;
        assert_eq!((status, headers["x-tollgate-warnings"].as_bytes()), (StatusCode::OK, &b"adapted=tool_use_id"[..]));
        let sent = String::from_utf8(site.provider.received().pop().expect("a request").body.to_vec()).expect("text");
        let json: Value = serde_json::from_str(&sent).expect("JSON");
        let id = json["messages"][1]["content"][0]["id"].as_str().expect("an id").to_owned();
        assert!(
            id.starts_with("toolu_") && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{id}"
        );
        let back = |name: &str| (format!(r#""{name}":"{id}""#), format!(r#""{name}":"functions.Bash:0""#));
        let [(call, its), (result, of)] = ["id", "tool_use_id"].map(back);
        assert_eq!(sent.replace(&call, &its).replace(&result, &of), body.to_string(), "and nothing else is changed");
    }
    assert_eq!(site.outcome().warnings.as_deref(), Some("adapted=tool_use_id"));
    // With what else Claude refuses.
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "tgsig_v1."});
    body["messages"][1]["content"].as_array_mut().expect("blocks").insert(0, thought);
    let (_, headers, _) = site.ask(MESSAGES, body).await;
    assert_eq!(headers["x-tollgate-warnings"], "dropped=thinking; adapted=tool_use_id");
    let sent: Value =
        serde_json::from_slice(&site.provider.received().pop().expect("a request").body).expect("JSON goes upstream");
    assert_eq!(sent["messages"][1]["content"][0]["id"], sent["messages"][2]["content"][0]["tool_use_id"]);
    // An id that comes again.
    site.ask(MESSAGES, turns("call_0", "call_0")).await;
    let mut expected = turns("call_0", "call_0");
    expected["messages"][3]["content"][0]["id"] = json!("call_0_2");
    expected["messages"][4]["content"][0]["tool_use_id"] = json!("call_0_2");
    assert_eq!(site.provider.received().pop().expect("a request").body, expected.to_string());
    // Ids that are fine stay.
    let body = turns("call_0", "toolu_1");
    let (_, headers, _) = site.ask(MESSAGES, body.clone()).await;
    assert_eq!(headers.get("x-tollgate-warnings"), None);
    assert_eq!(site.provider.received().pop().expect("a request").body, body.to_string());
}

#[tokio::test]
async fn row_88_an_error_before_the_first_byte_is_an_http_error() {
    let site = Site::new(Translation::new());
    for (path, body, seen) in
        [(CHAT, claude("sim:status=529", true), 429), (MESSAGES, gpt("sim:status=503", true), 529)]
    {
        let (status, headers, body) = site.ask(path, body).await;
        assert_eq!((status.as_u16(), headers["content-type"].as_bytes()), (seen, &b"application/json"[..]));
        assert!(serde_json::from_slice::<Value>(&body).is_ok_and(|body| body.get("error").is_some()));
        assert_eq!(site.outcome().end, End::Failed);
    }
    // An error in the first event of a stream with status 200 becomes an HTTP error too.
    let event =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"later\"}}\n\n";
    // A ping says only that somebody is there.
    for before in ["", "event: ping\ndata: {\"type\": \"ping\"}\n\n"] {
        let mine = service_fn(move |_request: Request<Body>| async move {
            let body = Body::from([before, event].concat());
            let answer = Response::builder().header("content-type", "text/event-stream").body(body);
            Ok::<_, Infallible>(answer.expect("an answer"))
        });
        let service = TranslateLayer::new(Dialect::Anthropic).layer(mine);
        let request = Request::post(CHAT).body(Body::from(claude("hi", true).to_string())).expect("a request");
        let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
            (429, &b"application/json"[..]),
            "{before}"
        );
    }
}

#[tokio::test]
async fn row_93_a_server_that_answers_a_stream_with_json_is_streamed() {
    let site = Site::new(Translation::new());
    let (_, _, body) = site.ask(CHAT, claude("sim:json", true)).await;
    assert!(read::chat(&body, true).ended);
    let (_, _, body) = site.ask(MESSAGES, gpt("sim:json", true)).await;
    assert!(read::messages(&body, true).ended);
}

#[tokio::test]
async fn tokens_are_counted_by_an_estimate_that_says_so() {
    let site = Site::new(Translation::new());
    let (status, headers, body) = site.ask("/v1/messages/count_tokens", gpt("how many tokens are these?", false)).await;
    let counted: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(status.is_success() && counted["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{counted}");
    assert_eq!(headers["x-tollgate-warnings"], "usage=estimated");
    assert!(site.provider.received().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn usage_that_nobody_states_is_not_known_and_no_zero() {
    let site = Site::new(Translation::new());
    let (_, headers, body) = site.ask(CHAT, claude("sim:nousage", false)).await;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer.get("usage"), None);
    assert_eq!(headers["x-tollgate-warnings"], "dropped=seed; usage=unknown");
    assert_eq!(site.outcome().warnings.as_deref(), Some("dropped=seed; usage=unknown"));
    let (_, headers, body) = site.ask(MESSAGES, gpt("sim:nousage", false)).await;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    let figures = |usage: &Value| [usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64()];
    assert!(
        figures(&answer["usage"]).iter().all(|tokens| tokens.is_some_and(|tokens| tokens > 0)),
        "SDKs want figures"
    );
    assert_eq!(headers["x-tollgate-warnings"], "usage=estimated");
    // For a stream the warning is only in the record, since the head has been sent by then.
    let prompt = format!("sim:nousage {}", "word ".repeat(400));
    let (_, headers, body) = site.ask(MESSAGES, gpt(&prompt, true)).await;
    let told = read::messages(&body, true);
    let usage = told.usage.expect("figures");
    assert!(told.ended && (400..1_000).contains(&usage.uncached) && usage.output > 0, "{usage:?}");
    assert_eq!(headers.get("x-tollgate-warnings"), None);
    let outcome = site.outcome();
    assert_eq!((outcome.warnings.as_deref(), outcome.attempts[0].usage_is_final), (Some("usage=estimated"), false));
    let silent = Site::new(Translation::new().mode(Mode::Silent));
    let (_, headers, _) = silent.ask(MESSAGES, gpt("sim:nousage", false)).await;
    assert_eq!(headers.get("x-tollgate-warnings"), None);
    let (_, headers, _) = site.ask(MESSAGES, gpt("hi", false)).await;
    assert_eq!(headers.get("x-tollgate-warnings"), None);
}

#[tokio::test]
async fn a_request_for_no_output_is_answered_without_a_provider() {
    let site = Site::new(Translation::new());
    for stream in [false, true] {
        let mut body = gpt("warm the cache", stream);
        body["max_tokens"] = json!(0);
        let (status, _, body) = site.ask(MESSAGES, body).await;
        assert!(status.is_success() && String::from_utf8_lossy(&body).contains(r#""stop_reason":"max_tokens""#));
    }
    assert!(site.provider.received().is_empty());
}

#[tokio::test]
async fn what_is_lost_is_refused_where_the_mode_is_strict_and_not_told_where_it_is_silent() {
    let strict = Site::new(Translation::new().mode(Mode::Strict));
    let (status, headers, body) = strict.ask(CHAT, claude("hi", false)).await;
    let error: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (status.as_u16(), &error["error"]["param"], &error["error"]["code"]),
        (400, &json!("seed"), &json!("unsupported_parameter"))
    );
    assert_eq!(headers["x-should-retry"], "false");
    assert!(strict.provider.received().is_empty());
    let silent = Site::new(Translation::new().mode(Mode::Silent));
    let (status, headers, _) = silent.ask(CHAT, claude("hi", false)).await;
    assert!(status.is_success() && !headers.contains_key("x-tollgate-warnings"));
}

#[tokio::test]
async fn a_client_that_speaks_the_upstreams_dialect_is_not_translated() {
    let site = Site::new(Translation::new().mode(Mode::Strict));
    let body = json!({"model": "gpt-5-mini", "seed": 7, "messages": [{"role": "user", "content": "hi"}]});
    assert!(site.ask(CHAT, body.clone()).await.0.is_success());
    assert_eq!(site.provider.received().pop().expect("a request").body, body.to_string().as_bytes());
}

#[tokio::test]
async fn the_layer_works_alone_in_front_of_any_service() {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = paths.clone();
    let mine = service_fn(move |request: Request<Body>| {
        seen.lock().expect("no panic").push(request.uri().path().to_owned());
        async move {
            let body = request.into_body().collect().await.expect("in memory").to_bytes();
            let asked: Value = serde_json::from_slice(&body).expect("JSON");
            let answer = json!({"id": "c1", "choices": [{"index": 0, "message": {"role": "assistant", "content": asked["model"]}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}});
            Ok::<_, Infallible>(Response::new(Body::from(answer.to_string())))
        }
    });
    let service = TranslateLayer::new(Dialect::OpenAiChat).model("llama-4").layer(MeterLayer::new().layer(mine));
    let ask = |path: &str, body: Value| {
        let service = service.clone();
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        async move {
            let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
            serde_json::from_slice::<Value>(&answer.into_body().collect().await.expect("whole").to_bytes())
                .expect("JSON")
        }
    };
    let told = ask(MESSAGES, gpt("hi", false)).await;
    assert_eq!((&told["content"][0]["text"], &told["usage"]["input_tokens"]), (&json!("llama-4"), &json!(3)));
    assert_eq!(ask(CHAT, gpt("hi", false)).await["choices"][0]["message"]["content"], "llama-4", "in either dialect");
    let refused =
        ask(MESSAGES, json!({"model": "m", "max_tokens": 9, "messages": [{"role": "critic", "content": "x"}]})).await;
    assert_eq!((&refused["type"], &refused["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert_eq!(*paths.lock().expect("no panic"), [CHAT, CHAT]);
}

#[tokio::test]
async fn the_layer_works_behind_one_that_edits_the_body() {
    let provider = Simulated::new().recording();
    let outcomes = Arc::new(Mutex::new(Vec::<Outcome>::new()));
    for (path, upstream, mut body) in
        [(CHAT, Dialect::Anthropic, claude("hi", true)), (MESSAGES, Dialect::OpenAiChat, gpt("hi", true))]
    {
        body["max_tokens"] = json!(4000);
        let (mine, seen) = (provider.clone(), outcomes.clone());
        let mine = Provider::with_client(upstream, "http://sim.invalid", None, mine).expect("a URL");
        let service = GatewayLayer::new()
            .gate(Capping)
            .on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome)))
            .layer(TranslateLayer::new(upstream).layer(mine));
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), StatusCode::OK);
        let bytes = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        // The gateway asked for the usage chunk for its meter, and does not pass it on.
        let told = if path == CHAT { read::chat(&bytes, true) } else { read::messages(&bytes, true) };
        assert_eq!((told.ended, told.usage.is_none()), (true, path == CHAT));
        let sent: Value = serde_json::from_slice(&provider.received().pop().expect("a request").body).expect("JSON");
        let most = if path == CHAT { &sent["max_tokens"] } else { &sent["max_completion_tokens"] };
        assert_eq!(most, 100);
        let outcome = outcomes.lock().expect("no panic").pop().expect("a call closed");
        assert!(outcome.end == End::Complete && outcome.attempts[0].usage_is_final, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_37_a_compressed_stream_is_translated_as_it_comes() {
    let site = Site::new(Translation::new());
    for (path, body) in
        [(CHAT, claude("sim:gzip,deltas=3,delay=5000", true)), (MESSAGES, gpt("sim:gzip,deltas=3,delay=5000", true))]
    {
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        let answer = site.gateway.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.headers().get("content-encoding"), None);
        let (began, mut body) = (tokio::time::Instant::now(), answer.into_body());
        let (mut bytes, mut first) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame.expect("a whole answer").into_data().expect("no trailers"));
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(r#""content":""#) || text.contains("text_delta") {
                first.get_or_insert(began.elapsed());
            }
        }
        let told = if path == CHAT { read::chat(&bytes, true) } else { read::messages(&bytes, true) };
        assert!(told.ended && !told.text.is_empty());
        assert!(first.is_some_and(|first| first + Duration::from_secs(5) <= began.elapsed()), "{first:?}");
    }
    let wished = |sent: &HeaderMap| sent.get("accept-encoding").is_none_or(|coding| coding == "identity");
    assert!(site.provider.received().iter().all(|sent| wished(&sent.headers)), "nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn row_62_a_whole_answer_may_take_ten_minutes() {
    let site = Site::new(Translation::new());
    for (path, mut body) in [(CHAT, claude("sim:first=595000", false)), (MESSAGES, gpt("sim:first=595000", false))] {
        body["max_tokens"] = json!(128_000);
        let began = tokio::time::Instant::now();
        let (status, _, _) = site.ask(path, body).await;
        assert_eq!(status, StatusCode::OK);
        assert!(began.elapsed() >= Duration::from_secs(595), "it was waited for");
    }
}

#[tokio::test]
async fn rows_89_and_94_headers_that_are_no_longer_true_are_taken_away() {
    let answering = |status: u16, body: &'static str| {
        service_fn(move |_request: Request<Body>| async move {
            let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut zipped, body.as_bytes()).expect("memory");
            let answer = Response::builder()
                .status(status)
                .header("content-encoding", "gzip")
                .header("content-length", "7")
                .header("retry-after", "30");
            Ok::<_, Infallible>(answer.body(Body::from(zipped.finish().expect("memory"))).expect("an answer"))
        })
    };
    let error = r#"{"error":{"message":"too large","code":400}}"#;
    let whole = r#"{"id":"c1","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    for (status, body, words) in [(400, error, "too large"), (200, whole, "hi")] {
        let service = TranslateLayer::new(Dialect::OpenAiChat).layer(answering(status, body));
        let request = Request::post(MESSAGES).body(Body::from(gpt("q", false).to_string())).expect("a request");
        let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), status);
        let headers = answer.headers().clone();
        assert_eq!((headers.get("content-encoding"), headers.contains_key("retry-after")), (None, status == 400));
        let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
        assert!(headers.get("content-length").is_none_or(|len| *len == bytes.len().to_string()));
        assert!(String::from_utf8_lossy(&bytes).contains(words));
    }
}

#[tokio::test(start_paused = true)]
async fn row_21_a_client_hears_something_while_the_upstream_is_silent() {
    let site = Site::new(Translation::new());
    for (path, body, sign) in [
        (CHAT, claude("sim:deltas=2,delay=60000", true), ": ping\n\n"),
        (MESSAGES, gpt("sim:deltas=2,delay=60000", true), "event: ping\n"),
    ] {
        let (_, _, answer) = site.ask(path, body).await;
        let told = if path == CHAT { read::chat(&answer, true) } else { read::messages(&answer, true) };
        assert!(told.ended, "{told:?}");
        let text = String::from_utf8(answer).expect("text");
        assert!(text.matches(sign).count() >= 8, "{text}");
    }
}

/// An event stream that is silent for a minute, and then sends everything.
struct Late(Pin<Box<tokio::time::Sleep>>, Option<Bytes>);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        ready!(self.0.as_mut().poll(cx));
        Poll::Ready(self.1.take().map(|all| Ok(http_body::Frame::data(all))))
    }
}

#[tokio::test(start_paused = true)]
async fn before_a_message_has_begun_a_sign_of_life_is_a_comment() {
    let late = service_fn(|_request: Request<Body>| async {
        let all = "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n\
                   data: [DONE]\n\n";
        let body = Late(Box::pin(tokio::time::sleep(Duration::from_secs(60))), Some(all.into()));
        let answer = Response::builder().header("content-type", "text/event-stream").body(Body::new(body));
        Ok::<_, Infallible>(answer.expect("an answer"))
    });
    let request = Request::post(MESSAGES).body(Body::from(gpt("hi", true).to_string())).expect("a request");
    let answer = TranslateLayer::new(Dialect::OpenAiChat).layer(late).oneshot(request).await;
    let answer = answer.unwrap_or_else(|never| match never {});
    assert_eq!(answer.status(), StatusCode::OK);
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    assert!(read::messages(&bytes, true).ended);
    let text = String::from_utf8_lossy(&bytes);
    let silence = text.strip_suffix(&text[text.find("event: message_start").expect("it begins")..]);
    let silence = silence.expect("a beginning");
    assert!(silence.len() >= 3 * 8 && silence.replace(": ping\n\n", "").is_empty(), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_fails_in_order_is_recorded_as_failed_though_its_connection_stays_open() {
    const START: &str =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9}}}\n\n";
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n";
    // An error of the provider's, something that is no event, and a stream that breaks off.
    let garbage = "event: content_block_delta\ndata: {{{\n\n";
    for (what, is_garbled) in [(error, false), (garbage, true), ("", false)] {
        for streams in [true, false] {
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
            sender.send_data(Bytes::from_static(START.as_bytes())).await.expect("room");
            let sender = match what {
                "" => {
                    sender.abort("reset".into());
                    None
                }
                what => {
                    sender.send_data(Bytes::from_static(what.as_bytes())).await.expect("room");
                    Some(sender)
                }
            };
            let body = Arc::new(Mutex::new(Some(body)));
            let provider = service_fn(move |_request: Request<Body>| {
                let answer = Response::builder().header("content-type", "text/event-stream");
                let body = body.lock().expect("one caller").take().expect("one call");
                let answer = answer.body(Body::new(body)).expect("an answer");
                async move { Ok::<_, Infallible>(answer) }
            });
            let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, provider);
            let outcomes = Arc::new(Mutex::new(Vec::new()));
            let seen = outcomes.clone();
            let layer = GatewayLayer::new().on_close(move |outcome| {
                seen.lock().expect("no panic").push(Outcome::clone(outcome));
            });
            let gateway = Gateway::builder().upstream("sim", Dialect::Anthropic, provider.expect("a URL")).layer(layer);
            let request = Request::post(CHAT).body(Body::from(claude("hi", streams).to_string())).expect("a request");
            let answer = gateway.build().expect("a gateway").oneshot(request).await.expect("infallible");
            let status = answer.status().as_u16();
            let bytes = answer.into_body().collect().await.expect("it ends in order").to_bytes();
            assert!(String::from_utf8_lossy(&bytes).contains(r#""error":{"#), "{bytes:?}");
            let failed = if what == error { 429 } else { 502 };
            assert_eq!(status, if streams { 200 } else { failed }, "{what}");
            let outcome = outcomes.lock().expect("no panic").remove(0);
            assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken), "{status} {what}");
            let garbled = Some(RejectionKind::UpstreamGarbled).filter(|_| is_garbled && !streams);
            assert_eq!(outcome.rejection, garbled, "{status} {what}");
            drop(sender);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_over_is_an_answer_though_its_connection_stays_open() {
    let said = b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for streams in [false, true] {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        sender.send_data(Bytes::from_static(said)).await.expect("room");
        let body = Arc::new(Mutex::new(Some(body)));
        let service = service_fn(move |_request: Request<Body>| {
            let answer = Response::builder().header("content-type", "text/event-stream");
            let body = body.lock().expect("one caller").take().expect("one call");
            let answer = answer.body(Body::new(body)).expect("an answer");
            async move { Ok::<_, Infallible>(answer) }
        });
        let service = TranslateLayer::new(Dialect::OpenAiChat).layer(service);
        let request = Request::post(MESSAGES).body(Body::from(gpt("hi", streams).to_string())).expect("a request");
        let began = tokio::time::Instant::now();
        let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), StatusCode::OK);
        let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
        assert!(String::from_utf8_lossy(&bytes).contains("hi"), "{bytes:?}");
        assert_eq!(streams, bytes.ends_with(b"{\"type\":\"message_stop\"}\n\n"), "{bytes:?}");
        let most = if streams { 8 } else { 2 };
        assert!(began.elapsed() < Duration::from_secs(most), "{:?}", began.elapsed());
        drop(sender);
    }
}

#[tokio::test]
async fn a_stream_where_none_was_asked_for_is_gathered_into_one_answer() {
    for (path, upstream, there, body) in [
        (CHAT, Dialect::Anthropic, MESSAGES, claude("sim:deltas=9", false)),
        (MESSAGES, Dialect::OpenAiChat, CHAT, gpt("sim:deltas=9", false)),
    ] {
        let mine = |streams: bool| {
            let provider = Simulated::new();
            service_fn(move |request: Request<Body>| {
                let provider = provider.clone();
                async move {
                    let asked = request.into_body().collect().await.expect("in memory").to_bytes();
                    let mut asked: Value = serde_json::from_slice(&asked).expect("JSON");
                    asked["stream"] = json!(streams);
                    asked["stream_options"] = json!({"include_usage": true});
                    let request = Request::post(there).body(Body::from(asked.to_string())).expect("a request");
                    Ok::<_, Infallible>(provider.oneshot(request).await.expect("it answers").map(Body::new))
                }
            })
        };
        let mut answers = Vec::new();
        for streams in [true, false] {
            let service = TranslateLayer::new(upstream).layer(mine(streams));
            let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
            let answer = service.oneshot(request).await.unwrap_or_else(|never| match never {});
            assert_eq!(
                (answer.status(), answer.headers()["content-type"].as_bytes()),
                (StatusCode::OK, &b"application/json"[..])
            );
            let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
            let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            ["id", "created"].iter().for_each(|name| _ = answer.as_object_mut().expect("an object").remove(*name));
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].to_string().len() > 200, "{}", answers[0]);
    }
    // A stream that breaks off is a failure, not a shorter answer.
    let half = service_fn(|_request: Request<Body>| async {
        let event = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n";
        let answer = Response::builder().header("content-type", "text/event-stream").body(Body::from(event));
        Ok::<_, Infallible>(answer.expect("an answer"))
    });
    let request = Request::post(CHAT).body(Body::from(claude("hi", false).to_string())).expect("a request");
    let answer = TranslateLayer::new(Dialect::Anthropic).layer(half).oneshot(request).await;
    assert_eq!(answer.unwrap_or_else(|never| match never {}).status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn anthropics_newer_version_is_asked_without_sampling() {
    let mut body = claude("hi", false);
    body["model"] = json!("claude-haiku-4-5");
    body["temperature"] = json!(0.5);
    for (version, takes) in [(AnthropicVersion::V2023_06_01, true), (AnthropicVersion::V2026_10_21, false)] {
        let site = Site::new(Translation::new().anthropic_version(version));
        let (status, headers, _) = site.ask(CHAT, body.clone()).await;
        let sent = site.provider.received().pop().expect("a request");
        let asked: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!(
            (status, sent.headers["anthropic-version"].as_bytes()),
            (StatusCode::OK, version.as_str().as_bytes())
        );
        assert_eq!(asked.get("temperature").is_some(), takes);
        assert_eq!(headers["x-tollgate-warnings"].to_str().expect("letters").contains("temperature"), !takes);
    }
}

#[tokio::test]
async fn thinking_that_no_longer_fits_is_dropped_where_the_host_says_so() {
    const BETA: &str = "thinking-binding-controls-2026-08-01";
    let binding = json!({"prefix_mismatch_behavior": "drop_block"});
    for (drops, effort, bound) in [(false, "high", false), (true, "high", true), (true, "none", false)] {
        let site = Site::new(Translation::new().drops_stale_thinking(drops));
        let mut body = claude("hi", false);
        (body["model"], body["reasoning_effort"]) = (json!("claude-sonnet-5"), json!(effort));
        let (status, _, _) = site.ask(CHAT, body).await;
        let sent = site.provider.received().pop().expect("a request");
        let asked: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!(
            (status, asked["thinking"].get("block_binding")),
            (StatusCode::OK, bound.then_some(&binding)),
            "{asked}"
        );
        assert_eq!(sent.headers.get("anthropic-beta").map(|beta| beta.as_bytes()), bound.then_some(BETA.as_bytes()));
    }
}

#[tokio::test]
async fn a_host_says_what_a_model_takes_of_which_it_knows_no_price() {
    let mut abilities = Abilities::of("qwen3-coder", Dialect::OpenAiChat);
    abilities.system_turns = true;
    let told = Catalog::builtin().with_abilities("qwen*", abilities);
    for (catalog, role) in [(Catalog::builtin(), "user"), (told, "system")] {
        let provider = Simulated::new().recording();
        let upstream = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, provider.clone());
        let gateway = Gateway::builder()
            .upstream("local", Dialect::OpenAiChat, upstream.expect("a URL"))
            .layer(GatewayLayer::new().catalog(catalog))
            .build()
            .expect("a gateway");
        let list = [json!({"role": "user", "content": "hi"}), json!({"role": "system", "content": "be brief"})];
        let body = json!({"model": "qwen3-coder", "max_tokens": 64, "messages": list}).to_string();
        let request = Request::post(MESSAGES).body(Body::from(body)).expect("a request");
        let answer = gateway.oneshot(request).await.unwrap_or_else(|never| match never {});
        assert_eq!(answer.status(), StatusCode::OK);
        let sent = provider.received().pop().expect("a request");
        let sent: Value = serde_json::from_slice(&sent.body).expect("JSON");
        assert_eq!(sent["messages"][1]["role"], role);
    }
}
