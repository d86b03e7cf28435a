//! Answers on their way to the client.

use proptest::prelude::*;
use tollgate::Dialect;
use tollgate::domain::outcome::{AttemptEnd, End};

use crate::fixtures::{Stream, json, request, streams};
use crate::stack::{Answer, BOTH, Ending, Exchange, Stack, block_on, same};

/// A request for a stream. With `asks`, it asks for usage if the dialect requires that.
fn for_stream(dialect: Dialect, asks: bool) -> String {
    let options =
        if asks && dialect != Dialect::Anthropic { r#""stream_options":{"include_usage":true},"# } else { "" };
    request(0, true).replacen('{', &format!("{{{options}"), 1)
}

fn expected(stream: &Stream, asks: bool) -> Vec<u8> {
    if asks { stream.whole() } else { stream.without_usage() }
}

fn is_metered(exchange: &Exchange, usage: (u64, u64)) {
    let outcome = &exchange.outcome;
    assert_eq!((outcome.end, outcome.attempts[0].end), (End::Complete, AttemptEnd::Complete));
    assert_eq!(outcome.usage.map(|u| (u.input, u.output)), Some(usage));
    assert!(outcome.attempts[0].usage_is_final);
    assert_eq!(outcome.bytes_out, exchange.body.len() as u64);
}

#[tokio::test]
async fn a_json_answer_passes_to_the_byte_cut_at_any_place() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for (body, usage) in json(dialect) {
            for cut in 0..=body.len() {
                let answer = Answer::json(body.as_bytes()).cut(&[cut]);
                let exchange = stack.post(dialect, request(0, false), answer).await;
                same(&exchange.body, body.as_bytes(), "JSON");
                is_metered(&exchange, usage);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_passes_to_the_byte_cut_at_any_place() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for stream in streams(dialect) {
            for asks in [true, false] {
                for cut in 0..=stream.whole().len() {
                    let answer = Answer::sse(&stream.whole()).cut(&[cut]);
                    let exchange = stack.post(dialect, for_stream(dialect, asks), answer).await;
                    same(&exchange.body, &expected(stream, asks), "a stream");
                    is_metered(&exchange, stream.usage);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stream_passes_byte_after_byte() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for stream in streams(dialect) {
            for asks in [true, false] {
                let every: Vec<usize> = (0..stream.whole().len()).collect();
                let answer = Answer::sse(&stream.whole()).cut(&every);
                let exchange = stack.post(dialect, for_stream(dialect, asks), answer).await;
                same(&exchange.body, &expected(stream, asks), "single bytes");
                is_metered(&exchange, stream.usage);
            }
        }
    }
}

#[tokio::test]
async fn trailers_come_after_the_last_byte() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for stream in streams(dialect) {
            for asks in [true, false] {
                let answer = Answer::sse(&stream.whole()).ending(Ending::Trailers);
                let exchange = stack.post(dialect, for_stream(dialect, asks), answer).await;
                same(&exchange.body, &expected(stream, asks), "trailers");
                assert!(exchange.trailers, "they are the provider's word too");
                is_metered(&exchange, stream.usage);
            }
        }
    }
}

#[tokio::test]
async fn only_a_chunk_that_is_there_for_usage_alone_is_withheld() {
    let mut stack = Stack::new();
    let dialect = Dialect::OpenAiChat;
    let passes = [
        r#"{"choices":[]}"#,
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"choices":[{"delta":{"content":"\"choices\":[],\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        r#"{"error":{"message":"\"usage\""},"choices":[]}"#,
        r#"{"x":{"choices":[],"usage":{"prompt_tokens":1}}}"#,
        r#"[{"choices":[],"usage":{"prompt_tokens":1}}]"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}"#,
        r#""usage""#,
        "",
    ];
    for data in passes {
        let body = format!("data: {data}\n\ndata: [DONE]\n\n");
        let exchange = stack.post(dialect, for_stream(dialect, false), Answer::sse(body.as_bytes())).await;
        same(&exchange.body, body.as_bytes(), data);
    }
    let withheld = [
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"usage":{"completion_tokens":1,"prompt_tokens":1,"x":1,"x":2},"choices":[],"choices_":[1]}"#,
        r#"{"usage":{"prompt_tokens":"1"},"choices":[]}"#,
        // PHP servers encode an empty object as an empty array.
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":[]},"choices":[]}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1,"completion_tokens_details":"none"},"choices":[]}"#,
    ];
    let mut wrong = Vec::new();
    for data in withheld {
        let body = format!("data: {data}\n\ndata: [DONE]\n\n");
        let exchange = stack.post(dialect, for_stream(dialect, false), Answer::sse(body.as_bytes())).await;
        if exchange.body != "data: [DONE]\n\n" {
            wrong.push(data);
        }
    }
    assert!(wrong.is_empty(), "seen by a client that indexes choices[0]:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn usage_counts_and_is_withheld_though_another_member_says_it_has_none() {
    let mut stack = Stack::new();
    let dialect = Dialect::OpenAiChat;
    // Other gateways add their own members, with a `usage` in them.
    let rows = [
        r#"{"choices":[],"x_proxy":{"usage":null},"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[],"x_proxy":[{"usage":null}]}"#,
        r#"{"usage":null,"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    ];
    let mut wrong = Vec::new();
    for data in rows {
        let body = format!("data: {data}\n\ndata: [DONE]\n\n");
        let exchange = stack.post(dialect, for_stream(dialect, false), Answer::sse(body.as_bytes())).await;
        if exchange.body != "data: [DONE]\n\n" {
            wrong.push(format!("not withheld: {data}"));
        }
        let usage = exchange.outcome.usage.map(|u| (u.input, u.output));
        if usage != Some((3, 4)) {
            wrong.push(format!("read as {usage:?}: {data}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_stream_says_that_it_must_not_be_held_back_and_has_no_length() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for asks in [true, false] {
            let stream = &streams(dialect)[0];
            let answer = Answer::sse(&stream.whole()).header("cache-control", "max-age=9");
            let exchange = stack.post(dialect, for_stream(dialect, asks), answer).await;
            assert_eq!(exchange.headers["cache-control"], "no-cache");
            assert_eq!(exchange.headers["x-accel-buffering"], "no");
            assert_eq!(exchange.headers["content-type"], "text/event-stream; charset=utf-8");
            assert_eq!(exchange.headers.get_all("cache-control").iter().count(), 1);
            assert!(!exchange.headers.contains_key("content-length"));
        }
    }
}

#[tokio::test]
async fn an_error_answer_passes_to_the_byte_whatever_was_asked() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for stream in [false, true] {
            let body = "{ \"error\":{\"message\":\"\\u4f60\",\"x\":1,\"x\":2},\n\"usage\":{\"prompt_tokens\":5,\"input_tokens\":5} }\n";
            let mut answer = Answer::json(body.as_bytes()).cut(&[3, 17, 30]);
            answer.status = http::StatusCode::IM_A_TEAPOT;
            let exchange = stack.post(dialect, request(0, stream), answer).await;
            same(&exchange.body, body.as_bytes(), "an error");
            assert_eq!(exchange.status, 418);
            assert_eq!((exchange.outcome.end, exchange.outcome.usage), (End::Failed, None));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..crate::cases::cases(256) })]

    #[test]
    fn an_answer_in_any_pieces_passes_to_the_byte(
        which in any::<prop::sample::Index>(),
        openai in any::<bool>(),
        asks in any::<bool>(),
        is_stream in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        trailers in any::<bool>(),
    ) {
        let dialect = if openai { Dialect::OpenAiChat } else { Dialect::Anthropic };
        // Only with `asks`, when nothing is withheld. Another test covers trailers otherwise.
        let end = if trailers && asks { Ending::Trailers } else { Ending::Good };
        block_on(async {
            let mut stack = Stack::new();
            if is_stream {
                let stream = which.get(streams(dialect));
                let answer = Answer::sse(&stream.whole()).cut(&cuts).ending(end);
                let exchange = stack.post(dialect, for_stream(dialect, asks), answer).await;
                same(&exchange.body, &expected(stream, asks), "a stream");
                is_metered(&exchange, stream.usage);
            } else {
                let (body, usage) = *which.get(&json(dialect));
                let answer = Answer::json(body.as_bytes()).cut(&cuts).ending(end);
                let exchange = stack.post(dialect, request(which.index(8), false), answer).await;
                same(&exchange.body, body.as_bytes(), "JSON");
                is_metered(&exchange, usage);
            }
        });
    }

    #[test]
    fn bytes_that_are_no_stream_at_all_pass_to_the_byte(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd')], 0..200),
        openai in any::<bool>(),
        asks in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..9),
    ) {
        let dialect = if openai { Dialect::OpenAiChat } else { Dialect::Anthropic };
        block_on(async {
            let mut stack = Stack::new();
            let exchange = stack.post(dialect, for_stream(dialect, asks), Answer::sse(&bytes).cut(&cuts)).await;
            same(&exchange.body, &bytes, "noise");
            assert!(!exchange.cut);
        });
    }
}
