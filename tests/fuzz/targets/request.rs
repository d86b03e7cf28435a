//! Whatever a client sends is refused, or becomes JSON, and always the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Asked, request};

const MODELS: [&str; 6] = ["claude-opus-5-5", "claude-haiku-4-5", "claude-sonnet-4-6", "gpt-5", "gpt-4o", "deepseek"];

fuzz_target!(|input: (u8, &[u8])| {
    let (which, body) = input;
    let model = MODELS[usize::from(which >> 1) % MODELS.len()];
    let (client, upstream) = if which & 1 == 0 { (Anthropic, OpenAiChat) } else { (OpenAiChat, Anthropic) };
    if let Ok(translated) = request(body, client, upstream, &Asked::new(model)) {
        serde_json::from_slice::<IgnoredAny>(&translated.body).expect("JSON goes upstream");
        let again = request(body, client, upstream, &Asked::new(model)).expect("as before");
        assert_eq!(again.body, translated.body);
        assert!(translated.warnings.is_none_or(|warnings| warnings.is_ascii() && warnings.len() <= 1024));
    }
});
