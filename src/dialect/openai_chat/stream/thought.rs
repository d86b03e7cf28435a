//! Thinking as proxies say it besides its text alone: in blocks, with who signed it.

use crate::dialect::canon::event::{Event, Open, Sink};
use crate::wire::json::{Escaped, Raw};

/// A block of it, or a piece of one.
pub(super) struct Thought<'a> {
    /// The name of what it stands in.
    pub(super) source: &'static str,
    pub(super) text: Option<Raw<'a>>,
    pub(super) signature: Option<Escaped<'a>>,
    /// In the place of both, where nobody may read it.
    pub(super) data: Option<Escaped<'a>>,
}

impl<'a> Thought<'a> {
    /// One of `thinking_blocks`, of proxies in front of Claude: as Anthropic has it.
    pub(super) fn block(raw: Raw<'a>) -> Self {
        let [text, signature, data] = raw.pick(["thinking", "signature", "data"]);
        let (signature, data) = (signature.and_then(Raw::text), data.and_then(Raw::text));
        Thought { source: "thinking_blocks", text, signature, data }
    }

    /// One of OpenRouter's `reasoning_details`, of whichever provider. What another than Anthropic has signed or sealed, no
    /// client of Anthropic's could send back to it.
    pub(super) fn detail(raw: Raw<'a>) -> Self {
        let [text, signature, data, format] = raw.pick(["text", "signature", "data", "format"]);
        let format = format.and_then(Raw::text);
        let format = format.as_ref().map(Escaped::as_str);
        let is_anthropics = format.is_some_and(|format| format.starts_with("anthropic"));
        let is_anybodys = matches!(format, None | Some("unknown"));
        Thought {
            source: "reasoning_details",
            text,
            signature: signature.and_then(Raw::text).filter(|_| is_anthropics || is_anybodys),
            data: data.and_then(Raw::text).filter(|_| is_anthropics),
        }
    }

    /// All of a block at once.
    pub(super) fn give(self, sink: Sink<'_>) {
        if let Some(data) = self.data {
            sink(Event::Open(Open::RedactedThinking { data }));
        } else {
            sink(Event::Open(Open::Thinking));
            self.text.and_then(Raw::text).into_iter().for_each(|text| sink(Event::Thinking(text)));
            self.signature.into_iter().for_each(|signature| sink(Event::Signature(signature)));
        }
        sink(Event::Close);
    }
}
