//! Why an answer ended, as servers call it.

use crate::dialect::canon::event::StopReason;

/// OpenAI's names, and what others say of a limit that is reached and of content that is kept back: Z.ai, Mistral, and those
/// that hand on Gemini's. They differ in their case.
const REASONS: [(&str, StopReason); 15] = [
    ("stop", StopReason::EndTurn),
    ("tool_calls", StopReason::ToolUse),
    ("function_call", StopReason::ToolUse),
    ("length", StopReason::MaxTokens),
    ("max_tokens", StopReason::MaxTokens),
    ("model_length", StopReason::ContextWindow),
    ("model_context_window_exceeded", StopReason::ContextWindow),
    // Whatever it goes on with.
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

/// Names for an answer that did not end, but failed.
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
