//! The simulated provider, as a test of somebody's own service scripts it.

use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::domain::outcome::AttemptEnd;
use tollgate::route::ModelTable;
use tollgate::testing::{Script, Simulated};
use tollgate::upstream::Provider;
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::support::Outcomes;

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
/// In both dialects, whole and as a stream.
const WAYS: [(&str, bool); 4] = [(MESSAGES, false), (MESSAGES, true), (CHAT, false), (CHAT, true)];

fn request(path: &str, stream: bool, most: u64) -> Request<Body> {
    let model = if path == MESSAGES { "claude-haiku-5-5" } else { "gpt-5-mini" };
    let body = format!(r#"{{"model":"{model}","max_tokens":{most},"messages":[],"stream":{stream}}}"#);
    Request::post(path).body(Body::from(body)).expect("a request")
}

async fn read(provider: &Simulated, request: Request<Body>) -> String {
    let answer = provider.clone().oneshot(request).await.expect("infallible");
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The text of an answer or of all its events, and why it ended.
fn said(answer: &str) -> (String, String) {
    let events = answer.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let events = events.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut text, mut end) = (String::new(), String::new());
    for event in events {
        for place in ["/content/0/text", "/delta/text", "/choices/0/message/content", "/choices/0/delta/content"] {
            text.push_str(event.pointer(place).and_then(Value::as_str).unwrap_or_default());
        }
        for place in ["/stop_reason", "/delta/stop_reason", "/choices/0/finish_reason"] {
            end.push_str(event.pointer(place).and_then(Value::as_str).unwrap_or_default());
        }
    }
    (text, end)
}

#[tokio::test]
async fn a_script_says_exactly_its_text_unless_the_request_cuts_it() {
    let text = " It is\n\n\"4\u{a0}°C\" in Zürich,  today. ";
    for (path, stream) in WAYS {
        let provider = Simulated::new();
        for script in [Script::new().text(text), Script::new().text(""), Script::new().text(text)] {
            provider.script(script);
        }
        let (stop, length) = if path == MESSAGES { ("end_turn", "max_tokens") } else { ("stop", "length") };
        assert_eq!(said(&read(&provider, request(path, stream, 99)).await), (text.to_owned(), stop.to_owned()));
        assert_eq!(said(&read(&provider, request(path, stream, 99)).await), (String::new(), stop.to_owned()));
        let cut = said(&read(&provider, request(path, stream, 3)).await);
        assert_eq!(cut, (" It is\n".to_owned(), length.to_owned()), "{path} {stream}");
    }
}

/// Everything to one provider, each dialect in its own.
fn gateway(provider: &Simulated, layer: GatewayLayer) -> Gateway {
    let upstream =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, provider.clone()).expect("a URL");
    Gateway::builder()
        .upstream("a", Dialect::Anthropic, upstream(Dialect::Anthropic))
        .upstream("o", Dialect::OpenAiChat, upstream(Dialect::OpenAiChat))
        .layer(layer)
        .build()
        .expect("a gateway")
}

#[tokio::test]
async fn a_usage_that_a_script_states_is_metered_and_billed_whatever_the_answer_says() {
    for (path, stream) in WAYS {
        for (text, input, output) in [("a b c", 1_000, 500), ("a b c", 7, 2), ("a b c", 0, 0), ("", 3, 40)] {
            let (mut outcomes, observer) = Outcomes::new();
            let provider = Simulated::new();
            provider.script(Script::new().text(text).usage(input, output));
            let gateway = gateway(&provider, GatewayLayer::new().on_close(observer));
            let answer = gateway.oneshot(request(path, stream, 99)).await.expect("infallible");
            answer.into_body().collect().await.expect("whole");
            let usage = outcomes.next().await.usage.expect("it is stated");
            assert_eq!((usage.input, usage.output), (input, output), "{path} {stream}");
            let line = provider.bill().lines().remove(0);
            assert_eq!((line.input, line.output, line.complete), (input, output, true), "{path} {stream}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_sees_nothing_and_gives_way_to_the_next_until_it_is_back() {
    let (mut outcomes, observer) = Outcomes::new();
    let (first, second) = (Simulated::new().recording(), Simulated::new());
    first.script(Script::new().unreachable());
    let upstream = |provider: &Simulated| {
        Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, provider.clone()).expect("a URL")
    };
    let table = ModelTable::new()
        .pattern("claude-first", "first", Dialect::Anthropic)
        .pattern("*", "second", Dialect::Anthropic)
        .alias("claude-haiku-5-5", ["claude-first", "claude-second"]);
    let gateway = Gateway::builder()
        .upstream("first", Dialect::Anthropic, upstream(&first))
        .upstream("second", Dialect::Anthropic, upstream(&second))
        .layer(GatewayLayer::new().router(table).on_close(observer))
        .build()
        .expect("a gateway");
    for (ends, seen) in [(vec![AttemptEnd::Unsent, AttemptEnd::Complete], [0, 1]), (vec![AttemptEnd::Complete], [1, 1])]
    {
        let answer = gateway.clone().oneshot(request(MESSAGES, false, 9)).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("whole");
        let attempts = outcomes.next().await.attempts;
        assert_eq!(attempts.iter().map(|attempt| attempt.end).collect::<Vec<_>>(), ends);
        assert_eq!([&first, &second].map(|provider| provider.bill().lines().len()), seen);
        assert_eq!(first.received().len(), seen[0]);
    }
}

#[tokio::test]
async fn a_client_hears_of_a_provider_that_cannot_be_reached_as_of_one_that_is_not_there() {
    for (path, shape) in [(MESSAGES, r#"{"type":"error""#), (CHAT, r#"{"error":{"#)] {
        let provider = Simulated::new();
        provider.script(Script::new().unreachable());
        let gateway = gateway(&provider, GatewayLayer::new());
        let answer = gateway.oneshot(request(path, false, 9)).await.expect("infallible");
        assert_eq!(answer.status(), 502);
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.starts_with(shape) && body.contains("the upstream could not be reached"), "{body}");
    }
    assert!(Script::directive(b"sim:unreachable").is_some_and(|script| script == Script::new().unreachable()));
}
