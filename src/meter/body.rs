use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::tap::Tap;
use crate::body::{Body, BoxError};
use crate::call::{AttemptGuard, Ending, StreamBroken};
use crate::dialect::meter::Reading;
use crate::domain::outcome::AttemptEnd;
use crate::domain::rejection::{Rejection, RejectionKind};

/// An upstream's answer and its attempt. It passes on every byte, except a usage chunk that only we asked for.
pub(super) struct MeterBody {
    /// `None` only while it is dropped.
    answer: Option<Answer>,
}

struct Answer {
    inner: Body,
    attempt: AttemptGuard,
    tap: Tap,
    ending: Ending,
    /// The status is already an error.
    failed: bool,
    /// The answer has announced its length.
    has_length: bool,
    /// The end, or the trailers, held back until what the tap has withheld is sent.
    behind: Option<Option<Result<Frame<Bytes>, BoxError>>>,
    /// The reason to cut the answer, after what has arrived is sent.
    over: Option<Rejection>,
}

impl MeterBody {
    pub(super) fn new(inner: Body, attempt: AttemptGuard, tap: Tap, bodiless: bool, failed: bool) -> Self {
        let ending = Ending::new(bodiless, &inner);
        let has_length = inner.size_hint().exact().is_some();
        let mut answer = Answer { inner, attempt, tap, ending, failed, has_length, behind: None, over: None };
        if answer.ending.is_done() {
            // An empty answer lacks nothing.
            let _ = answer.end();
        }
        MeterBody { answer: Some(answer) }
    }
}

impl Answer {
    /// Called when the client no longer reads: the answer is complete, is drained in a task, or is abandoned. Clients
    /// close at the mark of the end, which arrives before the end itself.
    fn leave(mut self) {
        let reading = self.tap.so_far();
        let is_whole = reading.ended && !reading.failed && !self.failed;
        if !is_whole && !reading.failed && !self.failed && self.attempt.is_open() {
            let drain = self.attempt.drain();
            if let Some((place, most, settlements)) =
                drain.and_then(|(drain, to)| Some((drain.enter()?, drain.most(), to)))
            {
                settlements.spawn(async move {
                    if tokio::time::timeout(most, self.read_on()).await.is_err() {
                        self.break_off(AttemptEnd::Abandoned);
                    }
                    drop(place);
                });
                return;
            }
        }
        // A no-op if the attempt has ended: the guard counts only the first end.
        self.break_off(match reading.failed {
            true => AttemptEnd::Broken,
            false if is_whole => AttemptEnd::Complete,
            false => AttemptEnd::Abandoned,
        });
    }

    /// Reads to the end, only for the usage.
    async fn read_on(&mut self) {
        while self.attempt.is_open() {
            let came = std::future::poll_fn(|cx| Pin::new(&mut self.inner).poll_frame(cx)).await;
            if let Heard::Broken(_) = self.hear(came.as_ref()) {
                self.break_off(AttemptEnd::Broken);
            }
            if let Some(why) = self.over.take() {
                self.attempt.cut(&why);
                self.break_off(AttemptEnd::Abandoned);
            }
        }
    }

    /// Called when the answer has ended; its own marks tell whether it was complete. Returns what was held back, or an
    /// error if the client would otherwise take an incomplete answer for a complete one.
    fn end(&mut self) -> Result<Bytes, BoxError> {
        // Some servers of Chat Completions leave out the final mark, and clients accept that. Of Anthropic's clients,
        // only some notice that the end is missing after a `message_start`.
        let (reading, rest) = self.tap.finish();
        self.attempt.failed_by(self.tap.error());
        // It ended in order and stated why it stopped: its last usage is final, even without the mark.
        let is_whole = |reading: Reading| reading.usage_is_final && reading.has_stopped && !reading.failed;
        let has_ended = reading.is_some_and(|reading| reading.ended || is_whole(reading));
        self.attempt.read(Reading { ended: has_ended, ..reading.unwrap_or_default() });
        self.attempt.end(match reading {
            // A 200 that consists of an error is an error: nobody answered, and nobody bills.
            _ if self.failed || self.tap.is_error() => AttemptEnd::ErrorStatus,
            Some(reading) if reading.failed || !reading.ended => AttemptEnd::Broken,
            _ => AttemptEnd::Complete,
        });
        match reading {
            Some(reading) if reading.is_open && !reading.ended && !reading.failed && !self.failed => {
                Err("the upstream's stream ended without its final event".into())
            }
            _ => Ok(rest),
        }
    }

    fn break_off(&mut self, end: AttemptEnd) {
        self.attempt.read(self.tap.so_far());
        self.attempt.failed_by(self.tap.error());
        // The status already says that the provider refused; reading less of its message changes nothing.
        self.attempt.end(if self.failed { AttemptEnd::ErrorStatus } else { end });
    }

    /// Inspects what the inner body returned, by reference: nearly everything is passed on in place.
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
            let what = "the upstream sent an event larger than 16 MiB";
            let rejection = Rejection::new(RejectionKind::UpstreamGarbled, what);
            return Heard::Broken(Some(StreamBroken(rejection).into()));
        };
        let over = match self.attempt.is_listened_to() {
            true => self.attempt.heard(&self.tap.so_far()),
            false => None,
        };
        if self.attempt.is_followed()
            && let Some(usage) = self.tap.so_far().usage
        {
            self.attempt.used(&usage);
        }
        // The answer ends after the last whole event. An event that began before this chunk and continues is waited
        // for.
        if let Some(why) = over.filter(|_| !is_last)
            && let Some(whole) = data.len().checked_sub(self.tap.pending())
        {
            self.over = Some(why);
            return Heard::Part(part.unwrap_or_else(|| data.slice(..whole)));
        }
        let rest = match is_last.then(|| self.end()) {
            None => Bytes::new(),
            Some(Ok(rest)) => rest,
            // An announced length leaves no room for it.
            Some(Err(_)) if self.has_length => Bytes::new(),
            Some(Err(error)) => {
                self.behind = Some(Some(Err(error)));
                Bytes::new()
            }
        };
        match part {
            None => Heard::AsItCame,
            Some(part) if rest.is_empty() => Heard::Part(part),
            Some(part) => Heard::Part([part, rest].concat().into()),
        }
    }
}

enum Heard {
    AsItCame,
    /// Replaces a data frame; nothing is sent if it is empty.
    Part(Bytes),
    /// Sent before the trailers or the end.
    Before(Bytes),
    /// With our own error, unless the error is the inner body's.
    Broken(Option<BoxError>),
}

impl Heard {
    fn of_end(rest: Result<Bytes, BoxError>) -> Self {
        match rest {
            Ok(rest) if rest.is_empty() => Heard::AsItCame,
            Ok(rest) => Heard::Before(rest),
            Err(error) => Heard::Broken(Some(error)),
        }
    }
}

impl http_body::Body for MeterBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(this) = &mut self.get_mut().answer else { return Poll::Ready(None) };
        if let Some(behind) = this.behind.take() {
            return Poll::Ready(behind);
        }
        loop {
            if let Some(why) = this.over.take() {
                this.attempt.cut(&why);
                this.break_off(AttemptEnd::Abandoned);
                this.inner = Body::empty();
                return Poll::Ready(Some(Err(StreamBroken(why).into())));
            }
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
        self.answer.as_ref().is_none_or(|answer| answer.behind.is_none() && answer.ending.is_said())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.answer {
            Some(answer) if !answer.tap.withholds() => answer.inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for MeterBody {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.leave();
        }
    }
}
