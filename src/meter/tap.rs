use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::stream::Stream;
use crate::body::{Gunzip, is_plain};
use crate::call::is_event_stream;
use crate::dialect::error_name;
use crate::dialect::meter::{Reading, answer, is_error_alone};
use crate::domain::dialect::Dialect;
use crate::wire::sse::EventTooLarge;

/// The most of an answer that is buffered, or decoded, to find its usage.
const MOST: usize = 32 << 20;
/// The same, to find the name of an error.
const MOST_OF_ERROR: usize = 64 << 10;
/// The most that a compressed stream may decompress to in total.
pub(super) const MOST_STREAMED: usize = 1 << 30;

/// Listens to an answer as it passes.
pub(super) struct Tap {
    listener: Listener,
    gunzip: Option<Box<Gunzip>>,
    is_error: bool,
    /// The provider's name for its error, once known.
    error: Option<Arc<str>>,
}

enum Listener {
    None,
    Stream(Box<Stream>),
    /// Most answers are one chunk. If the status is an error, only its name is read.
    Json {
        dialect: Option<Dialect>,
        first: Bytes,
        more: Vec<Bytes>,
        len: usize,
    },
}

impl Tap {
    pub(super) fn none() -> Self {
        Tap { listener: Listener::None, gunzip: None, is_error: false, error: None }
    }

    /// A stream from which a chunk is removed (`withholds`) must not be compressed.
    pub(super) fn new(dialect: Dialect, headers: &HeaderMap, withholds: bool) -> Self {
        let stream = is_event_stream(headers).then(|| Box::new(Stream::new(dialect, withholds)));
        Tap::by(headers, stream, Some(dialect))
    }

    /// For an answer whose status is an error.
    pub(super) fn of_error(headers: &HeaderMap) -> Self {
        Tap::by(headers, None, None)
    }

    fn by(headers: &HeaderMap, stream: Option<Box<Stream>>, dialect: Option<Dialect>) -> Self {
        let is_stream = stream.is_some();
        let gunzip = match is_plain(headers) {
            true => None,
            false if Gunzip::is_needed(headers) => {
                Some(Box::new(Gunzip::new(if is_stream { MOST_STREAMED } else { most(dialect) })))
            }
            false if dialect.is_none() => return Tap::none(),
            false => {
                tracing::warn!("an answer has a content-encoding that was not requested; its usage is not read");
                return Tap::none();
            }
        };
        let json = || Listener::Json { dialect, first: Bytes::new(), more: Vec::new(), len: 0 };
        Tap { listener: stream.map_or_else(json, Listener::Stream), gunzip, ..Tap::none() }
    }

    /// Reads one chunk and returns the part to pass on; `None` means all of it. The only error that stops the answer is
    /// an event that is too large.
    pub(super) fn hear(&mut self, chunk: &Bytes) -> Result<Option<Bytes>, EventTooLarge> {
        let Some(gunzip) = &mut self.gunzip else { return self.listener.hear(chunk) };
        gunzip.push(chunk.clone());
        loop {
            match gunzip.piece() {
                Ok(piece) if piece.is_empty() => return Ok(None),
                Ok(piece) => _ = self.listener.hear(&piece.into())?,
                Err(_) if self.listener.is_of_error() => {
                    *self = Tap::none();
                    return Ok(None);
                }
                Err(error) => {
                    tracing::warn!(%error, "a compressed answer cannot be decoded; its usage is not read");
                    *self = Tap::none();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the answer, which has ended, was only an error. A stream that fails has already begun.
    pub(super) fn is_error(&self) -> bool {
        self.is_error
    }

    /// The provider's name for the error, if there was one so far.
    pub(super) fn error(&self) -> Option<Arc<str>> {
        match &self.listener {
            Listener::Stream(stream) => stream.error(),
            _ => self.error.clone(),
        }
    }

    /// Whether a part of the answer is removed.
    pub(super) fn withholds(&self) -> bool {
        matches!(&self.listener, Listener::Stream(stream) if stream.withholds)
    }

    /// How many of the last bytes belong to an unfinished event.
    pub(super) fn pending(&self) -> usize {
        match &self.listener {
            // Events cannot be located in compressed bytes.
            Listener::Stream(stream) if self.gunzip.is_none() => stream.pending(),
            _ => 0,
        }
    }

    /// What a stream has stated so far; a JSON answer states nothing before its end.
    pub(super) fn so_far(&self) -> Reading {
        match &self.listener {
            Listener::Stream(stream) => stream.reading(),
            _ => Reading::default(),
        }
    }

    /// Called at the end of the answer. Returns what it stated (`None` if nothing listened) and what was held back.
    pub(super) fn finish(&mut self) -> (Option<Reading>, Bytes) {
        if let Some(rest) = self.gunzip.take().and_then(|mut gunzip| gunzip.finish().ok()) {
            let _ = self.listener.hear(&rest.into());
        }
        match std::mem::replace(&mut self.listener, Listener::None) {
            Listener::None => (None, Bytes::new()),
            Listener::Stream(mut stream) => {
                let rest = stream.finish();
                self.error = stream.error();
                (Some(stream.reading()), rest)
            }
            Listener::Json { dialect, first, more, .. } => {
                let whole = if more.is_empty() { first } else { [&[first], &more[..]].concat().concat().into() };
                let reading = dialect.map(|dialect| answer(dialect, &whole));
                let has_failed = reading.is_none_or(|reading| reading.failed);
                self.is_error = has_failed && dialect.is_some_and(|dialect| is_error_alone(dialect, &whole));
                self.error = if has_failed { error_name(&whole) } else { None };
                (reading, Bytes::new())
            }
        }
    }
}

fn most(of: Option<Dialect>) -> usize {
    if of.is_some() { MOST } else { MOST_OF_ERROR }
}

impl Listener {
    fn is_of_error(&self) -> bool {
        matches!(self, Listener::Json { dialect: None, .. })
    }

    fn hear(&mut self, chunk: &Bytes) -> Result<Option<Bytes>, EventTooLarge> {
        match self {
            Listener::None => {}
            Listener::Stream(stream) => return stream.hear(chunk),
            Listener::Json { dialect, first, more, len } => {
                *len += chunk.len();
                if *len > most(*dialect) {
                    if dialect.is_some() {
                        tracing::warn!("an answer exceeds the buffer limit; its usage is not read");
                    }
                    *self = Listener::None;
                } else if first.is_empty() {
                    *first = chunk.clone();
                } else if !chunk.is_empty() {
                    more.push(chunk.clone());
                }
            }
        }
        Ok(None)
    }
}
