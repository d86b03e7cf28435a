//! Recorded streams. They are none of this project's, so they lie where `TOLLGATE_CORPUS` says:
//! `PROTOCOL/CASE/response.sse`.

use std::io::Write;
use std::path::Path;

use bytes::BytesMut;
use serde_json::Value;
use tollgate::Dialect;
use tollgate::dialect::translate::{Reply, StreamTranslator};

use crate::read::{Answer, chat, messages};

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
    let Some(corpus) = std::env::var_os("TOLLGATE_CORPUS") else {
        say(&format!("SKIPPED: no stream of {protocol} was translated, since TOLLGATE_CORPUS is not set"));
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI translates recorded streams");
        return None;
    };
    let cases = std::fs::read_dir(Path::new(&corpus).join(protocol)).expect("recorded cases");
    let mut streams: Vec<_> = cases.map(|case| case.expect("a case").path().join("response.sse")).collect();
    streams.retain(|stream| stream.is_file());
    streams.sort_unstable();
    for stream in &streams {
        judge(&stream.display().to_string(), &std::fs::read(stream).expect("a stream"));
    }
    say(&format!("{protocol}: {} streams translated", streams.len()));
    Some(streams.len())
}

/// Past the capture of the test harness, which hides what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
