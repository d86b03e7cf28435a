//! An answer, event by event. A whole answer is the same events all at once.

use crate::domain::usage::Usage;
use crate::wire::json::{Escaped, Raw};

/// What a reader tells a writer. Blocks never overlap: a reader closes one before it opens the next.
///
/// The order is `Start`, then blocks (`Open`, content, `Close`), then `Stop`, then `End`. `Usage` may come anywhere
/// after `Start`, and the latest counts. `Ping` may come anywhere. A reader that gives up returns a
/// [`Fault`](super::fault::Fault) instead.
#[derive(Debug, Clone)]
pub(crate) enum Event<'a> {
    /// Once, before all else.
    Start {
        /// The provider's id of the answer; empty where it has none.
        id: Escaped<'a>,
    },
    Open(Open<'a>),
    /// A piece of a text block.
    Text(Escaped<'a>),
    /// A piece of a thinking block.
    Thinking(Escaped<'a>),
    /// The signature of a thinking block.
    Signature(Escaped<'a>),
    /// A piece of a tool's input: of the text of a JSON object, escaped like in a JSON string.
    Arguments(Escaped<'a>),
    /// A source of the open text block, in Anthropic's format (`web_search_result_location`, …).
    Citation(Raw<'a>),
    Close,
    /// The usage so far; replaces earlier figures.
    Usage(UsageNews),
    Stop(Stop<'a>),
    /// The upstream is alive.
    Ping,
    /// The answer is whole.
    End,
}

impl Event<'_> {
    /// About how much of it a writer may keep until the end. Text is written as it comes.
    pub(crate) fn size(&self) -> usize {
        // The size of an entry in a list.
        const PLACE: usize = 128;
        match self {
            Event::Thinking(piece) | Event::Signature(piece) | Event::Arguments(piece) => piece.as_str().len(),
            Event::Citation(raw) => PLACE + raw.as_str().len(),
            Event::Open(Open::Tool { id, name, .. }) => PLACE + id.as_str().len() + name.as_str().len(),
            Event::Open(Open::RedactedThinking { data }) => PLACE + data.as_str().len(),
            Event::Open(_) => PLACE,
            _ => 0,
        }
    }
}

/// What a block is, at its beginning.
#[derive(Debug, Clone)]
pub(crate) enum Open<'a> {
    Text,
    Thinking,
    RedactedThinking {
        data: Escaped<'a>,
    },
    Tool {
        id: Escaped<'a>,
        name: Escaped<'a>,
        /// The client knows it as a tool with text input; here that is the member `input` of an object.
        takes_text: bool,
    },
    /// A block that only Anthropic's API has (`server_tool_use`, `web_search_tool_result`, …), complete as far as the
    /// start event has it.
    Foreign {
        raw: Raw<'a>,
    },
}

/// Usage figures, and which of them were stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UsageNews {
    pub(crate) usage: Usage,
    /// Whether cache writes were stated; 0 otherwise.
    pub(crate) states_cache_write: bool,
    /// Whether reasoning was stated.
    pub(crate) states_reasoning: bool,
    /// The service tier of the answer, if known.
    pub(crate) tier: Option<ServedTier>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServedTier {
    /// The default tier, or a lower one.
    Default,
    Priority,
}

impl UsageNews {
    /// Adds two parts of one answer.
    pub(crate) fn plus(self, other: Self) -> Self {
        UsageNews {
            usage: self.usage.plus(other.usage),
            states_cache_write: self.states_cache_write || other.states_cache_write,
            states_reasoning: self.states_reasoning || other.states_reasoning,
            tier: other.tier.or(self.tier),
        }
    }
}

/// Why the answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop<'a> {
    pub(crate) reason: StopReason,
    /// The sequence that ended it.
    pub(crate) sequence: Option<Escaped<'a>>,
    /// The explanation that comes with a refusal.
    pub(crate) explanation: Option<Escaped<'a>>,
    /// Anthropic's `stop_details`, as it is spelled.
    pub(crate) details: Option<Raw<'a>>,
}

impl Stop<'_> {
    /// The text of a refusal.
    pub(crate) fn refusal(&self) -> Option<&Escaped<'_>> {
        self.explanation.as_ref().filter(|_| self.reason == StopReason::Refusal)
    }
}

impl From<StopReason> for Stop<'_> {
    fn from(reason: StopReason) -> Self {
        Stop { reason, sequence: None, explanation: None, details: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    EndTurn,
    StopSequence,
    ToolUse,
    MaxTokens,
    ContextWindow,
    Refusal,
    /// The provider has not finished, and wants to be asked to continue.
    Pause,
    Compaction,
    /// No reason, or an unknown one.
    Unknown,
}

impl StopReason {
    /// Anthropic's names; no other dialect distinguishes all of them.
    const NAMES: [(&str, StopReason); 8] = [
        ("end_turn", StopReason::EndTurn),
        ("stop_sequence", StopReason::StopSequence),
        ("tool_use", StopReason::ToolUse),
        ("max_tokens", StopReason::MaxTokens),
        ("model_context_window_exceeded", StopReason::ContextWindow),
        ("refusal", StopReason::Refusal),
        ("pause_turn", StopReason::Pause),
        ("compaction", StopReason::Compaction),
    ];

    pub(crate) fn named(name: &str) -> Self {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map_or(StopReason::Unknown, |(_, reason)| *reason)
    }

    /// `None` for the unknown.
    pub(crate) fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(_, known)| *known == self).map(|(name, _)| *name)
    }
}

/// The end of an answer, which outlives the event that stated it.
pub(crate) struct Ended {
    reason: StopReason,
    sequence: Option<Escaped<'static>>,
    explanation: Option<Escaped<'static>>,
    details: Option<String>,
}

impl Ended {
    pub(crate) fn of(stop: Stop<'_>) -> Self {
        Ended {
            reason: stop.reason,
            sequence: stop.sequence.map(Escaped::into_owned),
            explanation: stop.explanation.map(Escaped::into_owned),
            details: stop.details.map(|details| details.as_str().to_owned()),
        }
    }

    pub(crate) fn stop(&self) -> Stop<'_> {
        Stop {
            reason: self.reason,
            sequence: self.sequence.as_ref().map(Escaped::by_ref),
            explanation: self.explanation.as_ref().map(Escaped::by_ref),
            details: self.details.as_deref().map(Raw::new),
        }
    }
}

/// Where a reader puts its events.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(Event<'_>);
