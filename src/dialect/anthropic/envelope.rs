//! What surrounds the content of an answer: its id, the stop reason, and the usage.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::dialect::canon::event::{ServedTier, Stop, StopReason, UsageNews};
use crate::dialect::canon::name::base62;
use crate::dialect::canon::on_one_line;
use crate::wire::json::Escaped;

/// An id in Anthropic's form, always the same for the same answer.
pub(super) fn message_id(id: &Escaped<'_>, request_id: &str) -> String {
    if id.as_str().starts_with("msg_") {
        return id.as_str().to_owned();
    }
    if id.is_empty() {
        return format!("msg_{}", base62(&Sha256::digest(request_id), 24));
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("msg_{}", id.decoded().chars().map(plain).collect::<String>())
}

/// Clients run tools by the stop reason alone, so it is `tool_use` if and only if there is a tool to run. An answer
/// that was cut off or refused keeps its own reason.
pub(super) fn stop_delta(stop: &Stop<'_>, has_tool: bool) -> String {
    let reason = match stop.reason {
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Unknown if has_tool => StopReason::ToolUse,
        StopReason::ToolUse | StopReason::Unknown => StopReason::EndTurn,
        reason => reason,
    };
    let name = reason.name().unwrap_or("end_turn");
    let mut delta = format!(r#"{{"stop_reason":"{name}","stop_sequence":{}"#, quoted(stop.sequence.as_ref()));
    if let Some(details) = stop.details {
        delta.extend([r#","stop_details":"#, &on_one_line(details)]);
    } else if reason == StopReason::Refusal {
        let explanation = quoted(stop.explanation.as_ref());
        let details = r#","stop_details":{"type":"refusal","category":null,"explanation":"#;
        delta.extend([details, &explanation, "}"]);
    }
    delta.push('}');
    delta
}

fn quoted(text: Option<&Escaped<'_>>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("\"{}\"", text.as_str()))
}

/// The usage as Anthropic counts it: input without cached tokens.
pub(super) fn usage(news: &UsageNews) -> String {
    let counts = &news.usage;
    let (short, long) = (counts.cache_write_5m, counts.cache_write_1h);
    let mut usage = format!(
        r#"{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"output_tokens":{}"#,
        counts.input,
        short.saturating_add(long),
        counts.cache_read,
        counts.output
    );
    if news.states_reasoning {
        let _ = write!(usage, r#","output_tokens_details":{{"thinking_tokens":{}}}"#, counts.reasoning);
    }
    if news.states_cache_write {
        let split = r#","cache_creation":{"ephemeral_5m_input_tokens":"#;
        let _ = write!(usage, r#"{split}{short},"ephemeral_1h_input_tokens":{long}}}"#);
    }
    if counts.web_searches > 0 || counts.web_fetches > 0 {
        let (searches, fetches) = (counts.web_searches, counts.web_fetches);
        let ran = r#","server_tool_use":{"web_search_requests":"#;
        let _ = write!(usage, r#"{ran}{searches},"web_fetch_requests":{fetches}}}"#);
    }
    let tier = if news.tier == Some(ServedTier::Priority) { "priority" } else { "standard" };
    let _ = write!(usage, r#","service_tier":"{tier}"}}"#);
    usage
}
