//! Searches that Anthropic runs for Chat Completions clients: the gateway continues a turn that pauses.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::dialect::translate::{self, Asked, Reply, request};
use tollgate::domain::budget::Window;
use tollgate::domain::outcome::{End, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::store::memory::MemoryBudgets;
use tollgate::translate::{TranslateLayer, Translation};
use tollgate::upstream::Provider;
use tollgate::{Body, BudgetLayer, Dialect, Gateway, GatewayLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::read;

const CHAT: &str = "/v1/chat/completions";

/// What Claude says before it pauses. Each block has members that the translation does not know.
fn first() -> Value {
    json!([
        {"type": "thinking", "thinking": "Where \"from\"?\n", "signature": "c2lnbmVk"},
        {"type": "text", "text": "I search."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather \u{fc}ber 1.0"}, "caller": {"type": "direct"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "RW5j"}]},
        {"type": "text", "text": " Sunny.", "citations": [{"type": "web_search_result_location", "url": "https://a.example", "title": "A",
            "encrypted_index": "SWR4", "cited_text": "sun"}]},
    ])
}

fn last() -> Value {
    json!([{"type": "text", "text": " Found."}])
}

/// An answer of Claude's, whole or streamed as was asked.
fn answer(id: &str, content: &Value, reason: &str, input: u64, output: u64, stream: bool) -> Response<Body> {
    let usage = json!({"input_tokens": input, "output_tokens": output, "server_tool_use": {"web_search_requests": 1}});
    let mut message = json!({"id": id, "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": usage});
    if !stream {
        let answer = Response::builder().header("content-type", "application/json");
        return answer.body(Body::from(message.to_string())).expect("an answer");
    }
    message["content"] = json!([]);
    message["stop_reason"] = json!(null);
    let mut events = vec![json!({"type": "message_start", "message": message})];
    for (index, block) in content.as_array().expect("a list").iter().enumerate() {
        let (mut start, mut deltas) = (block.clone(), Vec::new());
        let mut halves = |kind: &str, name: &str, text: &str| {
            let half = text.char_indices().nth(text.chars().count() / 2).expect("not empty").0;
            deltas.extend([&text[..half], &text[half..]].map(|piece| json!({"type": kind, name: piece})));
        };
        match block["type"].as_str().expect("a type") {
            "text" => {
                halves("text_delta", "text", block["text"].as_str().expect("text"));
                start["text"] = json!("");
                start.as_object_mut().expect("a block").remove("citations");
                let citations = block["citations"].as_array().into_iter().flatten();
                deltas.extend(citations.map(|citation| json!({"type": "citations_delta", "citation": citation})));
            }
            "thinking" => {
                halves("thinking_delta", "thinking", block["thinking"].as_str().expect("text"));
                deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
                (start["thinking"], start["signature"]) = (json!(""), json!(""));
            }
            "server_tool_use" => {
                halves("input_json_delta", "partial_json", &block["input"].to_string());
                start["input"] = json!({});
            }
            _ => {}
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.extend(
            deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        );
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    let events =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")));
    let answer = Response::builder().header("content-type", "text/event-stream");
    answer.body(Body::from(events.collect::<String>())).expect("an answer")
}

/// What the upstream does when it is asked to continue.
#[derive(Clone, Copy)]
enum Then {
    Ends,
    PausesAgain,
    IsOverloaded,
    IsCutShort,
}

type Seen = Arc<Mutex<Vec<Value>>>;

/// A provider that pauses, and the requests that it got.
fn claude(
    then: Then,
) -> (
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    Seen,
) {
    let asked = Seen::default();
    let seen = asked.clone();
    let service = service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().collect().await.expect("in memory").to_bytes();
            assert!(length.is_none_or(|length| length == body.len().to_string().as_str()));
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let stream = body["stream"] == true;
            let goes_on =
                body["messages"].as_array().expect("a list").last().is_some_and(|turn| turn["role"] == "assistant");
            seen.lock().expect("no panic").push(body);
            Ok(match then {
                _ if !goes_on => answer("msg_1", &first(), "pause_turn", 10, 5, stream),
                Then::Ends => answer("msg_2", &last(), "end_turn", 20, 7, stream),
                Then::PausesAgain => answer("msg_2", &last(), "pause_turn", 20, 7, stream),
                Then::IsOverloaded => {
                    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "later"}});
                    Response::builder().status(529).body(Body::from(error.to_string())).expect("an answer")
                }
                Then::IsCutShort => {
                    let begin =
                        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_2\"}}\n\n";
                    Response::builder()
                        .header("content-type", "text/event-stream")
                        .body(Body::from(begin))
                        .expect("an answer")
                }
            })
        }
    });
    (service, asked)
}

fn question(stream: bool) -> Request<Body> {
    let body = json!({"model": "claude-opus-5-5", "max_tokens": 64, "stream": stream, "stream_options": {"include_usage": true},
        "web_search_options": {"search_context_size": "high", "user_location": {"type": "approximate", "approximate": {"city": "Bern"}}},
        "messages": [{"role": "user", "content": "How is the weather?"}]});
    Request::post(CHAT).body(Body::from(body.to_string())).expect("a request")
}

/// What the client gets of a whole answer.
struct Heard {
    text: String,
    stop: String,
    input: u64,
    output: u64,
}

impl Heard {
    fn read(bytes: &[u8], stream: bool) -> Self {
        if stream {
            let told = read::chat(bytes, true);
            assert!(told.ended, "{told:?}");
            let usage = told.usage.expect("usage");
            let input = usage.uncached + usage.read + usage.written;
            return Heard { text: told.text, stop: told.stop.expect("a reason"), input, output: usage.output };
        }
        let answer: Value = serde_json::from_slice(bytes).expect("JSON");
        let (choice, usage) = (&answer["choices"][0], &answer["usage"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let count = |value: &Value| value.as_u64().expect("a count");
        let (input, output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
        Heard { text: text(&choice["message"]["content"]), stop: text(&choice["finish_reason"]), input, output }
    }
}

async fn told(answer: Response<Body>) -> (StatusCode, Vec<u8>) {
    let status = answer.status();
    (status, answer.into_body().collect().await.expect("whole").to_bytes().to_vec())
}

#[tokio::test]
async fn a_turn_that_pauses_is_gone_on_with_as_another_attempt() {
    for stream in [false, true] {
        let (upstream, asked) = claude(Then::Ends);
        let outcomes = Arc::new(Mutex::new(Vec::<Outcome>::new()));
        let seen = outcomes.clone();
        let provider =
            Provider::with_client(Dialect::Anthropic, "http://claude.invalid", None, upstream).expect("a URL");
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, provider)
            .translation(Translation::new().server_tools(true))
            .layer(
                GatewayLayer::new()
                    .on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome))),
            )
            .build()
            .expect("a gateway");
        let (status, bytes) =
            told(gateway.oneshot(question(stream)).await.unwrap_or_else(|never| match never {})).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&bytes));
        let heard = Heard::read(&bytes, stream);
        assert_eq!((&*heard.text, &*heard.stop), ("I search. Sunny. Found.", "stop"));
        assert_eq!((heard.input, heard.output), (30, 12), "of both attempts");

        let asked = asked.lock().expect("no panic").clone();
        assert_eq!(asked.len(), 2);
        let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 5,
            "user_location": {"type": "approximate", "city": "Bern"}});
        assert_eq!(asked[0]["tools"], json!([search]));
        let mut again = asked[0].clone();
        again["messages"].as_array_mut().expect("a list").push(json!({"role": "assistant", "content": first()}));
        assert_eq!(asked[1], again, "what was said is sent back as it came, and nothing else is changed");

        let outcome = outcomes.lock().expect("no panic").pop().expect("a call closed");
        let usage = outcome.usage.expect("usage");
        assert_eq!((outcome.end, outcome.attempts.len(), usage.input, usage.output), (End::Complete, 2, 30, 12));
        assert_eq!(usage.web_searches, 2);
        assert!(outcome.attempts.iter().all(|attempt| attempt.usage_is_final));
    }
}

#[tokio::test]
async fn a_turn_that_never_ends_is_left_after_five_pauses_as_too_long() {
    for stream in [false, true] {
        let (upstream, asked) = claude(Then::PausesAgain);
        let layer = TranslateLayer::new(Dialect::Anthropic).translation(Translation::new().server_tools(true));
        let answer = layer.layer(upstream).oneshot(question(stream)).await.unwrap_or_else(|never| match never {});
        let heard = Heard::read(&told(answer).await.1, stream);
        assert_eq!((&*heard.stop, asked.lock().expect("no panic").len()), ("length", 6));
        assert_eq!(heard.text.matches(" Found.").count(), 5);
        let asked = asked.lock().expect("no panic");
        let content = asked[5]["messages"][1]["content"].as_array().expect("a list").len();
        assert_eq!(
            (content, asked[5]["messages"].as_array().map(Vec::len)),
            (5 + 4, Some(2)),
            "one turn, of all that was said"
        );
    }
}

#[tokio::test]
async fn what_fails_while_it_goes_on_is_a_failure_and_no_end() {
    for (then, status) in [(Then::IsOverloaded, 429), (Then::IsCutShort, 502)] {
        for stream in [false, true] {
            let (upstream, _) = claude(then);
            let layer = TranslateLayer::new(Dialect::Anthropic).translation(Translation::new().server_tools(true));
            let answer = layer.layer(upstream).oneshot(question(stream)).await.unwrap_or_else(|never| match never {});
            let (seen, bytes) = told(answer).await;
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains("\"error\":{") && !text.contains("[DONE]") && !text.contains("\"stop\""), "{text}");
            assert_eq!(seen.as_u16(), if stream { 200 } else { status });
        }
    }
}

#[tokio::test]
async fn a_search_is_refused_unless_the_host_allows_it_and_on_a_key_with_a_budget() {
    let (upstream, asked) = claude(Then::Ends);
    let refused = |answer: Response<Body>| async move {
        let (status, bytes) = told(answer).await;
        let error: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(
            (status, &error["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!("web_search_options")),
            "{error}"
        );
    };
    let answer = TranslateLayer::new(Dialect::Anthropic).layer(upstream.clone()).oneshot(question(false)).await;
    refused(answer.unwrap_or_else(|never| match never {})).await;

    let provider = Provider::with_client(Dialect::Anthropic, "http://claude.invalid", None, upstream).expect("a URL");
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .translation(Translation::new().server_tools(true))
        .layer(GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())))
        .build()
        .expect("a gateway");
    let mut request = question(false);
    request
        .extensions_mut()
        .insert(Arc::new(Principal::new("ada").budget(Window::Total, "50".parse().expect("an amount"))));
    refused(gateway.oneshot(request).await.unwrap_or_else(|never| match never {})).await;
    assert!(asked.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_upstream_is_asked_to_go_on_ends_the_call() {
    let (upstream, _) = claude(Then::Ends);
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    // The upstream never answers when it is asked to continue.
    let silent = service_fn(move |request: Request<Body>| {
        let (upstream, nth) = (upstream.clone(), asked.fetch_add(1, Ordering::Relaxed));
        async move { if nth == 0 { upstream.oneshot(request).await } else { std::future::pending().await } }
    });
    let outcomes = Arc::new(Mutex::new(Vec::<Outcome>::new()));
    let seen = outcomes.clone();
    let provider = Provider::with_client(Dialect::Anthropic, "http://claude.invalid", None, silent).expect("a URL");
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .translation(Translation::new().server_tools(true))
        .layer(
            GatewayLayer::new().on_close(move |outcome| seen.lock().expect("no panic").push(Outcome::clone(outcome))),
        )
        .build()
        .expect("a gateway");
    let mut body = gateway.oneshot(question(true)).await.unwrap_or_else(|never| match never {}).into_body();
    while count.load(Ordering::Relaxed) < 2 {
        let frame = tokio::time::timeout(std::time::Duration::from_millis(50), body.frame()).await;
        assert!(!matches!(frame, Ok(None)), "it has not ended");
    }
    assert!(outcomes.lock().expect("no panic").is_empty());
    drop(body);
    let outcome = outcomes.lock().expect("no panic").pop().expect("a call closed");
    assert_eq!((outcome.end, outcome.attempts.len()), (End::Abandoned, 2));
}

#[test]
fn a_turn_that_pauses_is_one_that_was_too_long_to_who_translates_by_hand() {
    let asked = Asked::new("claude-opus-5-5").server_tools(true);
    let body = r#"{"model":"m","web_search_options":{},"stream":true,"stream_options":{"include_usage":true},
        "messages":[{"role":"user","content":"q"}]}"#;
    let translated =
        request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked).expect("it can be asked");
    let reply = translated.reply(Reply::new("m", "req"));
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": last(), "stop_reason": "pause_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2}});
    let message = message.to_string();
    let whole =
        translate::answer(message.as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply).expect("an answer");
    assert_eq!(Heard::read(&whole, false).stop, "length");
    let stream = translate::answer_as_stream(message.as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply);
    assert_eq!(Heard::read(&stream.expect("an answer"), true).stop, "length");
}
