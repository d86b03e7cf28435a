use crate::dialect::marks::{ERROR, MESSAGE};
use crate::dialect::members::{count, is_object, members, model, text};
use crate::dialect::meter::Reading;
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
    if !MESSAGE.is_in(data) && !ERROR.is_in(data) && !matches!(name, Some(b"error" | b"message_stop")) {
        return;
    }
    let (mut kind, mut message, mut usage) = (None, None, None);
    members(data, |key, value| match key {
        "type" => kind = text(value),
        "message" => message = Some(value),
        "usage" => usage = Some(value),
        _ => {}
    });
    match kind.as_deref().or(name.and_then(|name| std::str::from_utf8(name).ok())) {
        Some("message_start") => {
            if let Some(message) = message {
                members(message.as_bytes(), |key, value| match key {
                    "usage" => {
                        // With a placeholder for the output.
                        overwrite(value, reading);
                        reading.usage_is_final = false;
                    }
                    "model" => reading.model = model(value),
                    _ => {}
                });
            }
        }
        Some("message_delta") => {
            if let Some(usage) = usage {
                overwrite(usage, reading);
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
    let mut failed = false;
    let whole = members(json, |key, value| match key {
        "type" => failed = text(value).as_deref() == Some("error"),
        "usage" => overwrite(value, &mut reading),
        "model" => reading.model = model(value),
        _ => {}
    });
    Reading { ended: whole, failed, ..reading }
}

/// Each field that is stated replaces what was known of it. Once the output is stated, and there is an input, as there
/// always is, nothing is missing.
fn overwrite(counts: &str, reading: &mut Reading) {
    if !is_object(counts) {
        return;
    }
    let usage = reading.usage.get_or_insert_with(Usage::default);
    let (mut written, mut hour, mut stated) = (None, None, false);
    members(counts.as_bytes(), |key, value| match key {
        "input_tokens" => set(&mut usage.input, value),
        "output_tokens" => {
            set(&mut usage.output, value);
            stated = count(value).is_some();
        }
        "cache_read_input_tokens" => set(&mut usage.cache_read, value),
        "cache_creation_input_tokens" => written = count(value),
        "cache_creation" => hour = detail(value, "ephemeral_1h_input_tokens"),
        "output_tokens_details" => usage.reasoning = detail(value, "thinking_tokens").unwrap_or(usage.reasoning),
        "server_tool_use" => {
            usage.web_searches = detail(value, "web_search_requests").unwrap_or(usage.web_searches);
            usage.web_fetches = detail(value, "web_fetch_requests").unwrap_or(usage.web_fetches);
        }
        "speed" => usage.served.fast = text(value).map(|speed| speed == "fast").or(usage.served.fast),
        "inference_geo" => usage.served.us |= text(value).is_some_and(|place| place == "us"),
        _ => {}
    });
    if let Some(written) = written {
        // Later events may repeat the total without its split: what was an hour's stays an hour's.
        usage.cache_write_1h = hour.unwrap_or(usage.cache_write_1h).min(written);
        usage.cache_write_5m = written - usage.cache_write_1h;
    }
    reading.usage_is_final = (stated || reading.usage_is_final) && usage.total_input() > 0;
}

fn set(field: &mut u64, value: &str) {
    if let Some(value) = count(value) {
        *field = value;
    }
}

fn detail(object: &str, name: &str) -> Option<u64> {
    let mut found = None;
    members(object.as_bytes(), |key, value| {
        if key == name {
            found = count(value);
        }
    });
    found
}
