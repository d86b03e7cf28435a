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

/// Translates one stream. What is held back is one unfinished event, and what a provider sends out of order: the parts of
/// later tool calls, and text, while an earlier call's input is incomplete; and text, where a tool stands in for a format that
/// the client asked for, until it is known that the tool is not called. What must be said at the end is kept besides: thinking,
/// and what text rests on, for a client of Chat Completions. A stream of which more than 64 MiB would have to be kept has
/// failed.
pub struct StreamTranslator {
    scanner: Scanner,
    request_id: String,
    reader: Box<dyn StreamReader + Send + Sync>,
    fit: Fit,
    writer: Box<dyn StreamWriter + Send + Sync>,
    /// What is to be sent back where the answer pauses.
    content: Option<Content>,
    is_over: bool,
}

impl StreamTranslator {
    /// From a stream of `upstream` to one of `client`; `None` where there is nothing to translate, or one of them is
    /// Responses, which is not translated yet.
    #[must_use]
    pub fn new(upstream: Dialect, client: Dialect, reply: &Reply) -> Option<Self> {
        Self::into_writer(upstream, client, reply, writer(client, reply)?)
    }

    /// From a stream of `upstream` to the one whole answer that it would have been, written at its end.
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

    /// For who asks [what goes on](Self::going_on) with an answer that pauses, and keeps what that needs.
    pub(crate) fn resuming(mut self, reply: &Reply) -> Self {
        if reply.needs.may_pause {
            self.content = Some(Content::default());
            self.fit.resumes();
        }
        self
    }

    /// For a client that wants figures of what an answer cost, whoever states them: of so many tokens that are likely to have gone
    /// in, and what came out.
    pub(crate) fn guessing(mut self, likely_input: Option<u64>) -> Self {
        if let Some(input) = likely_input {
            self.fit.guesses(input);
            self.writer.expects(input);
        }
        self
    }

    /// Takes a whole answer, as some servers give it where a stream was asked for.
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

    /// What asks the provider to go on with an answer to `request` that has paused; `None` where it has not.
    pub(crate) fn going_on(&self, request: &[u8]) -> Option<Vec<u8>> {
        self.content.as_ref().filter(|_| self.fit.is_paused())?.behind(request)
    }

    /// Whether the upstream has said what the answer cost.
    pub(crate) fn states_usage(&self) -> bool {
        self.fit.states_usage()
    }

    /// Whether what the answer cost was told by a guess.
    pub(crate) fn has_guessed(&self) -> bool {
        self.fit.has_guessed()
    }

    /// What comes now is the rest of the answer, in a stream of its own. Only Anthropic's pause.
    pub(crate) fn resume(&mut self) {
        self.fit.resume();
        (self.scanner, self.reader, self.is_over) = (Scanner::new(), Box::new(anthropic::stream::Reader::new()), false);
    }

    /// Takes the next bytes of the upstream's stream; whole events for the client go to `out`.
    ///
    /// Whatever is wrong with the stream, or was wrong upstream, is an error event in the client's dialect, and the last
    /// thing that is written.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        if let Err(fault) = self.try_push(chunk, out) {
            self.fail(&fault, out);
        }
    }

    /// [`push`](Self::push), for who can still say of a fault what it is by the status of the answer.
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
        scanned.map_err(|_| Fault::garbled("the upstream sent an event beyond 16 MiB"))
    }

    /// The upstream's stream is over. One that broke off ends with an error event.
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
        // Half an event says nothing; what it would have said is missing, and the reader knows.
        let _ = scanner.finish(|block| verdict = relay(&mut **reader, fit, &mut **writer, &block, out, is_over));
        verdict?;
        reader.finish(&mut |event| fit.event(event, &mut |event| writer.event(event, out)))
    }

    /// Ends the stream with an error, in the client's shape.
    pub(crate) fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        self.writer.fail(fault, out);
        // A failure is not gone on with.
        self.content = None;
        self.is_over = true;
    }

    /// Writes what keeps a client waiting while the upstream is silent: a `ping`, or a comment where its SDK takes every
    /// event for a piece of the answer. Claude Code gives up on a stream that says nothing for 300 seconds.
    pub fn keep_alive(&self, out: &mut BytesMut) {
        self.writer.keep_alive(out);
    }

    /// Whether the upstream has said why its answer ended: what breaks off then has lost nothing of it.
    pub(crate) fn has_all(&self) -> bool {
        self.is_over || self.reader.has_all()
    }

    /// Whether the last byte for the client has been written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Writes streams of `client`; `None` for Responses.
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

/// Writes nothing until all is known.
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

    // Who gathers a stream asks for its faults, and gives them a status.
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
