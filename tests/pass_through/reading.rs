//! Reads usage independently of the gateway, with another parser.

use serde_json::Value;
use tollgate::Dialect;
use tollgate::domain::usage::Usage;

/// The data of each event of a stream.
fn events(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    let data = text.split("\n\n").map(|block| {
        let lines = block.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    });
    data.filter_map(|data| serde_json::from_str(&data).ok()).collect()
}

/// Returns the usage that an answer states.
pub(crate) fn usage(dialect: Dialect, body: &[u8], is_stream: bool) -> Option<Usage> {
    let answers = if is_stream { events(body) } else { serde_json::from_slice(body).into_iter().collect() };
    match dialect {
        Dialect::Anthropic => anthropic(&answers),
        _ => answers.iter().rfind(|answer| answer["usage"].is_object()).map(|a| openai(&a["usage"])),
    }
}

/// Returns the model that an answer names.
pub(crate) fn model(dialect: Dialect, body: &[u8], is_stream: bool) -> Option<String> {
    let answers = if is_stream { events(body) } else { serde_json::from_slice(body).into_iter().collect() };
    let pointer = if dialect == Dialect::Anthropic && is_stream { "/message/model" } else { "/model" };
    answers.iter().find_map(|answer| answer.pointer(pointer)?.as_str()).map(str::to_owned)
}

/// Takes the latest value of each field, since the figures are cumulative.
fn anthropic(answers: &[Value]) -> Option<Usage> {
    let stated: Vec<&Value> = answers
        .iter()
        .map(|answer| if answer["type"] == "message_start" { &answer["message"]["usage"] } else { &answer["usage"] })
        .filter(|usage| usage.is_object())
        .collect();
    if stated.is_empty() {
        return None;
    }
    let latest = |pointer: &str| stated.iter().rev().find_map(|usage| usage.pointer(pointer)?.as_u64()).unwrap_or(0);
    let written = latest("/cache_creation_input_tokens");
    let hour = latest("/cache_creation/ephemeral_1h_input_tokens").min(written);
    Some(Usage {
        input: latest("/input_tokens"),
        output: latest("/output_tokens"),
        cache_read: latest("/cache_read_input_tokens"),
        cache_write_5m: written - hour,
        cache_write_1h: hour,
        reasoning: latest("/output_tokens_details/thinking_tokens"),
        web_searches: latest("/server_tool_use/web_search_requests"),
        web_fetches: latest("/server_tool_use/web_fetch_requests"),
        ..Usage::default()
    })
}

fn openai(usage: &Value) -> Usage {
    let figure = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
    let prompt = figure("/prompt_tokens").unwrap_or(0);
    let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| figure(pointer));
    let read = first(&["/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens", "/cached_tokens"]);
    let written = first(&[
        "/prompt_tokens_details/cache_write_tokens",
        "/prompt_tokens_details/cache_creation_input_tokens",
        "/cache_creation_input_tokens",
    ]);
    let (read, written) = (read.unwrap_or(0), written.unwrap_or(0));
    // Some servers count reasoning only in the total, not in the completion.
    let beyond_prompt = figure("/total_tokens").unwrap_or(0).saturating_sub(prompt);
    Usage {
        input: prompt.saturating_sub(read + written),
        output: figure("/completion_tokens").unwrap_or(0).max(beyond_prompt),
        cache_read: read,
        cache_write_5m: written,
        reasoning: figure("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
        ..Usage::default()
    }
}

/// Removes the chunks that are there only for usage, independently of the gateway's scanner.
pub(crate) fn without_usage(body: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 2);
        let (block, after) = rest.split_at(end);
        let is_usage = events(block)
            .iter()
            .any(|chunk| chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty));
        if !is_usage {
            kept.extend_from_slice(block);
        }
        rest = after;
    }
    kept
}
