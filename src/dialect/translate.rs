//! Answers of one API as answers of another: streams, event by event.
//!
//! Reach for it to show a client the stream of a provider that speaks the other dialect. A machine without I/O: bytes
//! in, bytes out, whatever the chunks. Both dialects meet in one canonical model, so that a failure of the upstream
//! stays a failure in the client's shape, blocks never overlap, and usage is the upstream's latest word.
//!
//! ```
//! use bytes::BytesMut;
//! use tollgate::Dialect;
//! use tollgate::dialect::translate::{Reply, StreamTranslator};
//!
//! let chat = concat!(
//!     "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n",
//!     "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
//!     "data: [DONE]\n\n",
//! );
//! let reply = Reply::new("claude-haiku-5-5", "req-1");
//! let mut translator = StreamTranslator::new(Dialect::OpenAiChat, Dialect::Anthropic, &reply).expect("two dialects");
//! let mut out = BytesMut::new();
//! translator.push(chat.as_bytes(), &mut out);
//! translator.finish(&mut out);
//! let messages = String::from_utf8_lossy(&out);
//! assert!(messages.contains(r#""delta":{"type":"text_delta","text":"Hello"}"#));
//! assert!(messages.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
//! ```

use std::fmt;

use bytes::BytesMut;

use super::canon::event::Event;
use super::canon::fault::Fault;
use super::canon::{StreamReader, StreamWriter};
use super::{anthropic, openai_chat};
use crate::domain::dialect::Dialect;
use crate::wire::sse::{Block, Scanner};

/// What an answer says of the call that it belongs to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The model, as the client named it.
    pub model: String,
    /// The id of the call, which errors repeat.
    pub request_id: String,
    /// When the answer began, in seconds of Unix time. Chat Completions says so in every chunk.
    pub created: i64,
    /// Whether a Chat Completions client asked for the usage chunk.
    pub include_usage: bool,
}

impl Reply {
    /// An answer to a request for `model`, begun at the epoch, that shows no usage chunk.
    #[must_use]
    pub fn new(model: impl Into<String>, request_id: impl Into<String>) -> Self {
        Reply { model: model.into(), request_id: request_id.into(), created: 0, include_usage: false }
    }

    /// When the answer began, in seconds of Unix time.
    #[must_use]
    pub fn created(mut self, seconds: i64) -> Self {
        self.created = seconds;
        self
    }

    /// Whether a Chat Completions client asked for the usage chunk.
    #[must_use]
    pub fn include_usage(mut self, asked: bool) -> Self {
        self.include_usage = asked;
        self
    }
}

/// Translates one stream. What is held back is one unfinished event, and what a provider sends out of order: the parts of
/// later tool calls, and text, while an earlier call's input is incomplete. What must be said at the end is kept besides:
/// thinking, and what text rests on, for a client of Chat Completions.
pub struct StreamTranslator {
    scanner: Scanner,
    reader: Box<dyn StreamReader + Send + Sync>,
    writer: Box<dyn StreamWriter + Send + Sync>,
    is_over: bool,
}

impl StreamTranslator {
    /// From a stream of `upstream` to one of `client`; `None` where there is nothing to translate, or one of them is
    /// Responses, which is not translated yet.
    #[must_use]
    pub fn new(upstream: Dialect, client: Dialect, reply: &Reply) -> Option<Self> {
        let reader: Box<dyn StreamReader + Send + Sync> = match upstream {
            _ if upstream == client => return None,
            Dialect::Anthropic => Box::new(anthropic::stream::Reader::new()),
            Dialect::OpenAiChat => Box::new(openai_chat::stream::Reader::new()),
            Dialect::OpenAiResponses => return None,
        };
        let writer: Box<dyn StreamWriter + Send + Sync> = match client {
            Dialect::Anthropic => Box::new(anthropic::stream::Writer::new(&reply.model, &reply.request_id)),
            Dialect::OpenAiChat => {
                Box::new(openai_chat::stream::Writer::new(&reply.model, reply.created, reply.include_usage))
            }
            Dialect::OpenAiResponses => return None,
        };
        Some(StreamTranslator { scanner: Scanner::new(), reader, writer, is_over: false })
    }

    /// Takes the next bytes of the upstream's stream; whole events for the client go to `out`.
    ///
    /// Whatever is wrong with the stream, or was wrong upstream, is an error event in the client's dialect, and the last
    /// thing that is written.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        let StreamTranslator { scanner, reader, writer, is_over } = self;
        let mut fault = None;
        let scanned = scanner.push(chunk, |block| {
            if fault.is_none() && !*is_over {
                fault = relay(&mut **reader, &mut **writer, &block, out, is_over).err();
            }
        });
        let too_large = scanned.map_err(|_| Fault::garbled("the upstream sent an event beyond 16 MiB")).err();
        self.fail(fault.or(too_large), out);
    }

    /// The upstream's stream is over. One that broke off ends with an error event.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        let StreamTranslator { scanner, reader, writer, is_over } = self;
        let mut fault = None;
        // Half an event says nothing; what it would have said is missing, and the reader knows.
        let _ = scanner.finish(|block| fault = relay(&mut **reader, &mut **writer, &block, out, is_over).err());
        let fault = fault.or_else(|| reader.finish(&mut |event| writer.event(event, out)).err());
        self.fail(fault, out);
        self.is_over = true;
    }

    /// Whether the last byte for the client has been written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn fail(&mut self, fault: Option<Fault>, out: &mut BytesMut) {
        if let Some(fault) = fault {
            self.writer.fail(&fault, out);
            self.is_over = true;
        }
    }
}

fn relay(
    reader: &mut dyn StreamReader,
    writer: &mut dyn StreamWriter,
    block: &Block<'_>,
    out: &mut BytesMut,
    is_over: &mut bool,
) -> Result<(), Fault> {
    reader.block(block, &mut |event| {
        *is_over |= matches!(event, Event::End);
        writer.event(event, out);
    })
}

impl fmt::Debug for StreamTranslator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTranslator").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
