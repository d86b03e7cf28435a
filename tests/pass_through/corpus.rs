//! Replays recorded exchanges with real providers. The recordings are not part of this repository. `TOLLGATE_CORPUS`
//! names their directory: `PROTOCOL/CASE/{request.json, response.*, meta.json}`.

use std::path::{Path, PathBuf};

use http::StatusCode;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::Value;
use tollgate::Dialect;
use tollgate::domain::outcome::End;
use tollgate::domain::usage::{Served, Usage};

use crate::reading::{model, usage, without_usage};
use crate::skip::{self, say};
use crate::stack::{Answer, Stack, block_on, same};

const PROTOCOLS: [(&str, Dialect); 2] =
    [("anthropic-messages", Dialect::Anthropic), ("openai-chat", Dialect::OpenAiChat)];

/// The minimum number of cases. With fewer, this is not the right corpus.
const LEAST: usize = 400;

#[test]
fn recorded_exchanges_pass_as_they_were_recorded() {
    let Some(corpus) = skip::corpus("no recorded exchange was replayed") else { return };
    let mut random =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Config::default().rng_algorithm));
    let (mut replayed, mut counted, mut wrong) = (0, 0, Vec::new());
    for (protocol, dialect) in PROTOCOLS {
        for case in cases(&corpus.join(protocol)) {
            // In one piece, and in random pieces.
            for pieces in [0, 30] {
                let cuts = prop::collection::vec(any::<usize>(), pieces).new_tree(&mut random).expect("cuts").current();
                let played = std::panic::catch_unwind(|| block_on(replay(dialect, &case, &cuts)));
                match played {
                    Ok(has_usage) => counted += usize::from(has_usage && pieces == 0),
                    Err(_) => wrong.push(case.display().to_string()),
                }
            }
            replayed += 1;
        }
    }
    say(&format!("replayed {replayed} recorded exchanges, {counted} of them with usage; {} failures", wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(replayed >= LEAST, "{replayed} exchanges are too few: the corpus is incomplete");
}

fn cases(protocol: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(protocol)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    cases.retain(|case| case.join("request.json").is_file());
    cases.sort_unstable();
    cases
}

/// Replays one exchange. Returns whether it states usage.
async fn replay(dialect: Dialect, case: &Path, cuts: &[usize]) -> bool {
    let read = |name: &str| std::fs::read(case.join(name)).ok();
    let request = read("request.json").expect("a request");
    let meta: Value = serde_json::from_slice(&read("meta.json").expect("what is known of it")).expect("JSON");
    let status = meta["status"].as_u64().and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let status = status.unwrap_or(StatusCode::OK);
    let (body, answer) = match (read("response.sse"), read("response.json"), read("response.txt")) {
        (Some(body), _, _) => (body.clone(), Answer::sse(&body)),
        (_, Some(body), _) => (body.clone(), Answer::json(&body)),
        (_, _, Some(body)) => (body.clone(), Answer::new("text/plain", &body)),
        _ => panic!("no answer was recorded"),
    };
    let is_stream = case.join("response.sse").is_file();
    let mut answer = answer.cut(cuts);
    answer.status = status;

    let exchange = Stack::new().post(dialect, request.clone(), answer).await;
    let why = case.display().to_string();
    assert_eq!(exchange.status, status, "{why}");

    let asked: Value = serde_json::from_slice(&request).expect("JSON");
    let asks = asked.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let is_ours = dialect == Dialect::OpenAiChat && asked["stream"] == true && !asks;
    if is_ours {
        only_asks_for_usage(&exchange.seen.body, &request, &why);
    } else {
        same(&exchange.seen.body, &request, &why);
    }
    let expected = if is_ours && is_stream { without_usage(&body) } else { body.clone() };
    same(&exchange.body, &expected, &why);

    let stated = if status.is_success() { usage(dialect, &body, is_stream) } else { None };
    // Compare the figures only: `served` says who served the call.
    let figures = exchange.outcome.usage.map(|usage| Usage { served: Served::default(), ..usage });
    assert_eq!(figures, stated, "{why}");
    if status.is_success() && stated.is_some() {
        let answered = exchange.outcome.attempts.last().and_then(|attempt| attempt.answered.as_deref());
        assert_eq!(answered, model(dialect, &body, is_stream).as_deref(), "{why}");
        assert_eq!(exchange.outcome.end, End::Complete, "{why}");
    }
    stated.is_some()
}

/// Checks that the provider saw the client's bytes plus the gateway's `stream_options`, and nothing else.
fn only_asks_for_usage(seen: &[u8], sent: &[u8], why: &str) {
    let seen = std::str::from_utf8(seen).expect("text");
    let ours = r#""stream_options":{"include_usage":true}"#;
    let candidates = [format!("{ours},"), format!(",{ours}"), ours.to_owned()];
    let found = candidates.iter().any(|member| seen.replacen(member.as_str(), "", 1).as_bytes() == sent);
    assert!(found, "{why}: more than stream_options is another");
}
