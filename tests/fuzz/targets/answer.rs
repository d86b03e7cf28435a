//! Any answer of an upstream becomes JSON for the client, either an answer or an error, whatever the client asked for.
#![no_main]

#[path = "../replies.rs"]
mod replies;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{answer, answer_as_stream, error};

fuzz_target!(|input: (u8, bool, u16, &[u8])| {
    let (which, to_chat, status, body) = input;
    let (upstream, client) = if to_chat { (Anthropic, OpenAiChat) } else { (OpenAiChat, Anthropic) };
    let (reply, called) = replies::reply(client, which, "f");
    let body = &replies::calling(body, "f", &called)[..];
    let json = |bytes: &[u8]| assert!(serde_json::from_slice::<IgnoredAny>(bytes).is_ok(), "JSON goes to the client");
    match answer(body, upstream, client, &reply) {
        Ok(whole) => json(&whole),
        Err(rendered) => json(&rendered.body),
    }
    let _ = answer_as_stream(body, upstream, client, &reply);
    if let Ok(status) = http::StatusCode::from_u16(status) {
        json(&error(status, &http::HeaderMap::new(), body, upstream, client, &reply).body);
    }
});
