//! However an upstream's stream is cut into chunks, the client gets the same stream, whatever it asked for. That stream
//! consists of whole events of JSON, of a size that clients read.
#![no_main]

#[path = "../replies.rs"]
mod replies;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::StreamTranslator;
use tollgate::wire::sse::Scanner;

fuzz_target!(|input: (u8, bool, u8, &[u8])| {
    let (which, to_chat, size, stream) = input;
    let (upstream, client) = if to_chat { (Anthropic, OpenAiChat) } else { (OpenAiChat, Anthropic) };
    let (reply, called) = replies::reply(client, which, "f");
    let stream = replies::calling(stream, "f", &called);
    let translate = |chunks: &[&[u8]]| {
        let mut translator = StreamTranslator::new(upstream, client, &reply).expect("two dialects");
        let mut out = BytesMut::new();
        chunks.iter().for_each(|chunk| translator.push(chunk, &mut out));
        translator.finish(&mut out);
        assert!(translator.is_over());
        out
    };
    let whole = translate(&[&stream]);
    assert_eq!(translate(&stream.chunks(usize::from(size).max(1)).collect::<Vec<_>>()), whole);
    let events = Scanner::new().push(&whole, |block| {
        if let Some(data) = block.data().filter(|data| *data != b"[DONE]") {
            serde_json::from_slice::<IgnoredAny>(data).expect("every event is JSON");
        }
    });
    events.expect("events of a size that clients read");
});
