//! Malformed usage: at most the malformed figure itself may be lost, and nothing else.

use tollgate::Dialect;
use tollgate::domain::outcome::{AttemptEnd, End};

use crate::raw::{Rude, answer, chunk, last_chunk, stream_head};
use crate::stack::{BOTH, Stack, request};

/// Malformed usage, and the output tokens that can still be read from it.
struct Row {
    usage: &'static str,
    output: Option<u64>,
}

/// `IN` and `OUT` stand for the dialect's names of the members.
const ROWS: [Row; 21] = [
    Row { usage: r#"{"IN":-1,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":1.5,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":1e30,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":1e400,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":"5","OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":null,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":{"a":[]},"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":18446744073709551616,"OUT":7}"#, output: Some(7) },
    Row { usage: r#"{"IN":9,"OUT":7,"total_tokens":-3}"#, output: Some(7) },
    Row { usage: r#"{"OUT":7,"IN":9,"unknown":{"OUT":1}}"#, output: Some(7) },
    Row { usage: r#"{"IN":9,"OUT":7,"prompt_tokens_details":null,"cache_creation":null}"#, output: Some(7) },
    // PHP servers encode an empty object as an empty array.
    Row { usage: r#"{"IN":9,"OUT":7,"prompt_tokens_details":[],"cache_creation":[]}"#, output: Some(7) },
    Row { usage: r#"{"IN":9,"OUT":7,"completion_tokens_details":"none","server_tool_use":"none"}"#, output: Some(7) },
    Row { usage: r#"{"IN":9,"OUT":7,"prompt_tokens_details":5,"output_tokens_details":5}"#, output: Some(7) },
    Row { usage: r#"{"IN":9,"IN":9,"OUT":7,"OUT":7}"#, output: Some(7) },
    Row { usage: "{}", output: None },
    Row { usage: "null", output: None },
    Row { usage: "[]", output: None },
    Row { usage: r#""lots""#, output: None },
    Row { usage: "-5", output: None },
    Row { usage: "true", output: None },
];

fn spelled(usage: &str, dialect: Dialect) -> String {
    let (input, output) = match dialect {
        Dialect::Anthropic => ("input_tokens", "output_tokens"),
        _ => ("prompt_tokens", "completion_tokens"),
    };
    usage.replace("IN", input).replace("OUT", output)
}

fn json(dialect: Dialect, usage: &str) -> String {
    match dialect {
        Dialect::Anthropic => {
            format!(r#"{{"id":"m","type":"message","role":"assistant","content":[],"usage":{usage}}}"#)
        }
        _ => format!(r#"{{"id":"c","choices":[{{"index":0,"message":{{"content":"hi"}}}}],"usage":{usage}}}"#),
    }
}

fn stream(dialect: Dialect, usage: &str) -> String {
    match dialect {
        Dialect::Anthropic => [
            r#"{"type":"message_start","message":{"type":"message","usage":{}}}"#,
            &format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#),
            r#"{"type":"message_stop"}"#,
        ]
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect(),
        _ => format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}\n\n\
             data: [DONE]\n\n"
        ),
    }
}

/// Plays every row and returns what went wrong, so that one run reports all failures.
async fn play(is_stream: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for dialect in BOTH {
        for row in &ROWS {
            let usage = spelled(row.usage, dialect);
            let (body, acts, more) = if is_stream {
                let body = stream(dialect, &usage);
                let acts = vec![stream_head(), chunk(&body), last_chunk()];
                (body, acts, r#","stream":true"#)
            } else {
                let body = json(dialect, &usage);
                let acts = vec![answer("200 OK", "content-type: application/json\r\n", &body)];
                (body, acts, "")
            };
            let rude = Rude::start(acts).await;
            let mut stack = Stack::over(&rude.url()).await;
            let reply = stack.post(dialect, request(dialect, more)).await;
            assert_eq!((reply.status.as_u16(), reply.cut), (200, false));
            assert_eq!(reply.body, body, "bytes are never the meter's to change");
            let outcome = stack.outcome_of(&reply).await;
            let output = outcome.usage.map(|u| u.output);
            if outcome.end != End::Complete {
                wrong.push(format!("{dialect}, {usage}: the call ended {:?}", outcome.end));
            }
            if row.output.is_some() && output != row.output {
                wrong.push(format!("{dialect}, {usage}: output {output:?}"));
            }
        }
    }
    wrong
}

#[tokio::test]
async fn absurd_usage_in_json_breaks_neither_the_answer_nor_the_account_of_it() {
    let wrong = play(false).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn absurd_usage_in_a_stream_breaks_neither_the_answer_nor_the_account_of_it() {
    let wrong = play(true).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A stream that states usage repeatedly: the output so far, and the finish reason.
fn running(dialect: Dialect, figures: &[(u64, &str)]) -> String {
    let open = r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#.to_owned();
    let mut events = if dialect == Dialect::Anthropic { vec![open] } else { Vec::new() };
    events.extend(figures.iter().map(|(output, reason)| match (dialect, reason) {
        (Dialect::Anthropic, reason) => format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":{reason}}},"usage":{{"output_tokens":{output}}}}}"#
        ),
        (_, reason) => format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"finish_reason":{reason}}}],"usage":{{"prompt_tokens":9,"completion_tokens":{output}}}}}"#
        ),
    }));
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[tokio::test]
async fn what_a_stream_states_as_it_goes_is_its_last_word_only_where_it_has_stopped_and_takes_nothing_back() {
    for dialect in BOTH {
        for (figures, output, is_final) in [
            (&[(500, "null"), (3, r#""stop""#)][..], 500, true),
            (&[(5, "null"), (7, r#""stop""#)], 7, true),
            (&[(5, "null"), (7, "null")], 7, false),
            (&[(5, r#""""#), (7, r#""""#)], 7, false),
        ] {
            let rude = Rude::start(vec![stream_head(), chunk(running(dialect, figures)), last_chunk()]).await;
            let mut stack = Stack::over(&rude.url()).await;
            let usage = r#","stream":true,"stream_options":{"include_usage":true}"#;
            let more = if dialect == Dialect::Anthropic { r#","stream":true"# } else { usage };
            let reply = stack.post(dialect, request(dialect, more)).await;
            let outcome = stack.outcome_of(&reply).await;
            let attempt = &outcome.attempts[0];
            let said = (attempt.usage.map(|usage| usage.output), attempt.usage_is_final, attempt.end);
            assert_eq!(
                said,
                (Some(output), is_final, AttemptEnd::Broken),
                "{dialect}, {figures:?}: no mark of the end"
            );
        }
    }
}
