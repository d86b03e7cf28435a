//! Translates recorded streams, answers and requests. The recordings are not part of this repository. `TOLLGATE_CORPUS`
//! names their directory: `PROTOCOL/CASE/response.sse`.

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::Value;
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Reply, answer, request};

use crate::make::translate_as;
use crate::read::{Answer, chat, messages, whole_completion, whole_message};
use crate::skip::{self, say};

#[path = "../fuzz/replies.rs"]
mod replies;

/// The signature that the gateway gives to unsigned thinking.
const UNSIGNED: &str = "tgsig_v1.";

#[test]
fn every_recorded_messages_stream_says_the_same_in_chat_completions() {
    let replayed = each("anthropic-messages", |name, stream| {
        let expected = messages(stream, false);
        let translated = translate(Dialect::Anthropic, &[stream]);
        let told = chat(&translated, true);
        same(name, &told, &expected, in_chat(&expected));
        assert_eq!(told.thinking, expected.thinking, "{name}");
        // Translate it back.
        let back = messages(&translate(Dialect::OpenAiChat, &[&translated]), true);
        same(name, &back, &expected, in_messages(&told));
        assert_eq!(shown(&back), shown(&expected), "{name}");
        // A Chat Completions stream lists the thinking once, at its end. That is too late to sign thinking that was
        // already shown. Thinking that was not shown is read from there.
        match shown(&expected).is_empty() {
            true => assert_eq!(back.thinking, expected.thinking, "{name}"),
            false => assert!(back.thinking.iter().all(|(text, by)| text.is_empty() || by == UNSIGNED), "{name}"),
        }
    });
    assert!(replayed.is_none_or(|streams| streams >= 44), "{replayed:?} streams are too few");
}

#[test]
fn every_recorded_chat_stream_says_the_same_in_messages() {
    let replayed = each("openai-chat", |name, stream| {
        let recorded = chat(stream, false);
        // Some recordings have no end marker, and some state no usage, which becomes zeros.
        let expected = Answer { ended: true, usage: recorded.usage.or(Some(Default::default())), ..recorded };
        let translated = translate(Dialect::OpenAiChat, &[stream]);
        let told = messages(&translated, true);
        same(name, &told, &expected, in_messages(&expected));
        assert_eq!(shown(&told), shown(&expected), "{name}");
        // Translate it back.
        let back = chat(&translate(Dialect::Anthropic, &[&translated]), true);
        same(name, &back, &told, in_chat(&told));
        assert_eq!(back.thinking, told.thinking, "{name}");
    });
    assert!(replayed.is_none_or(|streams| streams >= 15), "{replayed:?} streams are too few");
}

#[test]
fn however_a_recorded_stream_is_cut_it_is_translated_alike() {
    let mut random =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Config::default().rng_algorithm));
    for (protocol, dialect) in [("anthropic-messages", Dialect::Anthropic), ("openai-chat", Dialect::OpenAiChat)] {
        each(protocol, |name, stream| {
            let whole = translate(dialect, &[stream]);
            // Cut at every offset: the first piece may have any length up to the size of the others.
            for size in [1, 2, 3, 7, 61, 499] {
                for first in 1..=size.min(stream.len()) {
                    let (first, rest) = stream.split_at(first);
                    let pieces: Vec<_> = std::iter::once(first).chain(rest.chunks(size)).collect();
                    assert!(translate(dialect, &pieces) == whole, "{name} by {size} from {}", first.len());
                }
            }
            for count in [1, 4, 30].into_iter().cycle().take(24) {
                let cuts =
                    prop::collection::vec(0..=stream.len(), count).new_tree(&mut random).expect("cuts").current();
                assert!(translate(dialect, &cut(stream, &cuts)) == whole, "{name} cut at {cuts:?}");
            }
        });
    }
}

#[test]
fn whatever_the_client_asked_for_a_recorded_stream_is_cut_alike() {
    let mut random =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Config::default().rng_algorithm));
    for (protocol, upstream, client, least) in [
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, 143),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, 24),
    ] {
        let (mut all, mut fitted) = (0, 0);
        let streams = each(protocol, |name, stream| {
            let tools =
                if upstream == Dialect::Anthropic { messages(stream, false) } else { chat(stream, false) }.tools;
            let tool = tools.first().map_or("f", |(_, name, _)| name);
            let plain = translate(upstream, &[stream]);
            for which in 0..replies::MANY {
                let (reply, called) = replies::reply(client, which, tool);
                let stream = &replies::calling(stream, tool, &called)[..];
                let whole = translate_as(&reply, upstream, &[stream]);
                // The gateway's own stream has to pass the strict reader.
                let read = if client == Dialect::Anthropic { messages } else { chat };
                assert!(read(&whole, true).ended || read(&plain, true).error.is_some(), "{name} for {which}");
                for size in [1, 7] {
                    for first in 1..=size.min(stream.len()) {
                        let (first, rest) = stream.split_at(first);
                        let pieces: Vec<_> = std::iter::once(first).chain(rest.chunks(size)).collect();
                        assert!(translate_as(&reply, upstream, &pieces) == whole, "{name} for {which} by {size}");
                    }
                }
                for count in [1, 4, 30] {
                    let cuts =
                        prop::collection::vec(0..=stream.len(), count).new_tree(&mut random).expect("cuts").current();
                    let told = translate_as(&reply, upstream, &cut(stream, &cuts));
                    assert!(told == whole, "{name} for {which} cut at {cuts:?}");
                }
                (all, fitted) = (all + 1, fitted + usize::from(whole != plain));
            }
        });
        say(&format!("{protocol}: {all} answers cut, {fitted} of them other than a plain one"));
        assert!(streams.is_none() || fitted >= least, "{protocol}: {fitted}");
    }
}

fn cut<'s>(stream: &'s [u8], cuts: &[usize]) -> Vec<&'s [u8]> {
    let mut ends = [cuts, &[stream.len()]].concat();
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

/// Asserts that two answers are the same except for thinking, which the dialects sign differently, and that the answer
/// ended with `stop`.
fn same(name: &str, told: &Answer, expected: &Answer, stop: Option<&str>) {
    assert_eq!(told.text, expected.text, "{name}");
    same_tools(name, told, expected);
    assert_eq!(told.stop.as_deref(), stop, "{name}");
    assert_eq!(told.usage, expected.usage, "{name}");
    assert_eq!((told.ended, &told.error), (expected.ended, &expected.error), "{name}");
}

fn same_tools(name: &str, told: &Answer, expected: &Answer) {
    assert_eq!(told.tools.len(), expected.tools.len(), "{name}");
    for (told, expected) in told.tools.iter().zip(&expected.tools) {
        assert_eq!(told.1, expected.1, "{name}");
        // If the server gives no id, the gateway makes one up.
        assert!(told.0 == expected.0 || (expected.0.is_empty() && !told.0.is_empty()), "{name}: {told:?}");
        let read = |input: &str| serde_json::from_str::<Value>(if input.is_empty() { "{}" } else { input }).ok();
        match read(&expected.2) {
            Some(input) => assert_eq!(read(&told.2), Some(input), "{name}"),
            // Arguments that were cut short are passed on unchanged, or within an object if an object is required.
            None => assert!(told.2 == expected.2 || read(&told.2).is_some_and(|input| input.is_object()), "{name}"),
        }
    }
}

fn shown(answer: &Answer) -> String {
    answer.thinking.iter().map(|(text, _)| text.as_str()).collect()
}

/// The finish reason in Chat Completions for the end of a Messages answer.
fn in_chat(answer: &Answer) -> Option<&'static str> {
    let reason = match (answer.stop.as_deref().unwrap_or_default(), answer.tools.is_empty()) {
        ("max_tokens" | "model_context_window_exceeded" | "pause_turn", _) => "length",
        ("refusal", _) => "content_filter",
        ("compaction", _) | (_, true) => "stop",
        (_, false) => "tool_calls",
    };
    answer.ended.then_some(reason)
}

/// The stop reason in Messages for the end of a Chat Completions answer.
fn in_messages(answer: &Answer) -> Option<&'static str> {
    let reason = match (answer.stop.as_deref().unwrap_or_default(), answer.tools.is_empty()) {
        ("length", _) => "max_tokens",
        ("content_filter", _) => "refusal",
        (_, false) => "tool_use",
        (_, true) => "end_turn",
    };
    answer.ended.then_some(reason)
}

fn translate(upstream: Dialect, chunks: &[&[u8]]) -> BytesMut {
    translate_as(&Reply::new("model", "req-1").include_usage(true), upstream, chunks)
}

/// Calls `judge` with every recorded stream. Returns their number, or `None` if there is no corpus.
fn each(protocol: &str, mut judge: impl FnMut(&str, &[u8])) -> Option<usize> {
    let corpus = skip::corpus(&format!("no stream of {protocol} was translated"))?;
    let cases = std::fs::read_dir(corpus.join(protocol)).expect("recorded cases");
    let mut streams: Vec<_> = cases.map(|case| case.expect("a case").path().join("response.sse")).collect();
    streams.retain(|stream| stream.is_file());
    streams.sort_unstable();
    for stream in &streams {
        judge(&stream.display().to_string(), &std::fs::read(stream).expect("a stream"));
    }
    say(&format!("{protocol}: {} streams translated", streams.len()));
    Some(streams.len())
}

/// Calls `judge` with every recorded request. Returns their number.
pub(crate) fn each_request(protocol: &str, mut judge: impl FnMut(&str, &[u8])) -> Option<usize> {
    let corpus = skip::corpus(&format!("no request of {protocol} was translated"))?;
    let cases = std::fs::read_dir(corpus.join(protocol)).expect("recorded cases");
    let mut requests: Vec<_> = cases.map(|case| case.expect("a case").path().join("request.json")).collect();
    requests.retain(|request| request.is_file());
    requests.sort_unstable();
    for request in &requests {
        judge(&request.display().to_string(), &std::fs::read(request).expect("a request"));
    }
    Some(requests.len())
}

#[test]
fn every_recorded_request_can_be_asked_or_is_refused_by_a_path_and_always_alike() {
    for (protocol, client, upstream, model, least) in [
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, "gpt-5", 212),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5", 151),
    ] {
        let (mut asked, mut refused) = (0, Vec::new());
        let all = each_request(protocol, |name, body| {
            let ask = || request(body, client, upstream, &Asked::new(model));
            match ask() {
                Ok(translated) => {
                    assert!(serde_json::from_slice::<Value>(&translated.body).is_ok(), "{name}");
                    assert_eq!(ask().expect("as before").body, translated.body, "{name}");
                    asked += 1;
                }
                Err(rejection) => {
                    let path = rejection.param_name().unwrap_or_else(|| panic!("{name}: {rejection}"));
                    refused.push(path.to_owned());
                }
            }
        });
        if let Some(all) = all {
            refused.sort_unstable();
            refused.dedup();
            say(&format!(
                "{protocol}: of {all} requests {asked} can be asked in the other dialect; refused for {refused:?}"
            ));
            assert!(asked >= least, "{protocol}: {asked}");
        }
    }
}

#[test]
fn a_conversation_that_goes_on_begins_as_it_did() {
    for (protocol, client, upstream, model) in [
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, "gpt-5"),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-4-8"),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, "claude-haiku-4-5"),
    ] {
        each_request(protocol, |name, body| {
            let Ok(whole) = serde_json::from_slice::<Value>(body) else { return };
            let ask = |body: &Value| {
                let translated = request(body.to_string().as_bytes(), client, upstream, &Asked::new(model)).ok()?;
                serde_json::from_slice::<Value>(&translated.body).ok()
            };
            let Some(last) = ask(&whole) else { return };
            let turns = whole["messages"].as_array().map_or(0, Vec::len);
            for cut in 1..turns {
                // Cut only where the assistant was asked, so that its answer follows.
                if whole["messages"][cut]["role"] != "assistant" || whole["messages"][cut - 1]["role"] == "assistant" {
                    continue;
                }
                let mut shorter = whole.clone();
                shorter["messages"].as_array_mut().expect("a list").truncate(cut);
                let Some(shorter) = ask(&shorter) else { continue };
                let (short, long) =
                    (shorter["messages"].as_array().expect("a list"), last["messages"].as_array().expect("a list"));
                assert!(long.starts_with(short), "{name} cut at {cut}:\n{short:?}\n{long:?}");
                assert_eq!(
                    (shorter.get("system"), shorter.get("tools")),
                    (last.get("system"), last.get("tools")),
                    "{name}"
                );
            }
        });
    }
}

#[test]
fn every_recorded_answer_says_the_same_in_the_other_dialect_and_back() {
    let Some(corpus) = skip::corpus("no whole answer was translated") else { return };
    for (protocol, upstream, client, least) in [
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, 210),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, 141),
    ] {
        let (mut told, mut failed) = (0, 0);
        for case in std::fs::read_dir(corpus.join(protocol)).expect("recorded cases") {
            let path = case.expect("a case").path().join("response.json");
            let Ok(body) = std::fs::read(&path) else { continue };
            let reply = Reply::new("model", "req-1");
            let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
            let there = match answer(&body, upstream, client, &reply) {
                Ok(there) => there,
                // The recording is an error, or not an answer of either API.
                Err(error) => {
                    let was = json(&body);
                    let is_answer = was["choices"].is_array() || was["content"].is_array();
                    assert!(!is_answer || !was["error"].is_null(), "{}: {error:?}", path.display());
                    failed += 1;
                    continue;
                }
            };
            let back = answer(&there, client, upstream, &reply).expect("what we wrote can be read");
            there_and_back(&path.display().to_string(), upstream, [json(&body), json(&there), json(&back)]);
            told += 1;
        }
        say(&format!("{protocol}: {told} whole answers translated, and back; {failed} are none"));
        assert!(told >= least, "{protocol}: {told}");
    }
}

fn there_and_back(name: &str, upstream: Dialect, [was, there, back]: [Value; 3]) {
    if upstream == Dialect::Anthropic {
        let (was, there, back) = (whole_message(&was), whole_completion(&there), whole_message(&back));
        same(name, &there, &was, in_chat(&was));
        same(name, &back, &was, in_messages(&there));
        assert_eq!((&there.thinking, &back.thinking), (&was.thinking, &was.thinking), "{name}");
        return;
    }
    let (mut was, there, back) = (whole_completion(&was), whole_message(&there), whole_completion(&back));
    was.usage = was.usage.or(Some(Default::default()));
    was.thinking.iter_mut().filter(|(_, by)| by.is_empty()).for_each(|(_, by)| UNSIGNED.clone_into(by));
    same(name, &there, &was, in_messages(&was));
    same(name, &back, &there, in_chat(&there));
    assert_eq!((&there.thinking, &back.thinking), (&was.thinking, &was.thinking), "{name}");
}
