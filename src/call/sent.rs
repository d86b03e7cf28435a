use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::Call;
use crate::body::{Body, BoxError};

/// Which attempts of a call are told of by who sends them, and of which of them all was taken: a bit a slot. Slots beyond
/// are taken to have been sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    watched: u64,
    taken: u64,
}

impl Sent {
    /// Whether the connection certainly did not take all of an attempt's request. No provider works on half a body.
    pub(super) fn is_kept(&self, slot: usize) -> bool {
        (self.watched & !self.taken) & bit(slot) != 0
    }
}

fn bit(slot: usize) -> u64 {
    u32::try_from(slot).ok().and_then(|slot| 1_u64.checked_shl(slot)).unwrap_or_default()
}

impl Call {
    /// The same body, for a connection to take: an attempt that is given up before it has taken all was never sent.
    pub(crate) fn watched(&self, body: Body) -> Body {
        let Some(slot) = self.slot.filter(|_| !body.is_end_stream()) else { return body };
        self.state().sent.watched |= bit(slot);
        Body::own(Watched { body, call: self.clone(), slot })
    }
}

struct Watched {
    body: Body,
    call: Call,
    slot: usize,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.call.state().sent.taken |= bit(self.slot);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
