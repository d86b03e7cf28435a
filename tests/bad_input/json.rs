//! Bodies that are not a request, and governing members that are ambiguous.

use tollgate::Dialect;
use tollgate::domain::outcome::End;

use crate::shape::{Expected, INVALID};
use crate::stack::{BOTH, Stack, model};

/// Replaces `$M` with a model of the dialect.
fn fill(template: &str, dialect: Dialect) -> Vec<u8> {
    template.replace("$M", model(dialect)).into_bytes()
}

async fn all_refused(rows: &[(&str, &str)]) {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for (why, template) in rows {
            stack.refuses(dialect, &fill(template, dialect), INVALID, why).await;
        }
    }
    stack.outcomes.none_left().await;
    assert_eq!(stack.outcomes.count(), rows.len() * BOTH.len());
    assert!(stack.provider.received().is_empty(), "nothing of it reached the provider");
    assert!(stack.provider.bill().lines().is_empty());
}

async fn all_pass(rows: &[(&str, &str)]) {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for (why, template) in rows {
            let body = fill(template, dialect);
            let reply = stack.post(dialect, body.clone()).await;
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!(outcome.rejection, None, "{why}: {}", reply.text());
            assert_eq!(outcome.model.as_deref(), Some(model(dialect)), "{why}");
            let received = stack.provider.received();
            let received = received.last().expect("the request went upstream");
            assert_eq!(received.body, body, "{why}");
            // The simulated provider itself refuses numbers that no double can hold.
            let expected = if reply.status == 200 { End::Complete } else { End::Failed };
            assert_eq!(outcome.end, expected, "{why}");
        }
    }
    stack.outcomes.none_left().await;
    assert_eq!(stack.provider.received().len(), rows.len() * BOTH.len());
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused_at_the_door() {
    all_refused(&[
        ("nothing", ""),
        ("a space", " "),
        ("white space", " \r\n\t "),
        ("a word", "hello"),
        ("half an object", r#"{"model":"$M","messages":["#),
        ("an array", r#"[{"model":"$M"}]"#),
        ("a string", r#""$M""#),
        ("a number", "5"),
        ("null", "null"),
        ("a letter behind", r#"{"model":"$M"}x"#),
        ("a second object behind", r#"{"model":"$M"}{"model":"$M"}"#),
        ("a NUL behind", "{\"model\":\"$M\"}\0"),
        ("a comma at the end", r#"{"model":"$M",}"#),
        ("no quotes", r#"{model:"$M"}"#),
        ("single quotes", "{'model':'$M'}"),
        ("a comment", r#"{"model":"$M"/* dear */}"#),
        ("NaN", r#"{"model":"$M","temperature":NaN}"#),
        ("Infinity", r#"{"model":"$M","temperature":-Infinity}"#),
        ("a hexadecimal number", r#"{"model":"$M","temperature":0x1}"#),
        ("a leading zero", r#"{"model":"$M","temperature":01}"#),
        ("a leading plus", r#"{"model":"$M","temperature":+1}"#),
        ("no digit behind the point", r#"{"model":"$M","temperature":1.}"#),
        ("a raw line feed in a string", "{\"model\":\"$M\",\"x\":\"a\nb\"}"),
        ("an unknown escape", r#"{"model":"$M","x":"\x41"}"#),
        ("a form feed for white space", "{\"model\":\"$M\"\x0c}"),
        ("a byte order mark", "\u{feff}{\"model\":\"$M\"}"),
        ("a form", "model=$M&stream=true"),
    ])
    .await;
}

#[tokio::test]
async fn a_model_that_cannot_be_told_for_sure_is_refused_at_the_door() {
    all_refused(&[
        ("missing", r#"{"messages":[]}"#),
        ("null", r#"{"model":null}"#),
        ("a number", r#"{"model":4}"#),
        ("a boolean", r#"{"model":true}"#),
        ("an array", r#"{"model":["$M"]}"#),
        ("an object", r#"{"model":{"id":"$M"}}"#),
        ("empty", r#"{"model":""}"#),
        ("a lone surrogate", r#"{"model":"$M\ud800"}"#),
        ("a line's end", r#"{"model":"$M\n2026-11-29T00:00:00Z ERROR"}"#),
        ("a zero", r#"{"model":"$M\u0000dear"}"#),
        ("a line's end that is not of ASCII", r#"{"model":"$M\u0085dear"}"#),
        ("an escape in its key", r#"{"m\u006fdel":"$M"}"#),
        ("an escape in the key of a second", r#"{"model":"$M","m\u006fdel":"dear"}"#),
        ("a capital", r#"{"Model":"$M"}"#),
        ("all capitals behind the right one", r#"{"model":"$M","MODEL":"dear"}"#),
        ("twice", r#"{"model":"$M","model":"dear"}"#),
        ("twice the same", r#"{"model":"$M","messages":[],"model":"$M"}"#),
        ("only within another member", r#"{"metadata":{"model":"$M"}}"#),
    ])
    .await;
}

#[tokio::test]
async fn a_model_of_ten_kilobytes_is_refused_without_being_repeated() {
    let mut stack = Stack::new().await;
    let body = format!(r#"{{"model":"{}"}}"#, "m".repeat(10_240));
    for dialect in BOTH {
        let message = stack.refuses(dialect, body.as_bytes(), INVALID, "ten kilobytes of model").await;
        assert!(message.len() < 200, "{message}");
    }
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn a_governed_member_of_the_wrong_kind_is_refused_at_the_door() {
    all_refused(&[
        ("a limit in powers", r#"{"model":"$M","max_tokens":1e5}"#),
        ("a negative limit", r#"{"model":"$M","max_tokens":-1}"#),
        ("a negative nought", r#"{"model":"$M","max_tokens":-0}"#),
        ("a limit with a fraction", r#"{"model":"$M","max_tokens":1.0}"#),
        ("a limit as text", r#"{"model":"$M","max_tokens":"5"}"#),
        ("a limit beyond 64 bits", r#"{"model":"$M","max_tokens":18446744073709551616}"#),
        ("a limit in an array", r#"{"model":"$M","max_tokens":[5]}"#),
        ("the newer limit in powers", r#"{"model":"$M","max_completion_tokens":1E5}"#),
        ("the third limit as text", r#"{"model":"$M","max_output_tokens":"5"}"#),
        ("a limit twice", r#"{"model":"$M","max_tokens":1,"max_tokens":9}"#),
        ("a limit with an escape", r#"{"model":"$M","max_tok\u0065ns":9}"#),
        ("a limit in another case", r#"{"model":"$M","max_Tokens":9}"#),
        ("a limit with a Kelvin sign", "{\"model\":\"$M\",\"max_to\u{212a}ens\":9}"),
        ("the newer limit twice", r#"{"model":"$M","max_completion_tokens":1,"max_completion_tokens":9}"#),
        ("stream as text", r#"{"model":"$M","stream":"true"}"#),
        ("stream as a number", r#"{"model":"$M","stream":1}"#),
        ("stream twice", r#"{"model":"$M","stream":false,"stream":true}"#),
        ("stream with a long s", "{\"model\":\"$M\",\"\u{17f}tream\":true}"),
        ("n negative", r#"{"model":"$M","n":-1}"#),
        ("n with a fraction", r#"{"model":"$M","n":1.5}"#),
        ("n beyond what the API gives", r#"{"model":"$M","n":129}"#),
        ("n as text", r#"{"model":"$M","n":"2"}"#),
        ("n twice", r#"{"model":"$M","n":1,"n":128}"#),
        ("n in another case", r#"{"model":"$M","N":128}"#),
        ("include_usage as text", r#"{"model":"$M","stream":true,"stream_options":{"include_usage":"yes"}}"#),
        ("include_usage twice", r#"{"model":"$M","stream_options":{"include_usage":true,"include_usage":false}}"#),
        ("messages twice", r#"{"model":"$M","messages":[],"messages":[]}"#),
        ("tools twice", r#"{"model":"$M","tools":[],"tools":[]}"#),
    ])
    .await;
}

#[tokio::test]
async fn what_only_looks_bad_passes_to_the_byte() {
    all_pass(&[
        ("a temperature that no double holds", r#"{"model":"$M","temperature":1e400}"#),
        ("as many answers as the API gives", r#"{"model":"$M","n":128}"#),
        ("no limit by null", r#"{"model":"$M","max_tokens":null,"stream":null,"n":null}"#),
        ("a limit of nought", r#"{"model":"$M","max_tokens":0}"#),
        ("the largest limit", r#"{"model":"$M","max_tokens":18446744073709551615}"#),
        ("both names of the limit", r#"{"model":"$M","max_tokens":5,"max_completion_tokens":6}"#),
        ("an unknown member twice", r#"{"model":"$M","x":1,"x":2}"#),
        ("model again, further in", r#"{"model":"$M","metadata":{"model":"a","model":"b","Model":"c"}}"#),
        ("a stranger with a member's start", r#"{"model":"$M","modelz":["dear"],"mode":"l"}"#),
        ("white space everywhere", " \r\n{ \"model\"\t:\n\"$M\" ,\"n\" : 1 } \n"),
        ("a lone surrogate in text", r#"{"model":"$M","messages":[{"role":"user","content":"\ud800"}]}"#),
        ("a NUL by escape", r#"{"model":"$M","x":"\u0000"}"#),
        ("an empty key", r#"{"model":"$M","":0}"#),
    ])
    .await;
}

#[tokio::test]
async fn a_model_written_with_escapes_is_routed_by_what_it_says() {
    let mut stack = Stack::new().await;
    for (dialect, written) in
        [(Dialect::Anthropic, r"cl\u0061ude\u002dtest"), (Dialect::OpenAiChat, r"\u0067\u0070t-\u0074est")]
    {
        let body = format!(r#"{{"model":"{written}","messages":[]}}"#);
        let reply = stack.post(dialect, body.clone()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!(outcome.model.as_deref(), Some(model(dialect)));
        let target = outcome.attempts[0].target.as_ref().expect("a target");
        assert_eq!((target.dialect, &*target.model), (dialect, model(dialect)));
        let received = stack.provider.received();
        assert_eq!(received.last().expect("a request").body, body, "the escapes are the client's to choose");
    }
}

#[tokio::test]
async fn a_model_that_nothing_serves_is_refused_in_the_words_each_client_reads() {
    const NOWHERE: Expected = Expected {
        status: [400, 404],
        anthropic: "invalid_request_error",
        openai: ("invalid_request_error", Some("model_not_found")),
    };
    let mut stack = Stack::new().await;
    for (dialect, asked) in [(Dialect::Anthropic, "nobodys"), (Dialect::OpenAiChat, "nobodys")] {
        let body = format!(r#"{{"model":"{asked}","messages":[]}}"#);
        let message = stack.refuses(dialect, body.as_bytes(), NOWHERE, "served by nobody").await;
        assert!(message.contains(asked), "{message}");
    }
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_refused_wherever_they_stand() {
    let mut stack = Stack::new().await;
    let rows: [(&str, &[u8]); 6] = [
        ("a stray byte", b"\xff"),
        ("half a character", b"\xe4\xbd"),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate in bytes", b"\xed\xa0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("Latin-1", b"caf\xe9"),
    ];
    for dialect in BOTH {
        for (why, bytes) in rows {
            for (before, after) in [(r#"{"model":"$M","x":""#, r#""}"#), (r#"{"model":"$M",""#, r#"":1}"#)] {
                let body = [&fill(before, dialect), bytes, after.as_bytes()].concat();
                stack.refuses(dialect, &body, INVALID, why).await;
            }
        }
    }
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty());
}
