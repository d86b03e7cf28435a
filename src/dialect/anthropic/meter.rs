use crate::dialect::marks::{ERROR, MESSAGE};
use crate::dialect::members::{billed, detail, is_object, members, model, text};
use crate::dialect::meter::Reading;
use crate::domain::usage::Usage;
use crate::wire::json::Raw;

/// The member of a `usage` that marks it as a guess of a gateway, for clients that show the first figures they get.
/// Nobody is billed by it.
pub(crate) const ESTIMATED: &str = "estimated";

/// Reads one event of a Messages stream.
///
/// Nearly all events are block events, and in every recorded stream these begin with their type, so one comparison
/// skips them. The type of any other event is read from its data, since proxies drop the `event:` name.
pub(crate) fn event(data: &[u8], name: Option<&[u8]>, reading: &mut Reading) {
    const BLOCK: &[u8] = br#"{"type":"content_block_"#;
    if data.starts_with(BLOCK) {
        return;
    }
    if !MESSAGE.is_in(data) && !ERROR.is_in(data) && !matches!(name, Some(b"error" | b"message_stop")) {
        return;
    }
    let (mut kind, mut message, mut usage, mut delta) = (None, None, None, None);
    members(data, |key, value| match key {
        "type" => kind = text(value),
        "message" => message = Some(value),
        "usage" => usage = Some(value),
        "delta" => delta = Some(value),
        _ => {}
    });
    match kind.as_deref().or(name.and_then(|name| std::str::from_utf8(name).ok())) {
        Some("message_start") => {
            reading.is_open = true;
            if let Some(message) = message {
                members(message.as_bytes(), |key, value| match key {
                    "usage" => {
                        // Its output count is a placeholder.
                        overwrite(value, reading);
                        reading.usage_is_final = false;
                    }
                    "model" => reading.model = model(value),
                    _ => {}
                });
            }
        }
        Some("message_delta") => {
            reading.is_open = false;
            reading.has_stopped |=
                delta.is_some_and(|delta| Raw::new(delta).member("stop_reason").is_some_and(says_why));
            if let Some(usage) = usage {
                overwrite(usage, reading);
            }
        }
        Some("message_stop") => reading.ended = true,
        Some("error") => reading.failed = true,
        _ => {}
    }
}

/// Whether it is neither absent nor `null`.
fn says_why(reason: Raw<'_>) -> bool {
    reason.text().is_some_and(|reason| !reason.is_empty())
}

/// Reads a whole Message, or the answer of `count_tokens`.
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

/// Each stated count replaces the known one, with two exceptions. An input of zero comes from servers that do not
/// repeat the input. Output counts never decrease. Once the output is stated, and there is an input, which there always
/// is, nothing is missing.
fn overwrite(counts: &str, reading: &mut Reading) {
    if !is_object(counts) {
        return;
    }
    let (known, usage) = (reading.usage, &mut reading.usage.unwrap_or_default());
    let (mut written, mut short, mut hour, mut more) = (None, None, None, Usage::default());
    let (mut input, mut output, mut read, mut guessed) = (None, None, None, false);
    members(counts.as_bytes(), |key, value| match key {
        "input_tokens" => input = billed(value),
        "output_tokens" => output = billed(value),
        "cache_read_input_tokens" => read = billed(value),
        "iterations" => more = compactions(value),
        "cache_creation_input_tokens" => written = billed(value),
        "cache_creation" => {
            (short, hour) = (detail(value, "ephemeral_5m_input_tokens"), detail(value, "ephemeral_1h_input_tokens"));
        }
        "output_tokens_details" => raise(&mut usage.reasoning, detail(value, "thinking_tokens")),
        "server_tool_use" => {
            raise(&mut usage.web_searches, detail(value, "web_search_requests"));
            raise(&mut usage.web_fetches, detail(value, "web_fetch_requests"));
        }
        "speed" => usage.served.fast = text(value).map(|speed| speed == "fast").or(usage.served.fast),
        ESTIMATED => guessed = value == "true",
        "inference_geo" => usage.served.us |= text(value).is_some_and(|place| place == "us"),
        _ => {}
    });
    // The parts count where the total is missing, or is less.
    let parts = short.or(hour).map(|_| short.unwrap_or(0).saturating_add(hour.unwrap_or(0)));
    written = written.max(parts);
    if guessed {
        (input, output, read, written) = (None, None, None, None);
    }
    // A usage without token counts is none, but it may add to a known one.
    let is_any = known.is_some() || input.or(output).or(read).or(written).is_some();
    raise(&mut usage.output, output.map(|output| output.saturating_add(more.output)));
    restate(&mut usage.input, input, more.input);
    restate(&mut usage.cache_read, read, more.cache_read);
    if let Some(written) = written.filter(|written| *written > 0) {
        // Later events may repeat the total without its split: what was an hour's stays an hour's.
        usage.cache_write_1h = hour.unwrap_or(usage.cache_write_1h).min(written);
        usage.cache_write_5m = written - usage.cache_write_1h;
    }
    reading.usage = is_any.then_some(*usage);
    reading.usage_is_final = (output.is_some() || reading.usage_is_final) && usage.total_input() > 0;
}

/// Whether a `usage` object has any count; without one it says nothing.
pub(super) fn states_tokens(counts: Raw<'_>) -> bool {
    let names = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    counts.pick(names).into_iter().flatten().any(|count| billed(count.as_str()).is_some())
}

/// For counts that only increase.
fn raise(field: &mut u64, stated: Option<u64>) {
    *field = stated.unwrap_or_default().max(*field);
}

fn restate(field: &mut u64, stated: Option<u64>, more: u64) {
    if let Some(stated) = stated.map(|stated| stated.saturating_add(more)).filter(|stated| *stated > 0) {
        *field = stated;
    }
}

/// The tokens of compactions within a call, which the totals do not include. They are of the same model, at the same
/// price. Their cache writes are not counted, and neither is an advisor, which is another model; only soft budgets let
/// such calls through.
fn compactions(iterations: &str) -> Usage {
    let mut sum = Usage::default();
    for one in Raw::new(iterations).elements() {
        if one.member("type").and_then(Raw::text).is_some_and(|kind| kind.as_str() == "compaction") {
            let tokens = |name| one.member(name).and_then(|tokens| billed(tokens.as_str())).unwrap_or(0);
            sum.input = sum.input.saturating_add(tokens("input_tokens"));
            sum.output = sum.output.saturating_add(tokens("output_tokens"));
            sum.cache_read = sum.cache_read.saturating_add(tokens("cache_read_input_tokens"));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(start: &str, delta: &str) -> Usage {
        let mut reading = Reading::default();
        event(format!(r#"{{"type":"message_start","message":{{"usage":{start}}}}}"#).as_bytes(), None, &mut reading);
        event(format!(r#"{{"type":"message_delta","usage":{delta}}}"#).as_bytes(), None, &mut reading);
        assert!(reading.usage_is_final);
        reading.usage.expect("it was stated")
    }

    #[test]
    fn zeros_at_the_end_of_a_stream_take_nothing_back() {
        let start =
            r#"{"input_tokens":50000,"cache_read_input_tokens":10,"cache_creation_input_tokens":7,"output_tokens":1}"#;
        let all = Usage { input: 50_000, cache_read: 10, cache_write_5m: 7, output: 20, ..Usage::default() };
        for delta in [
            r#"{"output_tokens":20}"#,
            r#"{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":20}"#,
            r#"{"input_tokens":50000,"cache_read_input_tokens":10,"cache_creation_input_tokens":7,"output_tokens":20}"#,
        ] {
            assert_eq!(stream(start, delta), all, "{delta}");
        }
    }

    #[test]
    fn the_parts_of_a_cache_write_count_where_its_total_is_missing_or_less() {
        for (total, split, [short, long]) in [
            ("7", r#"{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}"#, [3, 4]),
            ("7", r#"{"ephemeral_1h_input_tokens":4}"#, [3, 4]),
            ("7", "null", [7, 0]),
            ("null", r#"{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}"#, [3, 4]),
            ("null", r#"{"ephemeral_1h_input_tokens":4}"#, [0, 4]),
            ("0", r#"{"ephemeral_5m_input_tokens":3}"#, [3, 0]),
            ("2", r#"{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}"#, [3, 4]),
        ] {
            let usage = format!(
                r#"{{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":{total},"cache_creation":{split}}}"#
            );
            for usage in
                [stream(&usage, r#"{"output_tokens":1}"#), stream(r#"{"input_tokens":1,"output_tokens":1}"#, &usage)]
            {
                assert_eq!([usage.cache_write_5m, usage.cache_write_1h], [short, long], "{total} {split}");
            }
        }
    }

    #[test]
    fn of_what_was_produced_nothing_is_taken_back() {
        let mut reading = Reading::default();
        event(
            br#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#,
            None,
            &mut reading,
        );
        for (delta, stopped) in [
            (
                r#"{"output_tokens":500,"output_tokens_details":{"thinking_tokens":40},"server_tool_use":{"web_search_requests":2}}"#,
                "null",
            ),
            (
                r#"{"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"server_tool_use":{"web_search_requests":0}}"#,
                r#""end_turn""#,
            ),
        ] {
            assert!(!reading.has_stopped);
            let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":{stopped}}},"usage":{delta}}}"#);
            event(delta.as_bytes(), None, &mut reading);
        }
        let all = Usage { input: 9, output: 500, reasoning: 40, web_searches: 2, ..Usage::default() };
        assert_eq!((reading.usage, reading.has_stopped), (Some(all), true));
    }

    #[test]
    fn what_a_gateway_has_guessed_at_the_beginning_is_no_usage() {
        let mut reading = Reading::default();
        let start =
            r#"{"type":"message_start","message":{"usage":{"estimated":true,"input_tokens":9,"output_tokens":0}}}"#;
        event(start.as_bytes(), None, &mut reading);
        assert!(reading.usage.is_none() && reading.is_open, "{reading:?}");
        event(br#"{"type":"message_delta","usage":{"input_tokens":0,"output_tokens":2}}"#, None, &mut reading);
        assert_eq!((reading.usage.map(|usage| usage.input), reading.usage_is_final), (Some(0), false));
    }

    #[test]
    fn a_compaction_is_counted_besides_the_whole_and_an_advisor_is_not() {
        let usage = r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[
            {"type":"compaction","input_tokens":180000,"output_tokens":3500,"cache_read_input_tokens":0},
            {"type":"message","input_tokens":23000,"output_tokens":1000},
            {"type":"advisor_message","model":"claude-opus-5-5","input_tokens":9,"output_tokens":9}]}"#;
        let all = Usage { input: 203_000, output: 4_500, ..Usage::default() };
        let whole = message(format!(r#"{{"type":"message","usage":{usage}}}"#).as_bytes());
        assert_eq!((whole.usage, whole.usage_is_final), (Some(all), true));
        assert_eq!(stream(r#"{"input_tokens":203000,"output_tokens":1}"#, usage), all);
    }
}
