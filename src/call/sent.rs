use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::nested::Slot;
use super::{Call, Ending};
use crate::body::{Body, BoxError};

/// For each attempt of a call: whether its sending is watched, whether its request was taken whole, and whether it was
/// given up before. One bit per slot; attempts in higher slots count as sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    watched: u64,
    taken: u64,
    given_up: u64,
}

impl Sent {
    /// Called when an attempt has ended without an answer. Returns true if the connection has not taken the whole
    /// request, and stops it from getting the rest. No provider works on half a body.
    pub(super) fn give_up(&mut self, slot: Slot) -> bool {
        self.given_up |= self.watched & !self.taken & bit(slot);
        self.given_up & bit(slot) != 0
    }

    /// Called when the connection is about to take the last bytes; false if the attempt has been given up.
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
    /// The same body, watched while the connection takes it: an attempt that is given up before the end was never sent.
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
