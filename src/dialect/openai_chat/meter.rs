use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::meter::{Reading, count};
use crate::domain::usage::Usage;

/// One chunk of a Chat Completions stream. Only the last carries usage, and only some servers' others say `"usage":null`.
pub(crate) fn chunk(data: &[u8], reading: &mut Reading) {
    let mentions = |mark: &[u8]| memmem::find(data, mark).is_some();
    if mentions(br#""usage""#) || mentions(br#""error""#) {
        read(data, reading);
    }
}

/// A whole completion.
pub(crate) fn completion(json: &[u8]) -> Reading {
    let mut reading = Reading::default();
    reading.ended = read(json, &mut reading);
    reading
}

/// Whether this is the chunk that exists for the usage alone: no choices, and counts. It is the one to withhold from a
/// client that did not ask for it.
pub(crate) fn is_usage_chunk(data: &[u8]) -> bool {
    memmem::find(data, br#""usage""#).is_some()
        && serde_json::from_slice::<Chunk<'_>>(data)
            .is_ok_and(|chunk| chunk.usage.is_some() && chunk.choices.is_some_and(|c| is_empty_array(c.get())))
}

fn is_empty_array(raw: &str) -> bool {
    raw.strip_prefix('[').and_then(|r| r.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}

fn read(json: &[u8], reading: &mut Reading) -> bool {
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(json) else { return false };
    reading.failed |= chunk.error.is_some_and(|e| !matches!(e.get(), "null" | "false"));
    if let Some(counts) = chunk.usage {
        reading.usage = Some(counts.usage());
    }
    true
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    usage: Option<Counts<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Counts<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<PromptDetails<'a>>,
    #[serde(borrow)]
    completion_tokens_details: Option<CompletionDetails<'a>>,
    /// DeepSeek's name for `cached_tokens`.
    #[serde(borrow)]
    prompt_cache_hit_tokens: Option<&'a RawValue>,
    /// Sent by proxies in front of Claude.
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PromptDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CompletionDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

impl Counts<'_> {
    fn usage(&self) -> Usage {
        let prompt = count(self.prompt_tokens).unwrap_or(0);
        let completion = count(self.completion_tokens).unwrap_or(0);
        let details = self.prompt_tokens_details.as_ref();
        let cache_read =
            details.and_then(|d| count(d.cached_tokens)).or_else(|| count(self.prompt_cache_hit_tokens)).unwrap_or(0);
        let cache_write = details
            .and_then(|d| count(d.cache_write_tokens))
            .or_else(|| count(self.cache_creation_input_tokens))
            .unwrap_or(0);
        Usage {
            // `prompt_tokens` includes both cached classes.
            input: prompt.saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write_5m: cache_write,
            // Some servers leave reasoning out of `completion_tokens`; then only the total tells.
            output: completion.max(count(self.total_tokens).unwrap_or(0).saturating_sub(prompt)),
            reasoning: self.completion_tokens_details.as_ref().and_then(|d| count(d.reasoning_tokens)).unwrap_or(0),
            ..Usage::default()
        }
    }
}
