use bytes::Bytes;
use http::{HeaderMap, header};

use crate::body::Gunzip;
use crate::call::is_event_stream;
use crate::dialect::meter::{Reading, StreamMeter, answer};
use crate::domain::dialect::Dialect;
use crate::wire::sse::{EventTooLarge, Scanner};

/// Most of an answer that is kept, or decoded, to find its usage.
const MOST: usize = 32 << 20;
/// Most that a compressed stream may unpack to in all.
const MOST_STREAMED: usize = 1 << 30;

/// What listens to an answer while it passes.
pub(super) struct Tap {
    listener: Listener,
    gunzip: Option<Gunzip>,
}

enum Listener {
    None,
    Stream { scanner: Box<Scanner>, meter: StreamMeter },
    Json { dialect: Dialect, chunks: Vec<Bytes>, len: usize },
}

impl Tap {
    pub(super) fn none() -> Self {
        Tap { listener: Listener::None, gunzip: None }
    }

    pub(super) fn new(dialect: Dialect, headers: &HeaderMap) -> Self {
        let is_stream = is_event_stream(headers);
        let gunzip = match headers.get(header::CONTENT_ENCODING) {
            None => None,
            Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => None,
            Some(_) if Gunzip::is_needed(headers) => Some(Gunzip::new(if is_stream { MOST_STREAMED } else { MOST })),
            Some(_) => {
                tracing::warn!("an answer came in a content-encoding that was not asked for; its usage is not read");
                return Tap::none();
            }
        };
        let listener = match is_stream {
            true => Listener::Stream { scanner: Box::default(), meter: StreamMeter::new(dialect) },
            false => Listener::Json { dialect, chunks: Vec::new(), len: 0 },
        };
        Tap { listener, gunzip }
    }

    /// Hears one chunk. The only error that stops the answer is an event beyond all bounds.
    pub(super) fn hear(&mut self, chunk: &Bytes) -> Result<(), EventTooLarge> {
        let Some(gunzip) = &mut self.gunzip else { return self.listener.hear(chunk) };
        match gunzip.push(chunk) {
            Ok(decoded) => self.listener.hear(&decoded.into()),
            Err(error) => {
                tracing::warn!(%error, "a compressed answer cannot be decoded; its usage is not read");
                *self = Tap::none();
                Ok(())
            }
        }
    }

    /// What a stream has said so far; a JSON answer says nothing before its end.
    pub(super) fn so_far(&self) -> Reading {
        match &self.listener {
            Listener::Stream { meter, .. } => meter.reading(),
            _ => Reading::default(),
        }
    }

    /// The answer is over. `None` where nothing listened.
    pub(super) fn finish(&mut self) -> Option<Reading> {
        if let Some(rest) = self.gunzip.take().and_then(|mut gunzip| gunzip.finish().ok()) {
            let _ = self.listener.hear(&rest.into());
        }
        match &mut self.listener {
            Listener::None => None,
            Listener::Stream { scanner, meter } => {
                let _ = scanner.finish(|block| meter.block(&block));
                Some(meter.reading())
            }
            Listener::Json { dialect, chunks, .. } => {
                let whole = match chunks.as_slice() {
                    [one] => one.clone(),
                    many => many.concat().into(),
                };
                chunks.clear();
                Some(answer(*dialect, &whole))
            }
        }
    }
}

impl Listener {
    fn hear(&mut self, chunk: &Bytes) -> Result<(), EventTooLarge> {
        match self {
            Listener::None => {}
            Listener::Stream { scanner, meter } => scanner.push(chunk, |block| meter.block(&block))?,
            Listener::Json { chunks, len, .. } => {
                *len += chunk.len();
                if *len > MOST {
                    tracing::warn!("an answer is larger than what is kept of it; its usage is not read");
                    *self = Listener::None;
                } else if !chunk.is_empty() {
                    chunks.push(chunk.clone());
                }
            }
        }
        Ok(())
    }
}
