//! Messages streams, read and written.

mod content;
mod read;
mod write;

pub(crate) use self::content::Content;
pub(crate) use self::read::Reader;
pub(crate) use self::write::Writer;

use crate::dialect::canon::event::{Stop, StopReason};
use crate::wire::json::{Escaped, Raw};

/// What Anthropic calls the reasons, both ways.
pub(super) const REASONS: [(&str, StopReason); 8] = [
    ("end_turn", StopReason::EndTurn),
    ("stop_sequence", StopReason::StopSequence),
    ("tool_use", StopReason::ToolUse),
    ("max_tokens", StopReason::MaxTokens),
    ("model_context_window_exceeded", StopReason::ContextWindow),
    ("refusal", StopReason::Refusal),
    ("pause_turn", StopReason::Pause),
    ("compaction", StopReason::Compaction),
];

/// The block that is open, as far as its deltas depend on it.
enum Kind {
    Text,
    Thinking {
        signed: bool,
    },
    Tool {
        /// The start event's input, given only if no delta gives one: both together would be no JSON.
        input: Option<String>,
    },
    /// One that is whole as it was opened.
    Opaque,
}

/// The end of an answer, outliving the event that told of it.
pub(super) struct Ended {
    reason: StopReason,
    sequence: Option<Escaped<'static>>,
    explanation: Option<Escaped<'static>>,
    details: Option<String>,
}

impl Ended {
    pub(super) fn of(stop: Stop<'_>) -> Self {
        Ended {
            reason: stop.reason,
            sequence: stop.sequence.map(Escaped::into_owned),
            explanation: stop.explanation.map(Escaped::into_owned),
            details: stop.details.map(|details| details.as_str().to_owned()),
        }
    }

    pub(super) fn stop(&self) -> Stop<'_> {
        Stop {
            reason: self.reason,
            sequence: self.sequence.as_ref().map(Escaped::by_ref),
            explanation: self.explanation.as_ref().map(Escaped::by_ref),
            details: self.details.as_deref().map(Raw::new),
        }
    }
}
