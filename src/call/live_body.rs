use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::body::CallBody;
use crate::body::BoxError;
use crate::domain::rejection::Rejection;

/// An answer on its way to a client that can be cut from outside, even if it is not polled because its client does not
/// read.
pub(super) struct LiveBody {
    cell: Arc<Cell>,
}

/// Holds the answer between polls. The answer is taken out to be polled or cut, so that foreign code that runs in
/// either may cut it too.
pub(super) struct Cell {
    inside: Mutex<Inside>,
}

struct Inside {
    body: Option<Box<CallBody>>,
    /// A cut that came while the body was being polled.
    cut: Option<Rejection>,
    /// The task that waits for more: after a cut, nothing else would wake it.
    waker: Option<Waker>,
    /// The body has been dropped.
    is_dropped: bool,
    /// A frame (at first the head) was handed out, and the next one has not been asked for.
    is_ahead: bool,
    /// Since when that has been observed.
    ahead_since: Option<Instant>,
}

impl Cell {
    pub(super) fn new(body: CallBody) -> Self {
        let body = Some(Box::new(body));
        let inside = Inside { body, cut: None, waker: None, is_dropped: false, is_ahead: true, ahead_since: None };
        Cell { inside: Mutex::new(inside) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self, why: &Rejection) {
        let mut inside = self.inside();
        let Some(mut body) = inside.body.take() else {
            inside.cut.get_or_insert_with(|| why.clone());
            return;
        };
        drop(inside);
        body.cut(why);
        self.put_back(body);
    }

    /// Puts the body back and wakes the task that waits for it, or drops the body if it is no longer wanted.
    fn put_back(&self, body: Box<CallBody>) {
        let mut inside = self.inside();
        let (waker, dropped) = match inside.is_dropped {
            true => (None, Some(body)),
            false => (inside.waker.take(), inside.body.replace(body)),
        };
        drop(inside);
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Since when nothing was asked for after the last frame, as far as anyone observed it; observes at `now`.
    pub(super) fn takes_nothing_since(&self, now: Instant) -> Option<Instant> {
        let mut inside = self.inside();
        inside.is_ahead.then(|| *inside.ahead_since.get_or_insert(now))
    }

    /// Takes the body out to be polled. If it is being cut, the polling task waits until that is done.
    fn take(&self, cx: &mut Context<'_>) -> Option<Box<CallBody>> {
        let mut inside = self.inside();
        (inside.is_ahead, inside.ahead_since) = (false, None);
        if inside.body.is_none() {
            inside.wait(cx);
        }
        inside.body.take()
    }
}

impl Inside {
    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl LiveBody {
    pub(super) fn new(cell: Arc<Cell>) -> Self {
        LiveBody { cell }
    }
}

impl http_body::Body for LiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(mut body) = self.cell.take(cx) else { return Poll::Pending };
        let mut polled = Pin::new(&mut *body).poll_frame(cx);
        loop {
            let mut inside = self.cell.inside();
            let Some(why) = inside.cut.take() else {
                match &polled {
                    Poll::Pending => inside.wait(cx),
                    Poll::Ready(came) => inside.is_ahead = came.is_some(),
                }
                inside.body = Some(body);
                return polled;
            };
            drop(inside);
            body.cut(&why);
            // A frame that was handed out is still sent; the next poll reports the cut.
            if polled.is_pending() {
                polled = Pin::new(&mut *body).poll_frame(cx);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.cell.inside().body.as_ref().is_some_and(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.cell.inside().body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for LiveBody {
    fn drop(&mut self) {
        let mut inside = self.cell.inside();
        inside.is_dropped = true;
        let body = inside.body.take();
        drop(inside);
        // It runs hooks, which may be anyone's.
        drop(body);
    }
}
