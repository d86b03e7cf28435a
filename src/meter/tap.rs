use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};

use super::stream::Stream;
use crate::body::Gunzip;
use crate::call::is_event_stream;
use crate::dialect::error_name;
use crate::dialect::meter::{Reading, answer, is_error_alone};
use crate::domain::dialect::Dialect;
use crate::wire::sse::EventTooLarge;

/// Most of an answer that is kept, or decoded, to find its usage.
const MOST: usize = 32 << 20;
/// The same, to find what an error is called.
const MOST_OF_ERROR: usize = 64 << 10;
/// Most that a compressed stream may unpack to in all.
pub(super) const MOST_STREAMED: usize = 1 << 30;

/// What listens to an answer while it passes.
pub(super) struct Tap {
    listener: Listener,
    gunzip: Option<Box<Gunzip>>,
    is_error: bool,
    /// What the provider calls its error, once that is known.
    error: Option<Arc<str>>,
}

enum Listener {
    None,
    Stream(Box<Stream>),
    /// Most answers are one chunk. Of an error, by its status, only its name is read.
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

    /// A stream that `withholds` is not a compressed one.
    pub(super) fn new(dialect: Dialect, headers: &HeaderMap, withholds: bool) -> Self {
        let stream = is_event_stream(headers).then(|| Box::new(Stream::new(dialect, withholds)));
        Tap::by(headers, stream, Some(dialect))
    }

    /// Of an answer whose status says that it is an error.
    pub(super) fn of_error(headers: &HeaderMap) -> Self {
        Tap::by(headers, None, None)
    }

    fn by(headers: &HeaderMap, stream: Option<Box<Stream>>, dialect: Option<Dialect>) -> Self {
        let is_stream = stream.is_some();
        let gunzip = match headers.get(header::CONTENT_ENCODING) {
            None => None,
            Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => None,
            Some(_) if Gunzip::is_needed(headers) => {
                Some(Box::new(Gunzip::new(if is_stream { MOST_STREAMED } else { most(dialect) })))
            }
            Some(_) if dialect.is_none() => return Tap::none(),
            Some(_) => {
                tracing::warn!("an answer came in a content-encoding that was not asked for; its usage is not read");
                return Tap::none();
            }
        };
        let json = || Listener::Json { dialect, first: Bytes::new(), more: Vec::new(), len: 0 };
        Tap { listener: stream.map_or_else(json, Listener::Stream), gunzip, ..Tap::none() }
    }

    /// Hears one chunk, and says what goes on of it; `None` is all of it. The only error that stops the answer is an
    /// event beyond all bounds.
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

    /// Whether the answer, now that it is over, was an error and nothing else. A stream has begun when it fails.
    pub(super) fn is_error(&self) -> bool {
        self.is_error
    }

    /// What the provider calls the error that it has told of so far.
    pub(super) fn error(&self) -> Option<Arc<str>> {
        match &self.listener {
            Listener::Stream(stream) => stream.error(),
            _ => self.error.clone(),
        }
    }

    /// Whether the answer that goes on is not the whole of the answer that came.
    pub(super) fn withholds(&self) -> bool {
        matches!(&self.listener, Listener::Stream(stream) if stream.withholds)
    }

    /// How many of the last bytes that came belong to an event that stands open.
    pub(super) fn pending(&self) -> usize {
        match &self.listener {
            // Within what is compressed nothing can be told apart.
            Listener::Stream(stream) if self.gunzip.is_none() => stream.pending(),
            _ => 0,
        }
    }

    /// What a stream has said so far; a JSON answer says nothing before its end.
    pub(super) fn so_far(&self) -> Reading {
        match &self.listener {
            Listener::Stream(stream) => stream.reading(),
            _ => Reading::default(),
        }
    }

    /// The answer is over: what it said, `None` where nothing listened, and what had been held back of it.
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
                        tracing::warn!("an answer is larger than what is kept of it; its usage is not read");
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
