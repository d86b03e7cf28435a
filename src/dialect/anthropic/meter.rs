use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::meter::{Reading, count};
use crate::domain::usage::Usage;

/// One event of a Messages stream.
///
/// Block events are nearly all of a stream and begin, in every recorded one, with their type: they are let go after one
/// comparison. Whatever else arrives is asked for its type, since the `event:` name is a courtesy that proxies drop.
pub(crate) fn event(data: &[u8], name: Option<&[u8]>, reading: &mut Reading) {
    const BLOCK: &[u8] = br#"{"type":"content_block_"#;
    if data.starts_with(BLOCK) {
        return;
    }
    if !has_mark(data) && !matches!(name, Some(b"error" | b"message_stop")) {
        return;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        // An error whose body has some other shape is an error still.
        reading.failed |= name == Some(b"error");
        return;
    };
    match event.r#type.or(name.and_then(|n| std::str::from_utf8(n).ok())) {
        Some("message_start") => {
            if let Some(usage) = event.message.and_then(|m| m.usage) {
                usage.overwrite(reading);
            }
        }
        Some("message_delta") => {
            if let Some(usage) = event.usage {
                usage.overwrite(reading);
            }
        }
        Some("message_stop") => reading.ended = true,
        Some("error") => reading.failed = true,
        _ => {}
    }
}

/// A whole Message, or the answer of `count_tokens`.
pub(crate) fn message(json: &[u8]) -> Reading {
    let mut reading = Reading::default();
    if let Ok(message) = serde_json::from_slice::<Message<'_>>(json) {
        reading.ended = true;
        reading.failed = message.r#type == Some("error");
        if let Some(usage) = message.usage {
            usage.overwrite(&mut reading);
        }
    }
    reading
}

/// Types that matter appear in the bytes, quoted; a quote inside text is escaped, so text cannot fake one.
fn has_mark(data: &[u8]) -> bool {
    [&br#""message_"#[..], br#""error""#].iter().any(|mark| memmem::find(data, mark).is_some())
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    usage: Option<Counts<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    #[serde(borrow)]
    usage: Option<Counts<'a>>,
}

#[derive(Deserialize)]
struct Counts<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation: Option<CacheCreation<'a>>,
    #[serde(borrow)]
    output_tokens_details: Option<OutputDetails<'a>>,
    #[serde(borrow)]
    server_tool_use: Option<ServerTools<'a>>,
}

#[derive(Deserialize)]
struct CacheCreation<'a> {
    #[serde(borrow)]
    ephemeral_1h_input_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputDetails<'a> {
    #[serde(borrow)]
    thinking_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ServerTools<'a> {
    #[serde(borrow)]
    web_search_requests: Option<&'a RawValue>,
    #[serde(borrow)]
    web_fetch_requests: Option<&'a RawValue>,
}

impl Counts<'_> {
    /// Each field that is stated replaces what was known of it.
    fn overwrite(&self, reading: &mut Reading) {
        let usage = reading.usage.get_or_insert_with(Usage::default);
        let set = |field: &mut u64, value: Option<u64>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        set(&mut usage.input, count(self.input_tokens));
        set(&mut usage.output, count(self.output_tokens));
        set(&mut usage.cache_read, count(self.cache_read_input_tokens));
        if let Some(written) = count(self.cache_creation_input_tokens) {
            let hour = self.cache_creation.as_ref().and_then(|c| count(c.ephemeral_1h_input_tokens));
            // Later events may repeat the total without its split: what was an hour's stays an hour's.
            usage.cache_write_1h = hour.unwrap_or(usage.cache_write_1h).min(written);
            usage.cache_write_5m = written - usage.cache_write_1h;
        }
        set(&mut usage.reasoning, self.output_tokens_details.as_ref().and_then(|d| count(d.thinking_tokens)));
        set(&mut usage.web_searches, self.server_tool_use.as_ref().and_then(|t| count(t.web_search_requests)));
        set(&mut usage.web_fetches, self.server_tool_use.as_ref().and_then(|t| count(t.web_fetch_requests)));
    }
}
