//! The canonical model in which all dialects meet: each has a reader into it and a writer out of it, and none knows
//! another.
//!
//! Text is [`Escaped`](crate::wire::json::Escaped): it goes from one document into the other as it is spelled.

pub(crate) mod called;
pub(crate) mod conversation;
pub(crate) mod event;
pub(crate) mod fault;
pub(crate) mod fields;
pub(crate) mod name;
pub(crate) mod needs;
pub(crate) mod path;
pub(crate) mod warning;

use std::borrow::Cow;

use self::event::Event;
use self::fault::Fault;
use crate::wire::json::Raw;
use crate::wire::sse::Block;
use bytes::BytesMut;

/// The most that is kept of a stream until its end: as much as is read of an answer that comes whole.
pub(crate) const MOST_KEPT: usize = 64 << 20;

/// Turns one upstream stream into events.
pub(crate) trait StreamReader {
    /// One block of the stream.
    ///
    /// # Errors
    /// What the upstream reported in its stream, or what is wrong with it. The reader is of no use afterwards.
    fn block(&mut self, block: &Block<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;

    /// Whether it is known why the answer ended, so that [`finish`](Self::finish) finds it whole.
    fn has_all(&self) -> bool;

    /// The upstream's stream is over. Gives `End`, unless it was given, where the answer is known to be whole.
    ///
    /// # Errors
    /// [`Fault::truncated`] where it is not.
    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;
}

/// Writes events as one stream for the client.
pub(crate) trait StreamWriter {
    /// One event; what the client shall see goes to `out`, whole SSE events alone.
    fn event(&mut self, event: Event<'_>, out: &mut BytesMut);

    /// So many tokens are likely to have gone in, for who wants to know before the upstream says so.
    fn expects(&mut self, _likely_input: u64) {}

    /// Says that nothing is amiss while the upstream is silent.
    fn keep_alive(&self, out: &mut BytesMut);

    /// Ends the stream with an error, in the shape that the client's SDKs raise on; never a normal end.
    fn fail(&mut self, fault: &Fault, out: &mut BytesMut);
}

/// Collects events into one whole answer.
pub(crate) trait AnswerWriter {
    fn event(&mut self, event: Event<'_>);

    /// The answer. To be asked once, after the last event.
    fn finish(&mut self) -> String;
}

/// Appends pieces that are written already, with room made once.
pub(crate) fn put(out: &mut BytesMut, parts: &[&str]) {
    let len = parts.iter().map(|part| part.len()).sum();
    if out.capacity() - out.len() < len {
        // What is sent keeps its room: made event by event, each would be an allocation.
        out.reserve(len.max(ROOM));
    }
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

const ROOM: usize = 4 << 10;

/// A value without the line ends between its tokens, which would end the `data` line; within strings there are none.
pub(crate) fn on_one_line(raw: Raw<'_>) -> Cow<'_, str> {
    let text = raw.as_str();
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() }
}
