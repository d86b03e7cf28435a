use std::fmt;

use bytes::BytesMut;

use super::fit::Fit;
use super::{Reply, answer, gather};
use crate::dialect::anthropic::stream::Content;
use crate::dialect::canon::event::Event;
use crate::dialect::canon::fault::Fault;
use crate::dialect::canon::{AnswerWriter, StreamReader, StreamWriter, put};
use crate::dialect::{anthropic, openai_chat};
use crate::domain::dialect::Dialect;
use crate::wire;
use crate::wire::sse::{Block, Scanner};

/// Translates one stream.
///
/// It holds back only what it must:
///
/// - one unfinished event;
/// - later tool calls and text, while the input of an earlier call is incomplete, if the provider sends them out of
///   order;
/// - text, if a tool stands in for a format that the client asked for, until it is known that the tool is not called.
///
/// It also keeps what must be written at the end: for a client of Chat Completions, thinking and the sources of the
/// text. A stream that would need more than 64 MiB has failed.
pub struct StreamTranslator {
    scanner: Scanner,
    request_id: String,
    reader: Box<dyn StreamReader + Send + Sync>,
    fit: Fit,
    writer: Box<dyn StreamWriter + Send + Sync>,
    /// What must be sent back if the answer pauses.
    content: Option<Content>,
    is_over: bool,
}

impl StreamTranslator {
    /// A translator from a stream of `upstream` to one of `client`. `None` if they are the same, or one of them is
    /// Responses, which is not translated yet.
    #[must_use]
    pub fn new(upstream: Dialect, client: Dialect, reply: &Reply) -> Option<Self> {
        Self::into_writer(upstream, client, reply, writer(client, reply)?)
    }

    /// A translator from a stream of `upstream` to one whole answer, which is written at its end.
    pub(crate) fn gathering(upstream: Dialect, client: Dialect, reply: &Reply) -> Option<Self> {
        Self::into_writer(upstream, client, reply, Box::new(Gathered(answer::writer(client, reply)?)))
    }

    fn into_writer(
        upstream: Dialect,
        client: Dialect,
        reply: &Reply,
        writer: Box<dyn StreamWriter + Send + Sync>,
    ) -> Option<Self> {
        if upstream == client {
            return None;
        }
        let reader = gather::reader(upstream, &reply.request_id)?;
        let fit = Fit::new(reply.needs.clone());
        let request_id = reply.request_id.clone();
        Some(StreamTranslator {
            scanner: Scanner::new(),
            request_id,
            reader,
            fit,
            writer,
            content: None,
            is_over: false,
        })
    }

    /// Also keeps what is needed to [continue](Self::going_on) an answer that pauses.
    pub(crate) fn resuming(mut self, reply: &Reply) -> Self {
        if reply.needs.may_pause {
            self.content = Some(Content::default());
            self.fit.resumes();
        }
        self
    }

    /// For a client that wants usage figures from any source: the likely input tokens, and what came out.
    pub(crate) fn guessing(mut self, likely_input: Option<u64>) -> Self {
        if let Some(input) = likely_input {
            self.fit.guesses(input);
            self.writer.expects(input);
        }
        self
    }

    /// Takes a whole answer, which some servers send although a stream was asked for.
    pub(crate) fn try_whole(&mut self, json: &[u8], upstream: Dialect, out: &mut BytesMut) -> Result<(), Fault> {
        let json = wire::text(json);
        if let Some(content) = &mut self.content {
            content.whole(&json);
        }
        let StreamTranslator { request_id, fit, writer, is_over, .. } = self;
        answer::read(&json, upstream, request_id, &mut |event| {
            *is_over |= matches!(event, Event::End);
            fit.event(event, &mut |event| writer.event(event, out));
        })
    }

    /// The request that asks the provider to continue a paused answer to `request`; `None` if the answer has not
    /// paused.
    pub(crate) fn going_on(&self, request: &[u8]) -> Option<Vec<u8>> {
        self.content.as_ref().filter(|_| self.fit.is_paused())?.behind(request)
    }

    /// Whether the upstream has stated the usage of the answer.
    pub(crate) fn states_usage(&self) -> bool {
        self.fit.states_usage()
    }

    /// Whether the usage that the client was told is a guess.
    pub(crate) fn has_guessed(&self) -> bool {
        self.fit.has_guessed()
    }

    /// What comes now is the rest of the answer, in a stream of its own. Only Anthropic's answers pause.
    pub(crate) fn resume(&mut self) {
        self.fit.resume();
        (self.scanner, self.reader, self.is_over) = (Scanner::new(), Box::new(anthropic::stream::Reader::new()), false);
    }

    /// Takes the next bytes of the upstream's stream, and appends whole events for the client to `out`.
    ///
    /// If the stream is malformed, or reports an error, an error event in the client's dialect is written, and nothing
    /// after it.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        if let Err(fault) = self.try_push(chunk, out) {
            self.fail(&fault, out);
        }
    }

    /// The same as [`push`](Self::push), for callers that can still report a fault by the status of the answer.
    pub(crate) fn try_push(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        let StreamTranslator { scanner, reader, fit, writer, content, is_over, .. } = self;
        let mut verdict = Ok(());
        let scanned = scanner.push(chunk, |block| {
            if let Some(content) = content {
                content.event(&block);
            }
            if verdict.is_ok() && !*is_over {
                verdict = relay(&mut **reader, fit, &mut **writer, &block, out, is_over);
            }
        });
        verdict?;
        if content.as_ref().is_some_and(Content::is_too_large) {
            return Err(Fault::too_large());
        }
        scanned.map_err(|_| Fault::garbled("the upstream sent an event larger than 16 MiB"))
    }

    /// Ends the stream. If the upstream's stream broke off, it ends with an error event.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if let Err(fault) = self.try_finish(out) {
            self.fail(&fault, out);
        }
        self.is_over = true;
    }

    pub(crate) fn try_finish(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        let StreamTranslator { scanner, reader, fit, writer, is_over, .. } = self;
        let mut verdict = Ok(());
        // Half an event is ignored; the reader knows that something is missing.
        let _ = scanner.finish(|block| verdict = relay(&mut **reader, fit, &mut **writer, &block, out, is_over));
        verdict?;
        reader.finish(&mut |event| fit.event(event, &mut |event| writer.event(event, out)))
    }

    /// Ends the stream with an error, in the format of the client's API.
    pub(crate) fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        self.writer.fail(fault, out);
        // A failed answer is not continued.
        self.content = None;
        self.is_over = true;
    }

    /// Writes a keep-alive for the time in which the upstream is silent: a `ping`, or a comment if the client's SDK
    /// takes every event for a part of the answer. Claude Code gives up on a stream that is silent for 300 seconds.
    pub fn keep_alive(&self, out: &mut BytesMut) {
        self.writer.keep_alive(out);
    }

    /// Whether the upstream has said why its answer ended. If the stream breaks off after that, nothing of the answer
    /// is lost.
    pub(crate) fn has_all(&self) -> bool {
        self.is_over || self.reader.has_all()
    }

    /// Whether the last byte for the client has been written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// The writer of streams of `client`; `None` for Responses.
pub(super) fn writer(client: Dialect, reply: &Reply) -> Option<Box<dyn StreamWriter + Send + Sync>> {
    Some(match client {
        Dialect::Anthropic => Box::new(anthropic::stream::Writer::new(&reply.model, &reply.request_id)),
        Dialect::OpenAiChat => {
            let needs = &reply.needs;
            Box::new(openai_chat::stream::Writer::new(&reply.model, reply.created, reply.include_usage, needs))
        }
        Dialect::OpenAiResponses => return None,
    })
}

/// Writes nothing until everything is known.
struct Gathered(Box<dyn AnswerWriter + Send + Sync>);

impl StreamWriter for Gathered {
    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) {
        let is_last = matches!(event, Event::End);
        self.0.event(event);
        if is_last {
            put(out, &[&self.0.finish()]);
        }
    }

    fn keep_alive(&self, _out: &mut BytesMut) {}

    // A caller that gathers a stream asks for its faults, and gives them a status.
    fn fail(&mut self, _fault: &Fault, _out: &mut BytesMut) {}
}

fn relay(
    reader: &mut dyn StreamReader,
    fit: &mut Fit,
    writer: &mut dyn StreamWriter,
    block: &Block<'_>,
    out: &mut BytesMut,
    is_over: &mut bool,
) -> Result<(), Fault> {
    reader.block(block, &mut |event| {
        *is_over |= matches!(event, Event::End);
        fit.event(event, &mut |event| writer.event(event, out));
    })?;
    if fit.is_too_large() { Err(Fault::too_large()) } else { Ok(()) }
}

impl fmt::Debug for StreamTranslator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTranslator").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
