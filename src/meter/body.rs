use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::tap::Tap;
use crate::body::{Body, BoxError};
use crate::call::{AttemptGuard, Ending, StreamBroken};
use crate::domain::outcome::AttemptEnd;
use crate::domain::rejection::{Rejection, RejectionKind};

/// An upstream's answer, and the attempt that ends with it: every byte, but for a usage chunk that is ours alone.
pub(super) struct MeterBody {
    inner: Body,
    attempt: AttemptGuard,
    tap: Tap,
    ending: Ending,
    /// The status said it already.
    failed: bool,
    /// Trailers that wait until what the tap held back has gone.
    trailers: Option<Frame<Bytes>>,
}

impl MeterBody {
    pub(super) fn new(inner: Body, attempt: AttemptGuard, tap: Tap, bodiless: bool, failed: bool) -> Self {
        let ending = Ending::new(bodiless, &inner);
        let mut this = MeterBody { inner, attempt, tap, ending, failed, trailers: None };
        if this.ending.is_done() {
            this.end();
        }
        this
    }

    /// The answer came to its end; whether it was whole is for its own marks to say. Gives what had been held back of it.
    fn end(&mut self) -> Bytes {
        let (reading, rest) = self.tap.finish();
        self.attempt.read(reading.unwrap_or_default());
        self.attempt.end(match reading {
            _ if self.failed => AttemptEnd::ErrorStatus,
            Some(reading) if reading.failed || !reading.ended => AttemptEnd::Broken,
            _ => AttemptEnd::Complete,
        });
        rest
    }

    fn break_off(&mut self, end: AttemptEnd) {
        self.attempt.read(self.tap.so_far());
        self.attempt.end(end);
    }

    /// What goes on of a frame; `None` if nothing does.
    fn pass(&mut self, frame: Frame<Bytes>, is_last: bool) -> Result<Option<Frame<Bytes>>, BoxError> {
        let came = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                let rest = self.end();
                if rest.is_empty() {
                    return Ok(Some(trailers));
                }
                self.trailers = Some(trailers);
                return Ok(Some(Frame::data(rest)));
            }
        };
        let heard = self.tap.hear(&came).map_err(|_| {
            let what = "the upstream sent an event beyond 16 MiB";
            StreamBroken(Rejection::new(RejectionKind::UpstreamGarbled, what))
        })?;
        let rest = if is_last { self.end() } else { Bytes::new() };
        Ok(match (heard, rest.is_empty()) {
            (None, _) => Some(Frame::data(came)),
            (Some(part), true) => (!part.is_empty()).then(|| Frame::data(part)),
            (Some(part), false) => Some(Frame::data([part, rest].concat().into())),
        })
    }
}

impl http_body::Body for MeterBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            let polled = ready!(Pin::new(&mut this.inner).poll_frame(cx));
            let is_last = this.ending.after(polled.as_ref(), &this.inner);
            let passed = match polled {
                Some(Ok(frame)) => this.pass(frame, is_last),
                Some(Err(error)) => Err(error),
                None => {
                    // Nothing that is over is polled again.
                    this.inner = Body::empty();
                    let rest = this.end();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            };
            match passed {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => {
                    this.break_off(AttemptEnd::Broken);
                    this.inner = Body::empty();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.tap.withholds() { SizeHint::default() } else { self.inner.size_hint() }
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
