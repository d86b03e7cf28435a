//! Any request of a client is refused or becomes JSON. The result is the same in every mode: `Silent` only leaves out
//! the warnings, and `Strict` also refuses a request that loses something.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{AnthropicVersion, Asked, Mode, request};

const MODELS: [&str; 7] =
    ["claude-opus-5-5", "claude-haiku-4-5", "claude-sonnet-4-6", "gpt-5", "gpt-4o", "deepseek", "gpt-5.6"];
const MODES: [Mode; 3] = [Mode::Compat, Mode::Strict, Mode::Silent];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (which, how, body) = input;
    let model = MODELS[usize::from(which >> 1) % MODELS.len()];
    let (client, upstream) = if which & 1 == 0 { (Anthropic, OpenAiChat) } else { (OpenAiChat, Anthropic) };
    let is_new = how & 1 == 1;
    let version = if is_new { AnthropicVersion::V2026_10_21 } else { AnthropicVersion::V2023_06_01 };
    let session = (how & 2 == 2).then_some("session");
    let asked = Asked::new(model).version(version).session(session);
    let asked = asked.server_tools(how & 4 == 4).drops_stale_thinking(how & 8 == 8);
    let [compat, strict, silent] = MODES.map(|mode| request(body, client, upstream, &asked.clone().mode(mode)));
    match (&compat, &silent) {
        (Ok(compat), Ok(silent)) => {
            assert!(silent.warnings.is_none() && silent.body == compat.body);
            assert!(compat.warnings.as_ref().is_none_or(|said| said.is_ascii() && said.len() <= 1024));
        }
        (compat, silent) => assert!(compat.is_err() && silent.is_err()),
    }
    let Ok(compat) = compat else {
        assert!(strict.is_err());
        return;
    };
    assert!(strict.is_ok() || compat.warnings.is_some(), "{strict:?}");
    if let Ok(strict) = strict {
        assert_eq!(strict.body, compat.body);
    }
    let members: HashMap<String, IgnoredAny> = serde_json::from_slice(&compat.body).expect("JSON goes upstream");
    if upstream == Anthropic && is_new {
        assert!(["temperature", "top_p", "top_k"].iter().all(|gone| !members.contains_key(*gone)));
    }
});
