//! Thinking as proxies send it beside its plain text: in blocks with signatures.

use crate::dialect::canon::event::{Event, Open, Sink};
use crate::wire::json::{Escaped, Raw};

/// A block, or a piece of one.
pub(super) struct Thought<'a> {
    /// The name of the member that it came in.
    pub(super) source: &'static str,
    pub(super) text: Option<Raw<'a>>,
    pub(super) signature: Option<Escaped<'a>>,
    /// Encrypted thinking, instead of both.
    pub(super) data: Option<Escaped<'a>>,
}

impl<'a> Thought<'a> {
    /// An entry of `thinking_blocks`, from proxies in front of Claude: in Anthropic's form.
    pub(super) fn block(raw: Raw<'a>) -> Self {
        let [text, signature, data] = raw.pick(["thinking", "signature", "data"]);
        let (signature, data) = (signature.and_then(Raw::text), data.and_then(Raw::text));
        Thought { source: "thinking_blocks", text, signature, data }
    }

    /// An entry of OpenRouter's `reasoning_details`, from any provider. What a provider other than Anthropic has signed
    /// or encrypted, a client of Anthropic's API could not send back to it.
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

    /// Emits a whole block at once.
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
