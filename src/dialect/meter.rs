//! Reads usage from answers, without decoding the parts that have none.
//!
//! Use it to account for a stream that does not pass through [`MeterLayer`](crate::meter::MeterLayer). Each count is
//! the provider's latest value, field by field, never a sum: Anthropic repeats cumulative figures in every
//! `message_delta`. Output counts never decrease.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::dialect::meter::StreamMeter;
//! use tollgate::wire::sse::Scanner;
//!
//! let stream = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
//! let mut meter = StreamMeter::new(Dialect::OpenAiChat);
//! Scanner::new().push(stream, |block| meter.block(&block))?;
//! let reading = meter.reading();
//! assert_eq!(reading.usage.map(|u| (u.input, u.output)), Some((9, 3)));
//! assert!(reading.ended);
//! # Ok::<(), tollgate::wire::sse::EventTooLarge>(())
//! ```

use std::fmt;
use std::sync::Arc;

use super::members::error_name;
use super::{anthropic, openai_chat};
use crate::domain::dialect::Dialect;
use crate::domain::short::shortened;
use crate::domain::usage::Usage;
use crate::wire::sse::Block;

/// What an answer has stated so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// The latest usage, if any was stated.
    pub usage: Option<Usage>,
    /// Whether that usage covers all input and output, and is not only the figures with which a stream begins.
    pub usage_is_final: bool,
    /// Whether the dialect's end marker came: `message_stop`, `[DONE]`, or a JSON answer that parses.
    pub ended: bool,
    /// Whether the provider reported a failure within the answer.
    pub failed: bool,
    /// A `message_start` came, and no `message_delta` after it.
    pub(crate) is_open: bool,
    /// The usage came with a stop reason, or alone: it is not one of the interim figures of some servers.
    pub(crate) has_stopped: bool,
    /// The number of events, if it is a stream.
    pub events: u64,
    /// The model that the answer names.
    pub model: Option<ModelName>,
}

/// The longest model name that is kept, in bytes. Names that are addresses, such as Bedrock's, have some hundred.
const NAME: usize = 127;

/// The model name in an answer; 127 bytes are kept. It is read for every call, so it is not on the heap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ModelName {
    len: u8,
    text: [u8; NAME],
}

impl ModelName {
    pub(crate) fn new(name: &str) -> Option<Self> {
        let (name, mut text) = (shortened(name, NAME), [0; NAME]);
        text.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        u8::try_from(name.len()).ok().filter(|len| *len > 0).map(|len| ModelName { len, text })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Reads the events of one stream.
#[derive(Debug)]
pub struct StreamMeter {
    dialect: Dialect,
    reading: Reading,
    error: Option<Arc<str>>,
}

impl StreamMeter {
    /// A meter for a stream of `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        StreamMeter { dialect, reading: Reading::default(), error: None }
    }

    /// Reads one block. Only blocks that can carry usage or an end are parsed.
    #[inline]
    pub fn block(&mut self, block: &Block<'_>) {
        self.look(block);
    }

    /// The same as [`block`](Self::block). Returns whether the block is a chunk that carries only usage.
    #[inline]
    pub(crate) fn look(&mut self, block: &Block<'_>) -> bool {
        let Some(data) = block.data() else { return false };
        self.reading.events += 1;
        let had_failed = self.reading.failed;
        let is_usage_chunk = match self.dialect {
            Dialect::Anthropic => {
                anthropic::meter::event(data, block.event(), &mut self.reading);
                false
            }
            _ if block.is_done() => {
                self.reading.ended = true;
                false
            }
            _ => openai_chat::meter::chunk(data, &mut self.reading),
        };
        if self.reading.failed && !had_failed {
            self.error = error_name(data);
        }
        is_usage_chunk
    }

    /// The provider's name for the error that it reported.
    pub(crate) fn error(&self) -> Option<Arc<str>> {
        self.error.clone()
    }

    /// What the stream has stated so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading
    }
}

/// Reads a whole JSON answer.
#[must_use]
pub fn answer(dialect: Dialect, json: &[u8]) -> Reading {
    match dialect {
        Dialect::Anthropic => anthropic::meter::message(json),
        _ => openai_chat::meter::completion(json),
    }
}

/// Whether a whole JSON answer, whatever its status, is only an error. Anthropic's errors have a status of their own.
pub(crate) fn is_error_alone(dialect: Dialect, json: &[u8]) -> bool {
    dialect == Dialect::OpenAiChat && openai_chat::meter::is_error_alone(json)
}

/// Whether the data of a Chat Completions chunk carries only usage.
pub(crate) fn is_usage_chunk(data: &[u8]) -> bool {
    openai_chat::meter::chunk(data, &mut Reading::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_an_answer_calls_its_model_an_address_is_kept_whole_and_whatever_is_longer_is_cut() {
        let said = |name: &str| {
            let json = serde_json::json!({ "model": name, "usage": { "prompt_tokens": 9, "completion_tokens": 3 } });
            answer(Dialect::OpenAiChat, json.to_string().as_bytes()).model.map(|model| model.as_str().to_owned())
        };
        let arn =
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
        assert_eq!(said(arn).as_deref(), Some(arn));
        assert_eq!(said(&"a".repeat(127)), Some("a".repeat(127)));
        assert_eq!(said(&"é".repeat(64_000)), Some(format!("{}…", "é".repeat(62))));
        assert_eq!(said(""), None);
    }
}
