//! Whatever an upstream answers is an error in the client's shape, or an answer that is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Reply, answer, answer_as_stream, error};

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (to_chat, status, body) = input;
    let (upstream, client) = if to_chat { (Anthropic, OpenAiChat) } else { (OpenAiChat, Anthropic) };
    let reply = Reply::new("model", "req-1").include_usage(true);
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
