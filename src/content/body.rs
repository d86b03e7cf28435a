use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::layer::Shared;
use super::queue::{NO_ROOM, Taken};
use super::task;
use crate::body::{Body, BoxError, Share};
use crate::call::{Call, Ending};

/// An answer that is kept: passes every byte, and copies it.
pub(super) struct ContentBody {
    inner: Body,
    ending: Ending,
    copy: Option<Copied>,
}

/// The copy so far.
struct Copied {
    shared: Arc<Shared>,
    call: Call,
    taken: Taken,
    /// `None` once there is no room for it.
    body: Option<BytesMut>,
    bytes: u64,
    is_dropped: bool,
}

impl ContentBody {
    pub(super) fn new(inner: Body, is_bodiless: bool, shared: Arc<Shared>, call: Call, taken: Taken) -> Self {
        let ending = Ending::new(is_bodiless, &inner);
        let copy = Copied { shared, call, taken, body: Some(BytesMut::new()), bytes: 0, is_dropped: false };
        let mut body = ContentBody { inner, ending, copy: Some(copy) };
        body.look();
        body
    }

    /// Checks whether the answer has ended.
    fn look(&mut self) {
        if self.ending.is_done()
            && let Some(copy) = self.copy.take()
        {
            // The attempt has seen the end before this body.
            let is_whole = !copy.call.last_attempt_is_broken();
            copy.end(is_whole);
        }
    }
}

impl Copied {
    fn push(&mut self, data: &Bytes) {
        self.bytes += data.len() as u64;
        let Some(body) = &mut self.body else { return };
        let fits = body.len() + data.len() <= self.shared.settings.most;
        if fits && self.taken.share.grow(data.len()).is_ok() {
            return body.extend_from_slice(data);
        }
        // The copy is dropped, and its room is given back.
        (self.body, self.is_dropped) = (None, fits);
        self.taken.share = Share::none(&self.shared.queue.room);
    }

    fn end(self, is_whole: bool) {
        let Copied { shared, call, mut taken, body, bytes, is_dropped } = self;
        if is_dropped {
            return shared.queue.drop_one(NO_ROOM);
        }
        taken.ended(call.now(), is_whole, bytes, body.map(BytesMut::freeze));
        task::push(&shared, taken);
    }
}

impl http_body::Body for ContentBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(came) = &polled {
            if let (Some(Ok(frame)), Some(copy)) = (came, &mut this.copy)
                && let Some(data) = frame.data_ref()
            {
                copy.push(data);
            }
            this.ending.after(came.as_ref(), &this.inner);
            this.look();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ending.is_said()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ContentBody {
    fn drop(&mut self) {
        // The inner body first: its attempt ends before the call is asked how it ended.
        self.inner = Body::empty();
        if let Some(copy) = self.copy.take() {
            // Clients close at the mark of the end, which comes before the end itself.
            let is_whole = copy.bytes > 0 && copy.call.last_attempt_is_whole();
            copy.end(is_whole);
        }
    }
}
