//! The names of finish reasons.

use crate::dialect::canon::event::StopReason;

/// OpenAI's names, and those of other servers for a limit that is reached or content that is withheld: Z.ai, Mistral,
/// and proxies for Gemini. They differ in case.
const REASONS: [(&str, StopReason); 15] = [
    ("stop", StopReason::EndTurn),
    ("tool_calls", StopReason::ToolUse),
    ("function_call", StopReason::ToolUse),
    ("length", StopReason::MaxTokens),
    ("max_tokens", StopReason::MaxTokens),
    ("model_length", StopReason::ContextWindow),
    ("model_context_window_exceeded", StopReason::ContextWindow),
    // With any suffix.
    (FILTERED, StopReason::Refusal),
    ("sensitive", StopReason::Refusal),
    ("refusal", StopReason::Refusal),
    ("safety", StopReason::Refusal),
    ("recitation", StopReason::Refusal),
    ("blocklist", StopReason::Refusal),
    ("prohibited_content", StopReason::Refusal),
    ("spii", StopReason::Refusal),
];

const FILTERED: &str = "content_filter";

/// Names for an answer that failed.
const FAILURES: [&str; 4] = ["error", "insufficient_system_resource", "network_error", "abort"];

/// Why an answer ended; `None` where it failed.
pub(super) fn reason(name: &str) -> Option<StopReason> {
    if FAILURES.iter().any(|failure| failure.eq_ignore_ascii_case(name)) {
        return None;
    }
    let name = name.get(..FILTERED.len()).filter(|front| front.eq_ignore_ascii_case(FILTERED)).unwrap_or(name);
    let known = REASONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    Some(known.map_or(StopReason::Unknown, |(_, reason)| *reason))
}
