use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::body::{Body, BoxError};
use crate::call::StreamBroken;
use crate::domain::rejection::{Rejection, RejectionKind};

/// A body that breaks off when nothing has come for too long.
///
/// The timer is set once and looks back when it fires, so a busy stream costs one reading of the clock a frame.
pub(super) struct IdleBody {
    inner: Body,
    idle: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleBody {
    pub(super) fn new(inner: Body, idle: Duration) -> Self {
        IdleBody { inner, idle, last: Instant::now(), timer: None }
    }
}

impl http_body::Body for IdleBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(polled) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.last = Instant::now();
            return Poll::Ready(polled);
        }
        loop {
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.idle)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let due = this.last + this.idle;
            if due <= Instant::now() {
                this.inner = Body::empty();
                let rejection = Rejection::new(
                    RejectionKind::UpstreamTimeout,
                    "the upstream fell silent in the middle of its answer",
                );
                return Poll::Ready(Some(Err(StreamBroken(rejection).into())));
            }
            timer.as_mut().reset(due);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
