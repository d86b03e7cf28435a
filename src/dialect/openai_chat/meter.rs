use crate::dialect::marks::{ERROR, USAGE};
use crate::dialect::members::{billed, detail, is_object, members, model, text};
use crate::dialect::meter::Reading;
use crate::domain::usage::{Served, Usage};
use crate::wire::json::Raw;

/// Reads one chunk of a Chat Completions stream. Only the last has usage; some servers send `"usage":null` in the
/// others.
///
/// Returns whether the chunk carries only usage: it has counts, but no choices. Such a chunk is withheld from a client
/// that did not ask for it.
pub(crate) fn chunk(data: &[u8], reading: &mut Reading) -> bool {
    (states_usage(data) || ERROR.is_in(data)) && read(data, reading) == Read { whole: true, usage_alone: true }
}

/// A whole completion.
pub(crate) fn completion(json: &[u8]) -> Reading {
    let mut reading = Reading::default();
    reading.ended = read(json, &mut reading).whole;
    reading
}

/// Whether an answer is only an error: it has no choice and no usage, not even an empty one. Some proxies answer like
/// this, with a 200, if nobody served the request.
pub(crate) fn is_error_alone(json: &[u8]) -> bool {
    let (mut has_error, mut has_more) = (false, false);
    let whole = members(json, |key, value| match key {
        "error" => has_error = is_object(value),
        "choices" => has_more |= value != "null" && !is_empty_array(value),
        "usage" => has_more |= value != "null",
        _ => {}
    });
    whole && has_error && !has_more
}

/// Whether any member of this name is more than `null`, which a server that was asked for usage sends in every chunk.
fn states_usage(data: &[u8]) -> bool {
    let mut found = USAGE.after(data);
    while let Some(rest) = found {
        if !rest.starts_with(b":null") {
            return true;
        }
        found = USAGE.after(rest);
    }
    false
}

fn is_empty_array(raw: &str) -> bool {
    raw.strip_prefix('[').and_then(|r| r.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}

/// The nature of a completion or a chunk.
#[derive(PartialEq, Eq)]
struct Read {
    whole: bool,
    usage_alone: bool,
}

fn read(json: &[u8], reading: &mut Reading) -> Read {
    let (mut usage, mut failed, mut choices, mut named) = (None, false, "", None);
    let (mut served, mut has_usage) = (Served::default(), false);
    let whole = members(json, |key, value| match key {
        "usage" if is_object(value) => {
            has_usage = true;
            usage = Some(counts(value)).filter(|counts| counts.is_any);
        }
        "model" => named = model(value),
        "choices" => choices = value,
        "service_tier" => match text(value).as_deref() {
            Some("priority" | "fast") => served.fast = Some(true),
            Some("ultrafast") => served.ultrafast = true,
            Some("flex") => served.flex = true,
            Some("default") => served.fast = Some(false),
            _ => {}
        },
        "error" => failed = !matches!(value, "null" | "false"),
        _ => {}
    });
    let usage_alone = has_usage && is_empty_array(choices);
    // Kimi's place for it, in the last chunk of a stream.
    if let Some(counts) = usage.or_else(|| in_choices(choices)) {
        // Some servers state it as they go; output counts never decrease.
        let before = reading.usage.unwrap_or_default();
        let (output, reasoning) =
            (counts.usage.output.max(before.output), counts.usage.reasoning.max(before.reasoning));
        reading.usage = Some(Usage { served, output, reasoning, ..counts.usage });
        reading.usage_is_final = counts.is_final;
        reading.has_stopped |= usage_alone || matches!(choices, "" | "null") || has_stopped(choices);
    }
    reading.failed |= failed;
    reading.model = named.or(reading.model);
    Read { whole, usage_alone }
}

/// Whether one of the choices has a finish reason.
fn has_stopped(choices: &str) -> bool {
    let reasons = Raw::new(choices).elements().filter_map(|choice| choice.member("finish_reason"));
    reasons.into_iter().any(|reason| reason.text().is_some_and(|reason| !reason.is_empty()))
}

fn in_choices(choices: &str) -> Option<Counts> {
    let stated = Raw::new(choices).elements().filter_map(|choice| choice.member("usage"));
    stated.filter(|usage| usage.is_object()).map(|usage| counts(usage.as_str())).filter(|counts| counts.is_any).last()
}

/// The counts of a `usage` object.
pub(crate) struct Counts {
    pub(crate) usage: Usage,
    /// Whether it states input or output. Otherwise it is not a usage.
    pub(crate) is_any: bool,
    /// Whether it states both input and output.
    is_final: bool,
    pub(crate) states_cache_write: bool,
    pub(crate) states_reasoning: bool,
}

pub(crate) fn counts(object: &str) -> Counts {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    let (mut cached, mut hit, mut top) = (None, None, None);
    let (mut written, mut created, mut reasoning) = (None, None, None);
    let (mut hour, mut searches, mut fetches) = (None, None, None);
    members(object.as_bytes(), |key, value| match key {
        "prompt_tokens" => prompt = billed(value),
        "completion_tokens" => completion = billed(value),
        "total_tokens" => total = billed(value),
        // DeepSeek's name for `cached_tokens`.
        "prompt_cache_hit_tokens" => hit = billed(value),
        // Kimi's place for them.
        "cached_tokens" => top = billed(value),
        // Sent by proxies in front of Claude.
        "cache_creation_input_tokens" => created = billed(value),
        "cache_creation" => hour = detail(value, "ephemeral_1h_input_tokens"),
        "server_tool_use" => {
            searches = detail(value, "web_search_requests");
            fetches = detail(value, "web_fetch_requests");
        }
        "prompt_tokens_details" => {
            members(value.as_bytes(), |key, value| match key {
                "cached_tokens" => cached = billed(value),
                "cache_write_tokens" => written = billed(value),
                // DashScope's name for them.
                "cache_creation_input_tokens" => created = billed(value).or(created),
                _ => {}
            });
        }
        "completion_tokens_details" => reasoning = detail(value, "reasoning_tokens"),
        _ => {}
    });
    // Some servers send zeros for what they have not counted, and a prompt is never empty.
    let is_final = prompt.is_some_and(|tokens| tokens > 0) && (completion.is_some() || total.is_some());
    let is_any = prompt.or(completion).or(total).is_some();
    let (states_cache_write, states_reasoning) = (written.or(created).is_some(), reasoning.is_some());
    let [prompt, completion, total] = [prompt, completion, total].map(|count| count.unwrap_or(0));
    let cache_read = cached.or(hit).or(top).unwrap_or(0);
    let cache_write = written.or(created).unwrap_or(0);
    let cache_write_1h = hour.unwrap_or(0).min(cache_write);
    let usage = Usage {
        // `prompt_tokens` includes both cached classes.
        input: u64::saturating_sub(prompt, cache_read).saturating_sub(cache_write),
        cache_read,
        cache_write_5m: cache_write - cache_write_1h,
        cache_write_1h,
        // Some servers leave reasoning out of `completion_tokens`; then only the total includes it.
        output: u64::max(completion, u64::saturating_sub(total, prompt)),
        reasoning: reasoning.unwrap_or(0),
        web_searches: searches.unwrap_or(0),
        web_fetches: fetches.unwrap_or(0),
        ..Usage::default()
    };
    Counts { usage, is_any, is_final, states_cache_write, states_reasoning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cached_is_counted_apart_wherever_a_server_states_it() {
        for (stated, expected) in [
            (r#""cached_tokens":6"#, (4, 6, 0)),
            (r#""cached_tokens":6,"prompt_tokens_details":{"cached_tokens":7}"#, (3, 7, 0)),
            (r#""cached_tokens":6,"prompt_cache_hit_tokens":5"#, (5, 5, 0)),
            (r#""prompt_tokens_details":{"cached_tokens":1,"cache_creation_input_tokens":6}"#, (3, 1, 6)),
            (r#""prompt_tokens_details":{"cache_creation_input_tokens":6,"cache_write_tokens":5}"#, (5, 0, 5)),
            (r#""cache_creation_input_tokens":4,"prompt_tokens_details":{}"#, (6, 0, 4)),
        ] {
            let counts = counts(&format!(r#"{{"prompt_tokens":10,"completion_tokens":1,{stated}}}"#));
            let usage = counts.usage;
            assert_eq!((usage.input, usage.cache_read, usage.cache_write_5m), expected, "{stated}");
            assert_eq!(counts.states_cache_write, expected.2 > 0, "{stated}");
        }
    }

    #[test]
    fn a_count_that_cannot_be_is_none() {
        for (tokens, is_final) in
            [("100000000", true), ("100000001", false), ("18446744073709551615", false), ("-1", false)]
        {
            let said = format!(r#"{{"choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":{tokens}}}}}"#);
            let reading = completion(said.as_bytes());
            assert_eq!(reading.usage_is_final, is_final, "{said}");
            assert!(
                reading.usage.is_some_and(|usage| usage.total_input() == 1 && usage.output <= 100_000_000),
                "{said}"
            );
            let said = format!(r#"{{"usage":{{"input_tokens":1,"output_tokens":{tokens}}}}}"#);
            let reading = crate::dialect::anthropic::meter::message(said.as_bytes());
            assert_eq!(reading.usage_is_final, is_final, "{said}");
        }
        // Whichever it is.
        let said = |usage: &str| format!(r#"{{"choices":[],"usage":{{{usage}}}}}"#).replace('T', "100000001");
        for usage in [
            r#""prompt_tokens":T,"completion_tokens":1"#,
            r#""prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":T}"#,
        ] {
            let usage = completion(said(usage).as_bytes()).usage.unwrap_or_default();
            assert!(usage.total_input() < 100, "{usage:?}");
        }
        for usage in [
            r#""input_tokens":T,"output_tokens":1"#,
            r#""input_tokens":1,"output_tokens":1,"cache_read_input_tokens":T"#,
            r#""input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":T"#,
            r#""input_tokens":1,"output_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":T}"#,
            r#""input_tokens":1,"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":T,"output_tokens":T}]"#,
        ] {
            let usage = crate::dialect::anthropic::meter::message(said(usage).as_bytes()).usage.unwrap_or_default();
            assert!(usage.total_input() < 100 && usage.output < 100, "{usage:?}");
        }
    }

    #[test]
    fn a_whole_number_counts_however_it_is_spelled_and_usage_without_a_count_is_none() {
        for (thousand, counts) in [
            ("1000", true),
            ("1000.0", true),
            ("1e3", true),
            ("1.0E+3", true),
            ("100000e-2", true),
            ("1000.5", false),
            ("-1e3", false),
            ("1e300", false),
            ("1e999", false),
            ("NaN", false),
            ("inf", false),
            (r#""1000""#, false),
        ] {
            let said = format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{thousand},"completion_tokens":3}}}}"#);
            let usage = completion(said.as_bytes()).usage.unwrap_or_default();
            assert_eq!(usage.input, if counts { 1_000 } else { 0 }, "{thousand}");
            let said = format!(r#"{{"usage":{{"input_tokens":{thousand},"output_tokens":3}}}}"#);
            let usage = crate::dialect::anthropic::meter::message(said.as_bytes()).usage.unwrap_or_default();
            assert_eq!(usage.input, if counts { 1_000 } else { 0 }, "{thousand}");
        }
        for usage in ["{}", r#"{"prompt_tokens":null}"#, r#"{"cost":0.1,"prompt_tokens_details":{}}"#] {
            assert_eq!(counted(&format!(r#"{{"choices":[],"usage":{usage}}}"#)), (true, None), "{usage}");
            let said = format!(r#"{{"type":"message","usage":{usage}}}"#);
            assert_eq!(crate::dialect::anthropic::meter::message(said.as_bytes()).usage, None, "{usage}");
        }
    }

    fn counted(json: &str) -> (bool, Option<(u64, u64)>) {
        let mut reading = Reading::default();
        let is_alone = chunk(json.as_bytes(), &mut reading);
        (is_alone, reading.usage.map(|usage| (usage.input, usage.output)))
    }

    #[test]
    fn usage_within_a_choice_counts_where_the_whole_states_none_and_is_never_all_of_a_chunk() {
        const USAGE: &str = r#""usage":{"prompt_tokens":9,"completion_tokens":3}"#;
        for choices in [format!(r#"[{{"index":0,{USAGE}}}]"#), format!(r#"[{{"usage":null}},{{{USAGE}}}]"#)] {
            assert_eq!(counted(&format!(r#"{{"choices":{choices}}}"#)), (false, Some((9, 3))), "{choices}");
            let null = format!(r#"{{"usage":null,"choices":{choices}}}"#);
            assert_eq!(counted(&null), (false, Some((9, 3))), "{choices}");
            let both = format!(r#"{{"choices":{choices},"usage":{{"prompt_tokens":7,"completion_tokens":1}}}}"#);
            assert_eq!(counted(&both), (false, Some((7, 1))), "{choices}");
            let usage = completion(format!(r#"{{"choices":{choices}}}"#).as_bytes()).usage;
            assert_eq!(usage.map(|usage| usage.output), Some(3));
        }
        assert_eq!(counted(&format!(r#"{{"choices":[],{USAGE}}}"#)), (true, Some((9, 3))));
        assert_eq!(counted(r#"{"choices":[{"usage":null},{"usage":3}]}"#), (false, None));
    }
}
