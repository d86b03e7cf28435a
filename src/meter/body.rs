use std::pin::Pin;
use std::task::{Context, Poll};

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
    /// Trailers, or the end, that wait until what the tap held back has gone.
    behind: Option<Option<Result<Frame<Bytes>, BoxError>>>,
}

impl MeterBody {
    pub(super) fn new(inner: Body, attempt: AttemptGuard, tap: Tap, bodiless: bool, failed: bool) -> Self {
        let ending = Ending::new(bodiless, &inner);
        let mut this = MeterBody { inner, attempt, tap, ending, failed, behind: None };
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

    /// Looks at what came out of the inner body, by reference: nearly all of it goes on where it lies.
    #[inline]
    fn hear(&mut self, came: Option<&Result<Frame<Bytes>, BoxError>>) -> Heard {
        let is_last = self.ending.after(came, &self.inner);
        let frame = match came {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Heard::Broken(None),
            None => return Heard::of_end(self.end()),
        };
        let Some(data) = frame.data_ref() else { return Heard::of_end(self.end()) };
        let Ok(part) = self.tap.hear(data) else {
            let what = "the upstream sent an event beyond 16 MiB";
            let rejection = Rejection::new(RejectionKind::UpstreamGarbled, what);
            return Heard::Broken(Some(StreamBroken(rejection).into()));
        };
        let rest = if is_last { self.end() } else { Bytes::new() };
        match part {
            None => Heard::AsItCame,
            Some(part) if rest.is_empty() => Heard::Part(part),
            Some(part) => Heard::Part([part, rest].concat().into()),
        }
    }
}

enum Heard {
    AsItCame,
    /// Instead of a frame of data; nothing goes on if it is empty.
    Part(Bytes),
    /// In front of the trailers or of the end.
    Before(Bytes),
    /// With an error of ours, if it was not the inner body's.
    Broken(Option<BoxError>),
}

impl Heard {
    fn of_end(rest: Bytes) -> Self {
        if rest.is_empty() { Heard::AsItCame } else { Heard::Before(rest) }
    }
}

impl http_body::Body for MeterBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(behind) = this.behind.take() {
            return Poll::Ready(behind);
        }
        loop {
            let mut polled = Pin::new(&mut this.inner).poll_frame(cx);
            if let Poll::Ready(came) = &mut polled {
                match this.hear(came.as_ref()) {
                    Heard::AsItCame => {}
                    Heard::Part(data) if data.is_empty() => continue,
                    Heard::Part(data) => *came = Some(Ok(Frame::data(data))),
                    Heard::Before(data) => this.behind = Some(came.replace(Ok(Frame::data(data)))),
                    Heard::Broken(error) => {
                        this.break_off(AttemptEnd::Broken);
                        this.inner = Body::empty();
                        if let Some(error) = error {
                            *came = Some(Err(error));
                        }
                    }
                }
            }
            return polled;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.behind.is_none() && self.ending.is_said()
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
