use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::nested::Slot;
use super::{Call, Ending};
use crate::body::{Body, BoxError};

/// Which attempts of a call are told of by who sends them, which of them were taken whole, and which were given up before: a
/// bit a slot. Slots beyond are taken to have been sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    watched: u64,
    taken: u64,
    given_up: u64,
}

impl Sent {
    /// An attempt has ended without an answer: whether the connection did not take all of its request, and from now on does
    /// not get it. No provider works on half a body.
    pub(super) fn give_up(&mut self, slot: Slot) -> bool {
        self.given_up |= self.watched & !self.taken & bit(slot);
        self.given_up & bit(slot) != 0
    }

    /// The connection is about to take the last of it; false where it has been given up.
    fn take(&mut self, slot: Slot) -> bool {
        let is_given_up = self.given_up & bit(slot) != 0;
        if !is_given_up {
            self.taken |= bit(slot);
        }
        !is_given_up
    }
}

fn bit(slot: Slot) -> u64 {
    u32::try_from(slot.at()).ok().and_then(|slot| 1_u64.checked_shl(slot)).unwrap_or_default()
}

impl Call {
    /// The same body, for a connection to take: an attempt that is given up before it has taken all was never sent.
    pub(crate) fn watched(&self, body: Body) -> Body {
        let ending = Ending::new(false, &body);
        let Some(slot) = self.slot.filter(|_| !ending.is_done()) else { return body };
        self.state().sent.watched |= bit(slot);
        Body::own(Watched { body, ending, call: self.clone(), slot })
    }
}

struct Watched {
    body: Body,
    ending: Ending,
    call: Call,
    slot: Slot,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(came) = &polled
            && this.ending.after(came.as_ref(), &this.body)
            && !this.call.state().sent.take(this.slot)
        {
            return Poll::Ready(Some(Err("the attempt that this request belongs to has been given up".into())));
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
