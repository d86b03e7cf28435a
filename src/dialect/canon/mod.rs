//! The canonical model in which all dialects meet: each has a reader into it and a writer out of it, and none knows
//! another.
//!
//! Text is [`Escaped`](crate::wire::json::Escaped): it is copied from one document into the other without being
//! decoded.

pub(crate) mod called;
pub(crate) mod conversation;
pub(crate) mod enforced;
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
    /// Reads one block of the stream.
    ///
    /// # Errors
    /// An error that the upstream reported in its stream, or a fault of the stream. The reader must not be used
    /// afterwards.
    fn block(&mut self, block: &Block<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;

    /// Whether the reason for the end of the answer is known, so that [`finish`](Self::finish) considers it whole.
    fn has_all(&self) -> bool;

    /// The upstream's stream is over. Emits `End`, unless that was emitted, if the answer is known to be whole.
    ///
    /// # Errors
    /// [`Fault::truncated`] if it is not.
    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault>;
}

/// Writes events as one stream for the client.
pub(crate) trait StreamWriter {
    /// Takes one event, and appends to `out` what the client shall see, in whole SSE events.
    fn event(&mut self, event: Event<'_>, out: &mut BytesMut);

    /// Sets the likely input tokens, for formats that state them before the upstream does.
    fn expects(&mut self, _likely_input: u64) {}

    /// Writes a keep-alive while the upstream is silent.
    fn keep_alive(&self, out: &mut BytesMut);

    /// Ends the stream with an error in a form for which the client's SDKs raise an error; never a normal end.
    fn fail(&mut self, fault: &Fault, out: &mut BytesMut);
}

/// Collects events into one whole answer.
pub(crate) trait AnswerWriter {
    fn event(&mut self, event: Event<'_>);

    /// The answer. Call it once, after the last event.
    fn finish(&mut self) -> String;
}

/// Appends pieces that are encoded already, with one reservation.
pub(crate) fn put(out: &mut BytesMut, parts: &[&str]) {
    let len = parts.iter().map(|part| part.len()).sum();
    if out.capacity() - out.len() < len {
        // A sent buffer keeps its capacity; allocating per event would be an allocation each.
        out.reserve(len.max(ROOM));
    }
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

const ROOM: usize = 4 << 10;

/// A value without the line ends between its tokens, which would end the `data` line. Strings contain none.
pub(crate) fn on_one_line(raw: Raw<'_>) -> Cow<'_, str> {
    let text = raw.as_str();
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() }
}
