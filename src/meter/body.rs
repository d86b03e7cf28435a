use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::tap::Tap;
use crate::body::{Body, BoxError};
use crate::call::{AttemptGuard, Ending, StreamBroken};
use crate::domain::outcome::AttemptEnd;
use crate::domain::rejection::{Rejection, RejectionKind};

/// An upstream's answer: every byte of it, and the attempt that ends with it.
pub(super) struct MeterBody {
    inner: Body,
    attempt: AttemptGuard,
    tap: Tap,
    ending: Ending,
    /// The status said it already.
    failed: bool,
}

impl MeterBody {
    pub(super) fn new(inner: Body, attempt: AttemptGuard, tap: Tap, bodiless: bool, failed: bool) -> Self {
        let ending = Ending::new(bodiless, &inner);
        let mut this = MeterBody { inner, attempt, tap, ending, failed };
        if this.ending.is_done() {
            this.end();
        }
        this
    }

    /// The answer came to its end; whether it was whole is for its own marks to say.
    fn end(&mut self) {
        let reading = self.tap.finish();
        self.attempt.read(reading.unwrap_or_default());
        self.attempt.end(match reading {
            _ if self.failed => AttemptEnd::ErrorStatus,
            Some(reading) if reading.failed || !reading.ended => AttemptEnd::Broken,
            _ => AttemptEnd::Complete,
        });
    }

    fn break_off(&mut self, end: AttemptEnd) {
        self.attempt.read(self.tap.so_far());
        self.attempt.end(end);
    }
}

impl http_body::Body for MeterBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut polled = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
            && this.tap.hear(data).is_err()
        {
            let rejection = Rejection::new(RejectionKind::UpstreamGarbled, "the upstream sent an event beyond 16 MiB");
            polled = Some(Err(StreamBroken(rejection).into()));
        }
        if let Some(Err(_)) = &polled {
            this.break_off(AttemptEnd::Broken);
            this.inner = Body::empty();
        } else if this.ending.after(polled.as_ref(), &this.inner) {
            this.end();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for MeterBody {
    fn drop(&mut self) {
        // A no-op where the attempt has ended: the guard lets only the first end count. Clients close at the mark of the
        // end, which comes a packet before the end itself.
        let reading = self.tap.so_far();
        let whole = reading.ended && !reading.failed && !self.failed;
        self.break_off(if whole { AttemptEnd::Complete } else { AttemptEnd::Abandoned });
    }
}
