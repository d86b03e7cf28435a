//! Errors of upstreams: what a client must not see of them, and what they become in the other dialect.

use std::convert::Infallible;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};
use tollgate::dialect::translate::error;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway};
use tower::{ServiceExt, service_fn};

use crate::make::{anthropic, block, call, chat_chunks, chunks, fragment, reply, translate};
use crate::read;

const KEY: &str = "sk-canary-of/the+gateway";
const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAiChat];

/// Returns the client's answer if the upstream answers like this.
async fn through(
    [upstream, client]: [Dialect; 2],
    status: u16,
    headers: &[(&'static str, &str)],
    pieces: &[&[u8]],
) -> Response<Bytes> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let value = |value: &str| HeaderValue::from_str(value).expect("a value");
    let headers: HeaderMap = headers.iter().map(|(name, said)| (HeaderName::from_static(name), value(said))).collect();
    let stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
    let mine = service_fn(move |_request: Request<Body>| {
        let (headers, pieces) = (headers.clone(), pieces.clone());
        async move {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1 + pieces.len());
            for piece in pieces {
                sender.send_data(piece).await.expect("room");
            }
            let mut response = Response::new(Body::new(body));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            *response.headers_mut() = headers;
            response.extensions_mut().insert(ReasonPhrase::from_static(b"Overloaded"));
            Ok::<_, Infallible>(response)
        }
    });
    let credential = Credential::bearer(KEY).expect("a header");
    let provider = Provider::with_client(upstream, "http://sim.invalid", credential, mine).expect("a URL");
    let gateway = Gateway::builder().upstream("other", upstream, provider).build().expect("a gateway");
    let path = if client == Dialect::Anthropic { "/v1/messages" } else { "/v1/chat/completions" };
    let model = if upstream == Dialect::Anthropic { "claude-haiku-5-5" } else { "gpt-5-mini" };
    let body =
        json!({"model": model, "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "q"}]});
    let request = Request::post(path).header("accept-encoding", "gzip").body(Body::from(body.to_string()));
    let answer = gateway.oneshot(request.expect("a request")).await.unwrap_or_else(|never| match never {});
    let (head, body) = answer.into_parts();
    Response::from_parts(head, body.collect().await.expect("whole").to_bytes())
}

fn pairs() -> impl Iterator<Item = [Dialect; 2]> {
    BOTH.into_iter().flat_map(|upstream| BOTH.map(|client| [upstream, client]))
}

fn said(answer: &Response<Bytes>) -> String {
    format!("{:?} {}", answer.headers(), String::from_utf8_lossy(answer.body()))
}

#[tokio::test]
async fn no_error_of_the_provider_tells_a_client_what_it_was_asked_with() {
    for spelled in [KEY, r"sk-canary-of\/the\u002Bgateway"] {
        let body = json!({"error": {"type": "x", "message": format!("no {KEY} here"), "code": KEY, "param": KEY}});
        let body = body.to_string().replace(KEY, spelled);
        for (pair, status) in pairs().flat_map(|pair| [400, 403, 404, 429, 500, 503].map(|status| (pair, status))) {
            let length = body.len().to_string();
            let headers = [
                ("content-type", "application/json"),
                ("content-length", &*length),
                ("x-echo", KEY),
                ("retry-after", KEY),
            ];
            let whole = through(pair, status, &headers, &[body.as_bytes()]).await;
            assert!(!said(&whole).contains(KEY) && !said(&whole).contains(spelled), "{pair:?}: {}", said(&whole));
            let told: Value = serde_json::from_slice(whole.body()).expect("JSON");
            let message = told["error"]["message"].as_str().expect("a message");
            assert!(message.starts_with("no *****") && message.ends_with("* here"), "{message}");
            if pair[0] == pair[1] {
                assert_eq!(whole.headers()["content-length"], *length);
                assert_eq!((whole.status().as_u16(), whole.body().len()), (status, body.len()));
            }
            let bytes: Vec<_> = body.as_bytes().chunks(7).collect();
            assert_eq!(through(pair, status, &headers, &bytes).await.body().len(), whole.body().len());
        }
    }
}

#[tokio::test]
async fn nor_does_one_that_is_compressed_whether_or_not_it_can_be_read() {
    let body = json!({"error": {"type": "x", "message": format!("no {KEY}")}}).to_string();
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(body.as_bytes()).expect("to memory");
    let packed = packed.finish().expect("to memory");
    for pair in pairs() {
        for (coding, reads) in [("gzip", true), ("br", false), ("gzip, identity", false)] {
            let headers = [("content-type", "application/json"), ("content-encoding", coding)];
            let told = through(pair, 400, &headers, &[&packed]).await;
            assert!(!said(&told).contains(KEY) && !told.headers().contains_key("content-encoding"), "{}", said(&told));
            let told: Value = serde_json::from_slice(told.body()).expect("JSON");
            let message = told["error"]["message"].as_str().expect("a message");
            assert_eq!(message.starts_with("no ***"), reads, "{coding}: {message}");
        }
    }
}

#[tokio::test]
async fn nor_does_one_that_is_called_gzip_and_is_none_which_passes_without_what_was_true_of_its_bytes() {
    let body = json!({"error": {"type": "x", "message": format!("no {KEY}")}}).to_string();
    let sums = [("etag", "\"1\""), ("digest", "a=1"), ("content-digest", "a=:1:"), ("repr-digest", "a=:1:")];
    for (pair, coding) in pairs().flat_map(|pair| ["gzip", "identity"].map(|coding| (pair, coding))) {
        let coded = [("content-type", "application/json"), ("content-encoding", coding)];
        let headers = [&coded[..], &sums].concat();
        for pieces in [vec![body.as_bytes()], body.as_bytes().chunks(1).collect()] {
            let told = through(pair, 400, &headers, &pieces).await;
            assert!(!said(&told).contains(KEY), "{}", said(&told));
            assert!(sums.iter().all(|(name, _)| !told.headers().contains_key(*name)), "{}", said(&told));
            let told: Value = serde_json::from_slice(told.body()).expect("JSON");
            assert!(told["error"]["message"].as_str().is_some_and(|message| message.starts_with("no ***")), "{told}");
        }
    }
}

#[tokio::test]
async fn nor_does_an_error_within_an_answer_that_is_translated() {
    let error = json!({"type": "error", "error": {"type": "api_error", "message": format!("no {KEY}")}}).to_string();
    let escaped = error.replace(KEY, r"sk-canary-of\/the\u002bgateway");
    for (upstream, client) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let begun = match upstream {
            Dialect::Anthropic => anthropic(&block(0, &json!({"type": "text", "text": "so"}), &[]), None),
            _ => chunks(&[json!({"content": "so"})], None, false),
        };
        for error in [&error, &escaped] {
            let event = format!("event: error\ndata: {error}\n\n");
            let event = event.as_bytes();
            let (first, second) = event.split_at(event.len() - 16);
            for pieces in [vec![&*begun, event], vec![&*begun, first, second], vec![event]] {
                let told = through([upstream, client], 200, &[("content-type", "text/event-stream")], &pieces).await;
                assert!(!said(&told).contains(KEY) && said(&told).contains("no *****"), "{}", said(&told));
            }
            let json = [("content-type", "application/json")];
            let told = through([upstream, client], 200, &json, &[error.as_bytes()]).await;
            assert!(!said(&told).contains(KEY) && said(&told).contains("no *****"), "{}", said(&told));
        }
    }
}

#[tokio::test]
async fn what_an_upstream_calls_its_status_is_not_said_of_another() {
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}).to_string();
    let good = json!({"id": "x", "type": "message", "content": [], "choices": [{"message": {"content": "so"}}]});
    for (pair, status, body) in pairs().flat_map(|pair| [(pair, 529, &overloaded), (pair, 401, &overloaded)]) {
        let told = through(pair, status, &[("content-type", "application/json")], &[body.as_bytes()]).await;
        let stays = told.extensions().get::<ReasonPhrase>().is_some();
        assert_eq!(stays, told.status() == 529 && pair[0] == pair[1], "{pair:?} {status}: {}", told.status());
    }
    let told = through(BOTH, 200, &[("content-type", "application/json")], &[good.to_string().as_bytes()]).await;
    assert_eq!(told.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_page_of_a_server_in_front_keeps_its_status_for_clients_of_chat_completions() {
    for (kind, body) in [("text/html", "<html>bad gateway</html>"), ("text/plain", "bad gateway"), ("text/plain", "")] {
        for status in [500, 502, 520] {
            let pair = [Dialect::Anthropic, Dialect::OpenAiChat];
            let told = through(pair, status, &[("content-type", kind)], &[body.as_bytes()]).await;
            assert_eq!(told.status().as_u16(), status, "{kind}");
            assert!(!said(&told).contains('<'), "{}", said(&told));
            let pair = [Dialect::OpenAiChat, Dialect::Anthropic];
            let told = through(pair, status, &[("content-type", kind)], &[body.as_bytes()]).await;
            assert_eq!(told.status(), 500, "{kind}");
        }
    }
}

#[tokio::test]
async fn what_a_server_in_front_refuses_keeps_its_status_for_clients_of_chat_completions() {
    let error = json!({"error": {"type": "invalid_request_error", "message": "no"}}).to_string();
    for (kind, body, told_as) in [
        ("text/html", "<html>no</html>", "server_error"),
        ("text/plain", "no", "server_error"),
        ("text/plain", "", "server_error"),
        ("application/json", &*error, "invalid_request_error"),
    ] {
        for status in [405, 410, 415, 451] {
            let (headers, pieces) = ([("content-type", kind)], [body.as_bytes()]);
            let told = through([Dialect::Anthropic, Dialect::OpenAiChat], status, &headers, &pieces).await;
            let json: Value = serde_json::from_slice(told.body()).expect("JSON");
            assert_eq!((told.status().as_u16(), &json["error"]["type"]), (status, &json!(told_as)), "{kind}");
            assert!(!said(&told).contains('<'), "{}", said(&told));
            // Anthropic's clients know none of these statuses, so they get 400.
            let told = through([Dialect::OpenAiChat, Dialect::Anthropic], status, &headers, &pieces).await;
            let json: Value = serde_json::from_slice(told.body()).expect("JSON");
            assert_eq!((told.status().as_u16(), &json["error"]["type"]), (400, &json!("invalid_request_error")));
        }
    }
    for (status, expected) in [(400, 400), (404, 404), (413, 413), (422, 422), (429, 429)] {
        let pair = [Dialect::Anthropic, Dialect::OpenAiChat];
        assert_eq!(through(pair, status, &[("content-type", "text/html")], &[b"<html>"]).await.status(), expected);
    }
}

/// Returns the status and the message that a client of the other dialect gets for an error.
fn told(status: u16, body: &str, upstream: Dialect) -> (u16, String) {
    let client = if upstream == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let status = StatusCode::from_u16(status).expect("a status");
    let told = error(status, &HeaderMap::new(), body.as_bytes(), upstream, client, &reply());
    let json: Value = serde_json::from_slice(&told.body).expect("JSON");
    (told.status.as_u16(), json["error"]["message"].as_str().expect("a message").to_owned())
}

#[test]
fn an_error_that_is_streamed_is_what_its_first_event_says() {
    for upstream in BOTH {
        let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"so not"}}"#;
        for body in [
            format!("event: error\ndata: {error}\n\n"),
            format!(": hello\n\ndata:{error}"),
            format!("event: error\r\ndata: {error}\r\n\r\ndata: [DONE]\r\n\r\n"),
        ] {
            assert_eq!(told(400, &body, upstream), (400, "so not".to_owned()), "{body}");
        }
        assert_eq!(told(400, "data: so not\n\n", upstream).1, "so not");
        assert_eq!(told(400, "event: error\n\n", upstream).1, "the upstream answered 400");
        // Plain text may begin like a field of an event stream.
        for words in
            ["id: must be a string", "retry: later\nor never", "event: unknown\n", ": expected", "id: a\n\nand b"]
        {
            assert_eq!(told(422, words, upstream).1, words.trim());
        }
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_told_with_how_many_tokens_it_has_and_may_have() {
    for (message, figures) in [
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens \
             (129000 in the messages, 1012 in the functions). Please reduce the length of the messages.",
            Some("130012 tokens > 128000 maximum"),
        ),
        (
            "This endpoint's maximum context length is 4096 tokens. However, you requested about 5000 tokens",
            Some("5000 tokens > 4096 maximum"),
        ),
        (
            "the request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
            Some("5000 tokens > 4096 maximum"),
        ),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            Some("1200000 tokens > 1048576 maximum"),
        ),
        (
            "This model's maximum prompt length is 131072 but the request contains 135000 tokens.",
            Some("135000 tokens > 131072 maximum"),
        ),
        (
            "THIS MODEL'S MAXIMUM CONTEXT LENGTH IS 4096 TOKENS, BUT 5000, WITH TOOLS, WERE REQUESTED (REQUEST ID: 2025a)",
            Some("5000 tokens > 4096 maximum"),
        ),
        // Here it is unclear where a number ends, or what it counts.
        (
            "This model's maximum context length is 128,000 tokens. However, your messages resulted in 130,012 tokens.",
            None,
        ),
        (
            "This model's maximum context length is 128,000 tokens. However, 129000 of 130012 tokens are of messages.",
            None,
        ),
        ("gpt-5-2025: this model's maximum context length is 1000 tokens, of which 9 are left", None),
        ("Your input exceeds the context window of this model, of 128000 tokens", None),
    ] {
        let body = json!({"error": {"message": message, "code": "context_length_exceeded"}}).to_string();
        let expected = match figures {
            Some(figures) => format!("prompt is too long: {figures}. {message}"),
            None => format!("prompt is too long: {message}"),
        };
        assert_eq!(told(400, &body, Dialect::OpenAiChat), (400, expected));
    }
}

#[test]
fn an_answer_that_does_not_fit_beside_the_prompt_is_told_as_claude_code_shortens_it() {
    for (message, figures) in [
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum context length is 64001 tokens \
             and your request has 24235 input tokens (64000 > 64001 - 24235).",
            Some("24235 + 64000 > 64001"),
        ),
        (
            "'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 100 \
             input tokens.",
            Some("100 + 5000 > 4096"),
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 4197 tokens (97 in the messages, \
             4100 in the completion). Please reduce the length of the messages or completion.",
            Some("97 + 4100 > 4096"),
        ),
        (
            "This model's maximum context length is 16384 tokens. However, you requested 16384 output tokens and your prompt \
             contains 11 input tokens, for a total of 16395 tokens.",
            Some("11 + 16384 > 16384"),
        ),
        (
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 147540 tokens (115540 of \
             text input, 32000 in the output). Please reduce the length of either one, or use the \"middle-out\" transform.",
            Some("115540 + 32000 > 131072"),
        ),
        // These prompts do not fit by themselves, however short the answer: they have to be shortened.
        (
            "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the \
             messages, 10000 in the completion). Please reduce the length of the messages or completion.",
            None,
        ),
        (
            "'max_tokens' is too large: 10. This model's maximum context length is 4096 tokens and your request has 4096 \
             input tokens.",
            None,
        ),
        // It is unclear how large they are: this server counts no further than to the first token too many.
        (
            "This model's maximum context length is 92160 tokens. However, you requested 60000 output tokens and your prompt \
             contains at least 32161 input tokens, for a total of at least 92161 tokens.",
            None,
        ),
        ("'max_tokens' is too large: 10. This model's maximum context length is 4,096 tokens; 90 input tokens", None),
    ] {
        let body = json!({"object": "error", "message": message, "code": 400}).to_string();
        let expected = match figures {
            Some(figures) => format!(
                "input length and `max_tokens` exceed context limit: {figures}, decrease input length or `max_tokens` and \
                 try again. {message}"
            ),
            None => format!("prompt is too long: {message}"),
        };
        assert_eq!(told(400, &body, Dialect::OpenAiChat), (400, expected));
    }
}

#[test]
fn a_call_whose_arguments_come_too_late_ends_the_stream_by_an_error() {
    let stream = |first: &str, late: &[&str]| {
        let mut deltas = vec![call(0, "a", "f", first), call(1, "b", "g", "{}")];
        deltas.extend(late.iter().map(|late| fragment(0, late)));
        read::messages(&translate(Dialect::OpenAiChat, &[&chunks(&deltas, Some("tool_calls"), true)]), true)
    };
    for (first, late) in [
        ("", &["{\"a\":1}"][..]),
        ("", &["{", "\"a\"", ":1}"]),
        ("{}", &["{\"a\":1}"]),
        ("{\"a\":1}", &["{\"b\":1}"]),
        ("{\"a\":1}", &["{\"a\":2}"]),
        ("{\"a\":1}", &["{\"a\":1}", ",\"b\":2"]),
        ("{\"a\":\"x y\"}", &["{\"a\":\"xy\"}"]),
    ] {
        let told = stream(first, late);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none(), "{first} {late:?}: {told:?}");
    }
    // A late piece that is empty loses nothing. Neither does one that repeats a call that was whole.
    for (first, late) in [
        ("", &[][..]),
        ("", &["", " ", "null"]),
        ("", &["{}"]),
        ("", &["[]"]),
        ("", &["[", "]"]),
        ("{}", &["\"\""]),
        ("{}", &["{}"]),
        ("{}", &["{", "}"]),
        ("{\"a\":1}", &["", "{\"a\":1}"]),
        ("{\"a\":1}", &["{\"a\": 1}\n", " "]),
    ] {
        let told = stream(first, late);
        let input = if first.is_empty() { "{}" } else { first };
        assert!(told.error.is_none() && told.ended && told.stop.as_deref() == Some("tool_use"), "{told:?}");
        let inputs: Vec<_> = told.tools.iter().map(|tool| if tool.2.is_empty() { "{}" } else { &*tool.2 }).collect();
        assert_eq!(inputs, [input, "{}"], "{first} {late:?}");
    }
}

#[tokio::test]
async fn usage_without_a_count_is_none_and_what_is_told_in_its_place_is_marked() {
    let pair = [Dialect::OpenAiChat, Dialect::Anthropic];
    for (usage, input) in [(r#"{"prompt_tokens":1e3,"completion_tokens":3.0}"#, Some(1_000)), ("{}", None)] {
        let body = format!(
            r#"{{"id":"x","choices":[{{"index":0,"message":{{"content":"so"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        let told = through(pair, 200, &[("content-type", "application/json")], &[body.as_bytes()]).await;
        let marked = told.headers().get("x-tollgate-warnings").is_some_and(|said| said == "usage=estimated");
        assert_eq!(marked, input.is_none(), "{usage}");
        let told: Value = serde_json::from_slice(told.body()).expect("JSON");
        let said = told["usage"]["input_tokens"].as_u64().expect("a count");
        assert!(input.map_or(said > 0, |input| said == input), "{usage}: {said}");
    }
    let pair = [Dialect::Anthropic, Dialect::OpenAiChat];
    for (usage, counts) in [
        (r#"{"input_tokens":1e3,"output_tokens":3.0}"#, Some((1_000, 3))),
        (r#"{"service_tier":"standard","cache_read_input_tokens":8}"#, Some((8, 0))),
        (r#"{"service_tier":"standard","server_tool_use":{"web_search_requests":1}}"#, None),
        (r#"{"input_tokens":"12","output_tokens":1.5}"#, None),
        (r#"{"input_tokens":{},"output_tokens":-1}"#, None),
        ("{}", None),
    ] {
        let body =
            format!(r#"{{"id":"x","type":"message","content":[{{"type":"text","text":"so"}}],"usage":{usage}}}"#);
        let told = through(pair, 200, &[("content-type", "application/json")], &[body.as_bytes()]).await;
        let marked = told.headers().get("x-tollgate-warnings").is_some_and(|said| said == "usage=unknown");
        assert_eq!(marked, counts.is_none(), "{usage}");
        let told: Value = serde_json::from_slice(told.body()).expect("JSON");
        let said = |name: &str| told["usage"][name].as_u64();
        assert_eq!(said("prompt_tokens").zip(said("completion_tokens")), counts, "{usage}");
    }
}

#[test]
fn a_stream_states_usage_once_tokens_were_counted_and_what_it_said_before_is_not_lost() {
    for (start, end, counts) in [
        (r#"{"service_tier":"priority"}"#, r#"{"input_tokens":9,"output_tokens":3}"#, Some((9, 3))),
        (r#"{"input_tokens":9,"output_tokens":1}"#, r#"{"service_tier":"priority"}"#, Some((9, 1))),
        (r#"{"service_tier":"priority"}"#, r#"{"output_tokens":"3"}"#, None),
    ] {
        let stream = format!(
            "data: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\",\"usage\":{start}}}}}\n\n\
             data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{end}}}\n\n\
             data: {{\"type\":\"message_stop\"}}\n\n"
        );
        let told = chat_chunks(&translate(Dialect::Anthropic, &[stream.as_bytes()]));
        let usage = told.iter().rev().map(|chunk| &chunk["usage"]).find(|usage| usage.is_object());
        let said = usage.map(|usage| (usage["prompt_tokens"].clone(), usage["completion_tokens"].clone()));
        assert_eq!(said, counts.map(|(input, output)| (json!(input), json!(output))), "{start} {end}");
        assert_eq!(told.iter().any(|chunk| chunk["service_tier"] == "priority"), counts.is_some(), "{start} {end}");
    }
}
