//! Recorded streams. They are none of this project's, so they lie where `TOLLGATE_CORPUS` says:
//! `PROTOCOL/CASE/response.sse`.

use bytes::BytesMut;
use serde_json::Value;
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Reply, StreamTranslator, answer, request};

use crate::read::{Answer, chat, messages};
use crate::skip::{self, say};

#[test]
fn every_recorded_messages_stream_says_the_same_in_chat_completions() {
    let replayed = each("anthropic-messages", |name, stream| {
        let expected = messages(stream, false);
        let translated = translate(Dialect::Anthropic, &[stream]);
        let told = chat(&translated, true);
        assert_eq!(told.text, expected.text, "{name}");
        same_tools(name, &told, &expected);
        assert_eq!(told.thinking, expected.thinking, "{name}");
        assert_eq!(told.usage, expected.usage, "{name}");
        assert_eq!((told.ended, &told.error), (expected.ended, &expected.error), "{name}");
        // And back.
        let back = messages(&translate(Dialect::OpenAiChat, &[&translated]), true);
        assert_eq!(back.text, expected.text, "{name}");
        same_tools(name, &back, &expected);
        assert_eq!(back.usage, expected.usage, "{name}");
    });
    assert!(replayed.is_none_or(|streams| streams >= 44), "{replayed:?} streams are too few");
}

#[test]
fn every_recorded_chat_stream_says_the_same_in_messages() {
    let replayed = each("openai-chat", |name, stream| {
        let expected = chat(stream, false);
        let told = messages(&translate(Dialect::OpenAiChat, &[stream]), true);
        assert_eq!(told.text, expected.text, "{name}");
        same_tools(name, &told, &expected);
        assert!(told.ended && told.error.is_none(), "{name}");
        let stop = match (expected.stop.as_deref(), expected.tools.is_empty()) {
            (Some("length"), _) => "max_tokens",
            (Some("content_filter"), _) => "refusal",
            (_, false) => "tool_use",
            (_, true) => "end_turn",
        };
        assert_eq!(told.stop.as_deref(), Some(stop), "{name}");
        assert_eq!(told.usage, expected.usage.or(Some(Default::default())), "{name}");
    });
    assert!(replayed.is_none_or(|streams| streams >= 15), "{replayed:?} streams are too few");
}

#[test]
fn however_a_recorded_stream_is_cut_it_is_translated_alike() {
    for (protocol, dialect) in [("anthropic-messages", Dialect::Anthropic), ("openai-chat", Dialect::OpenAiChat)] {
        each(protocol, |name, stream| {
            let whole = translate(dialect, &[stream]);
            // At every byte of the first events, and then at every 211th: each kind of event is cut at each of its bytes
            // in some stream.
            for at in (0..stream.len()).filter(|at| *at < 400 || at % 211 == 0) {
                assert!(translate(dialect, &[&stream[..at], &stream[at..]]) == whole, "{name} cut at {at}");
            }
            for size in [1, 2, 3, 7, 61, 1024] {
                assert!(translate(dialect, &stream.chunks(size).collect::<Vec<_>>()) == whole, "{name} by {size}");
            }
        });
    }
}

fn same_tools(name: &str, told: &Answer, expected: &Answer) {
    assert_eq!(told.tools.len(), expected.tools.len(), "{name}");
    for (told, expected) in told.tools.iter().zip(&expected.tools) {
        assert_eq!((&told.0, &told.1), (&expected.0, &expected.1), "{name}");
        let read = |input: &str| serde_json::from_str::<Value>(if input.is_empty() { "{}" } else { input }).ok();
        match read(&expected.2) {
            Some(input) => assert_eq!(read(&told.2), Some(input), "{name}"),
            None => assert_eq!(told.2, expected.2, "{name}: cut short, and verbatim"),
        }
    }
}

fn translate(upstream: Dialect, chunks: &[&[u8]]) -> BytesMut {
    let client = if upstream == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let reply = Reply::new("model", "req-1").include_usage(true);
    let mut translator = StreamTranslator::new(upstream, client, &reply).expect("two dialects");
    let mut out = BytesMut::new();
    for chunk in chunks {
        translator.push(chunk, &mut out);
    }
    translator.finish(&mut out);
    out
}

/// Hands out every recorded stream, and says how many there were; `None` where there is no corpus.
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

/// Hands out every recorded request, and says how many there were.
fn each_request(protocol: &str, mut judge: impl FnMut(&str, &[u8])) -> Option<usize> {
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
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, "gpt-5", 150),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5", 100),
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
                // As it was when the assistant was asked: what follows is its answer.
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
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, 150),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, 100),
    ] {
        let mut told = 0;
        for case in std::fs::read_dir(corpus.join(protocol)).expect("recorded cases") {
            let path = case.expect("a case").path().join("response.json");
            let Ok(body) = std::fs::read(&path) else { continue };
            let reply = Reply::new("model", "req-1");
            let Ok(there) = answer(&body, upstream, client, &reply) else { continue };
            let back = answer(&there, client, upstream, &reply).expect("what we wrote can be read");
            let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
            let (was, there, back) = (json(&body), json(&there), json(&back));
            let (a, b) = if upstream == Dialect::Anthropic { (&was, &there) } else { (&there, &was) };
            let again = if upstream == Dialect::Anthropic { &back } else { a };
            let name = path.display();
            for message in [a, again] {
                let blocks = message["content"].as_array().expect("blocks");
                let of = |kind: &str, member: &str| -> Vec<String> {
                    let found = blocks.iter().filter(|block| block["type"] == kind);
                    found.map(|block| block[member].as_str().unwrap_or_default().to_owned()).collect()
                };
                let said = &b["choices"][0]["message"];
                assert_eq!(of("text", "text").concat(), said["content"].as_str().unwrap_or_default(), "{name}");
                let calls = said["tool_calls"].as_array().cloned().unwrap_or_default();
                let ids: Vec<_> = calls.iter().map(|call| call["id"].as_str().unwrap_or_default().to_owned()).collect();
                let known = of("tool_use", "id");
                assert_eq!(known.len(), ids.len(), "{name}");
                // A server that gives none has one made up.
                assert!(known.iter().zip(&ids).all(|(told, id)| told == id || id.is_empty()), "{name}");
                let inputs: Vec<_> =
                    blocks.iter().filter(|b| b["type"] == "tool_use").map(|b| b["input"].clone()).collect();
                for (call, input) in calls.iter().zip(inputs) {
                    let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                    if let Ok(arguments) = serde_json::from_str::<Value>(arguments) {
                        assert_eq!(arguments, input, "{name}");
                    }
                }
            }
            if upstream == Dialect::Anthropic {
                for member in ["input_tokens", "output_tokens", "cache_read_input_tokens"] {
                    let count = |json: &Value| json["usage"][member].as_u64().unwrap_or(0);
                    assert_eq!(count(&was), count(&back), "{name}: {member}");
                }
            }
            told += 1;
        }
        say(&format!("{protocol}: {told} whole answers translated, and back"));
        assert!(told >= least, "{protocol}: {told}");
    }
}
