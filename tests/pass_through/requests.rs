//! Requests on their way upstream.

use proptest::prelude::*;
use tollgate::Dialect;
use tollgate::domain::outcome::End;

use crate::fixtures::{REQUESTS, json, request, streams};
use crate::stack::{Answer, BOTH, Stack, block_on, same};

#[tokio::test]
async fn a_request_arrives_upstream_as_it_was_sent_to_the_byte() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for n in 0..REQUESTS.len() {
            let body = request(n, false);
            let exchange = stack.post(dialect, body.clone(), Answer::json(json(dialect)[0].0.as_bytes())).await;
            same(&exchange.seen.body, body.as_bytes(), "no stream");
            assert_eq!(exchange.outcome.end, End::Complete);
            assert_eq!(exchange.outcome.model.as_deref(), Some("claude-fable"));
        }
    }
    for n in 0..REQUESTS.len() {
        let body = request(n, true);
        let answer = Answer::sse(&streams(Dialect::Anthropic)[0].whole());
        let exchange = stack.post(Dialect::Anthropic, body.clone(), answer).await;
        same(&exchange.seen.body, body.as_bytes(), "a stream of Anthropic's");
    }
}

#[tokio::test]
async fn a_stream_that_asks_for_usage_itself_is_not_touched() {
    let mut stack = Stack::new();
    let stream = &streams(Dialect::OpenAiChat)[0];
    for options in [
        r#"{"include_usage":true}"#,
        r#" { "include_obfuscation" : false, "include_usage" : true , "x":1,"x":2 } "#,
        "{\n\"include_usage\"\t:true}",
    ] {
        let body = format!(r#"{{"model":"gpt-x" ,"stream_options":{options}, "stream":true}}"#);
        let exchange = stack.post(Dialect::OpenAiChat, body.clone(), Answer::sse(&stream.whole())).await;
        same(&exchange.seen.body, body.as_bytes(), options);
        same(&exchange.body, &stream.whole(), "the usage chunk is the client's wish");
    }
}

#[tokio::test]
async fn a_stream_that_does_not_is_asked_for_usage_and_every_other_byte_stays() {
    let mut stack = Stack::new();
    // What the client sent, and what may arrive upstream. The gateway may choose the place of the new member only.
    let rows: [(&str, &[&str]); 9] = [
        (
            r#"{"model":"gpt-x", "stream":true }"#,
            &[
                r#"{"stream_options":{"include_usage":true},"model":"gpt-x", "stream":true }"#,
                r#"{"model":"gpt-x", "stream":true,"stream_options":{"include_usage":true} }"#,
                r#"{"model":"gpt-x", "stream":true ,"stream_options":{"include_usage":true}}"#,
            ],
        ),
        (
            r#"{"stream_options":{},"model":"gpt-x","stream":true}"#,
            &[r#"{"stream_options":{"include_usage":true},"model":"gpt-x","stream":true}"#],
        ),
        (
            r#"{"stream_options":{ },"model":"gpt-x","stream":true}"#,
            &[
                r#"{"stream_options":{"include_usage":true },"model":"gpt-x","stream":true}"#,
                r#"{"stream_options":{ "include_usage":true},"model":"gpt-x","stream":true}"#,
            ],
        ),
        (
            r#"{"stream_options":{"include_usage":false},"model":"gpt-x","stream":true}"#,
            &[r#"{"stream_options":{"include_usage":true},"model":"gpt-x","stream":true}"#],
        ),
        (
            r#"{"stream_options":{"include_usage": null ,"a":1},"model":"gpt-x","stream":true}"#,
            &[r#"{"stream_options":{"include_usage": true ,"a":1},"model":"gpt-x","stream":true}"#],
        ),
        (
            r#"{"stream_options":null,"model":"gpt-x","stream":true}"#,
            &[r#"{"stream_options":{"include_usage":true},"model":"gpt-x","stream":true}"#],
        ),
        (
            r#"{"stream":true,"model":"gpt-x", "stream_options" : null }"#,
            &[r#"{"stream":true,"model":"gpt-x", "stream_options" : {"include_usage":true} }"#],
        ),
        (
            r#"{"stream_options":{"include_obfuscation":false},"model":"gpt-x","stream":true}"#,
            &[
                r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"model":"gpt-x","stream":true}"#,
                r#"{"stream_options":{"include_obfuscation":false,"include_usage":true},"model":"gpt-x","stream":true}"#,
            ],
        ),
        (
            r#"{"model":"gpt-x","stream":true,"messages":[{"stream_options":{"include_usage":true}}]}"#,
            &[
                r#"{"stream_options":{"include_usage":true},"model":"gpt-x","stream":true,"messages":[{"stream_options":{"include_usage":true}}]}"#,
                r#"{"model":"gpt-x","stream":true,"messages":[{"stream_options":{"include_usage":true}}],"stream_options":{"include_usage":true}}"#,
            ],
        ),
    ];
    for (sent, expected) in rows {
        for stream in streams(Dialect::OpenAiChat) {
            let exchange = stack.post(Dialect::OpenAiChat, sent, Answer::sse(&stream.whole())).await;
            let seen = std::str::from_utf8(&exchange.seen.body).expect("text");
            assert!(expected.contains(&seen), "{sent}\nbecame {seen}");
            same(&exchange.body, &stream.without_usage(), sent);
            let usage = exchange.outcome.usage.expect("what was asked for was read");
            assert_eq!((usage.input, usage.output), stream.usage);
        }
    }
}

#[tokio::test]
async fn a_call_without_a_stream_is_never_asked_for_usage() {
    let mut stack = Stack::new();
    for body in [
        r#"{"model":"gpt-x"}"#,
        r#"{"model":"gpt-x","stream":false}"#,
        r#"{"model":"gpt-x","stream":null,"stream_options":null}"#,
    ] {
        let answer = Answer::json(json(Dialect::OpenAiChat)[0].0.as_bytes());
        let exchange = stack.post(Dialect::OpenAiChat, body, answer).await;
        same(&exchange.seen.body, body.as_bytes(), body);
    }
}

#[tokio::test]
async fn an_alias_replaces_the_model_and_nothing_else() {
    let mut stack = Stack::with(
        |builder| builder.alias("claude-fable", ["claude-\"real\"\\-1"]).alias("fast", ["gpt-fast"]),
        |l| l,
    );
    for stream in [false, true] {
        for n in 0..REQUESTS.len() {
            let sent = request(n, stream);
            let answer = match stream {
                true => Answer::sse(&streams(Dialect::Anthropic)[0].whole()),
                false => Answer::json(json(Dialect::Anthropic)[0].0.as_bytes()),
            };
            let exchange = stack.post(Dialect::Anthropic, sent.clone(), answer).await;
            let (name, real) = (["\"claude-fable\"", r#""\u0063laude-fable""#], r#""claude-\"real\"\\-1""#);
            let name = name.into_iter().find(|name| sent.contains(name)).expect("a model");
            same(&exchange.seen.body, sent.replacen(name, real, 1).as_bytes(), "the model alone is another");
            assert_eq!(exchange.outcome.model.as_deref(), Some("claude-fable"), "the client's word for it");
            let target = exchange.outcome.attempts[0].target.as_ref().expect("a target");
            assert_eq!(&*target.model, r#"claude-"real"\-1"#);
        }
    }
    // Two splices in one body.
    let sent = r#"{ "stream" : true , "model" : "fast" , "stream_options" : null , "x":1,"x":2 }"#;
    let stream = &streams(Dialect::OpenAiChat)[0];
    let exchange = stack.post(Dialect::OpenAiChat, sent, Answer::sse(&stream.whole())).await;
    let expected =
        r#"{ "stream" : true , "model" : "gpt-fast" , "stream_options" : {"include_usage":true} , "x":1,"x":2 }"#;
    same(&exchange.seen.body, expected.as_bytes(), "model and stream_options");
    same(&exchange.body, &stream.without_usage(), "and the answer is the provider's");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..crate::cases::cases(64) })]

    #[test]
    fn a_request_in_any_pieces_arrives_whole(
        n in 0..REQUESTS.len(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        openai in any::<bool>(),
    ) {
        let dialect = if openai { Dialect::OpenAiChat } else { Dialect::Anthropic };
        let body = request(n, false);
        let pieces = Answer::json(body.as_bytes()).cut(&cuts).chunks;
        block_on(async {
            let (mut sender, channel) = http_body_util::channel::Channel::<bytes::Bytes>::new(16);
            for piece in pieces {
                sender.send_data(piece).await.expect("room for all");
            }
            drop(sender);
            let mut stack = Stack::new();
            let answer = Answer::json(json(dialect)[0].0.as_bytes());
            let exchange = stack.post(dialect, tollgate::Body::new(channel), answer).await;
            same(&exchange.seen.body, body.as_bytes(), "in pieces");
        });
    }
}
