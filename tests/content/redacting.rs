use std::borrow::Cow;
use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::content::{Patterns, Redactor};
use tollgate::domain::content::{Keep, LeftOut, Side};
use tollgate::{Body, GatewayLayer, IngestLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::site::{ask, gateway, layer, messages, post, text};

/// A stream in which a card number and an address are cut into pieces that reveal nothing by themselves.
const CHUNKS: &[&str] = &[
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"pay with 4111 11\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"1\",\"choices\":[{\"index\":0,\"del",
    "ta\":{\"content\":\"11 1111\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 1111, or ask a\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"da@example.com\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
];

#[tokio::test]
async fn of_a_stream_what_is_split_over_its_events_is_taken_out_too() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Redacted).redact_by(Patterns::common());
    let gateway = gateway(GatewayLayer::new().content(&content), CHUNKS);
    let prompt = messages("hello").replace("claude-haiku-5-5", "own");
    let (_, answer) = ask(&gateway, post("/v1/chat/completions", &prompt)).await;
    assert!(String::from_utf8_lossy(&answer).contains("a@example.com"), "the client has all of it");
    content.flush().await;
    let [one] = &kept.of(Side::Answer)[..] else { panic!("one answer") };
    let left: Value = serde_json::from_str(&text(one)).expect("JSON");
    assert_eq!(left["choices"][0]["message"]["content"], "pay with [card], or ask [email]");
    assert_eq!((one.media_type.as_deref(), one.coding.as_deref()), (Some("application/json"), None));
    assert_eq!(one.bytes, answer.len() as u64);
    let seal = one.seal.expect("one");
    assert!(
        seal.fits(text(one).as_bytes()) && !seal.fits(&answer),
        "no hash that what was taken out could be guessed by"
    );
}

#[tokio::test]
async fn of_a_request_texts_names_and_arguments_are_redacted_and_images_left_out() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Redacted).redact_by(Patterns::common());
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let image = "aGVsbG8h".repeat(50);
    let prompt = json!({
        "model": "claude-haiku-5-5", "max_tokens": 100, "system": "sk-ant-REDACTED", "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "I am ada@example.com" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": image } },
            ] },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "toolu_0", "name": "log_in", "input": { "user": "ada", "password": "tulip" } },
                { "type": "tool_use", "id": "toolu_1", "name": "pay", "input": { "ada@example.com": 4111111111111111_u64 } },
            ] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "toolu_1", "content": "DE89 3704 0044 0532 0130 00" }] },
        ],
    });
    let prompt = prompt.to_string().replace("sk-ant-REDACTED", &format!("sk-ant-{}", "a1b2".repeat(8)));
    ask(&gateway, post("/v1/messages", &prompt)).await;
    content.flush().await;
    let [one] = &kept.of(Side::Request)[..] else { panic!("one request") };
    let left: Value = serde_json::from_str(&text(one)).expect("JSON");
    assert_eq!(left["system"], "[secret]");
    let [said, called, result] = [0, 1, 2].map(|at| left["messages"][at]["content"].clone());
    assert_eq!(said[0]["text"], "I am [email]");
    assert_eq!(said[1]["source"]["data"], "[400 bytes]");
    assert_eq!(called[0]["input"], json!({ "user": "ada", "password": "[secret]" }));
    assert_eq!(called[1]["input"], json!({ "[email]": "[card]" }));
    assert_eq!(result[0]["content"], "[iban]");
    assert_eq!(left["max_tokens"], 100, "what is nothing of the kind stays");
}

#[tokio::test]
async fn the_arguments_of_a_tool_are_read_as_the_document_that_they_are() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Redacted).redact_by(Patterns::common());
    let gateway = gateway(GatewayLayer::new().content(&content), CHUNKS);
    let arguments = json!({ "note": "card:\n4111 1111 1111 1111\tada@example.com", "apiKey": "tulip" }).to_string();
    let prompt = json!({ "model": "own", "messages": [
        { "role": "user", "content": "pay" },
        { "role": "assistant", "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "pay", "arguments": arguments } }] },
        { "role": "tool", "tool_call_id": "1", "content": "paid" },
    ] });
    ask(&gateway, post("/v1/chat/completions", &prompt.to_string())).await;
    content.flush().await;
    let left: Value = serde_json::from_str(&text(&kept.of(Side::Request)[0])).expect("JSON");
    let arguments = left["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().expect("a text");
    let arguments: Value = serde_json::from_str(arguments).expect("a document still");
    assert_eq!(arguments, json!({ "note": "card:\n[card]\t[email]", "apiKey": "[secret]" }));
}

struct Fussy;

impl Redactor for Fussy {
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        assert!(!text.contains("panic"), "this one panics");
        text.into()
    }
}

#[tokio::test]
async fn what_cannot_be_redacted_is_not_kept() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Redacted);
    // Without a redactor.
    let without = gateway(GatewayLayer::new().content(&content), &[]);
    ask(&without, post("/v1/messages", &messages("hello"))).await;
    content.flush().await;
    // With a redactor that panics on a text, and with an answer that is not JSON.
    let content = content.redact_by(Fussy);
    let with = gateway(GatewayLayer::new().content(&content), &[]);
    ask(&with, post("/v1/messages", &messages("panic"))).await;
    content.flush().await;
    let page = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("<html>"))) });
    let with = IngestLayer::new().layer(content.layer(page));
    with.oneshot(post("/v1/messages", &messages("hello")))
        .await
        .expect("infallible")
        .into_body()
        .collect()
        .await
        .expect("whole");
    content.flush().await;
    let left_out: Vec<_> = kept.all().iter().map(|one| one.left_out).collect();
    const GONE: Option<LeftOut> = Some(LeftOut::Unreadable);
    assert_eq!(left_out, [GONE, GONE, GONE, None, None, GONE]);
    assert!(kept.all().iter().all(|one| one.left_out.is_none() || (one.body.is_none() && one.seal.is_none())));
    assert_eq!(content.dropped(), 0);
}
