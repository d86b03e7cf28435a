use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Ending;
use super::closer::Closer;
use super::state::ClientEnd;
use crate::body::{Body, BoxError};
use crate::dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// The client's body: passes on the inner body and tells the closer how it ended.
pub(super) struct CallBody {
    inner: Body,
    closer: Closer,
    ending: Ending,
    bytes_out: u64,
    /// The last two bytes sent of an event stream, to know whether an event is open; `None` for other answers.
    tail: Option<[u8; 2]>,
    /// The answer has been given up.
    broken: bool,
    /// The final event or error, sent at the next poll.
    farewell: Option<Result<Bytes, BoxError>>,
    /// hyper has had a chance to flush the bytes sent before.
    flushed: bool,
}

impl CallBody {
    pub(super) fn new(inner: Body, mut closer: Closer, is_event_stream: bool) -> Self {
        let ending = Ending::new(false, &inner);
        // An answer with an announced length has no room for an error event.
        let is_event_stream = is_event_stream && http_body::Body::size_hint(&inner).exact().is_none();
        if ending.is_done() {
            closer.end(ClientEnd::Complete, 0);
        }
        CallBody {
            inner,
            closer,
            ending,
            bytes_out: 0,
            tail: is_event_stream.then_some(*b"\n\n"),
            broken: false,
            farewell: None,
            flushed: false,
        }
    }

    fn count(&mut self, data: &Bytes) {
        if self.bytes_out == 0
            && let Some(call) = self.closer.call()
        {
            let after = call.elapsed();
            call.state().client.first_byte_after = Some(after);
        }
        self.bytes_out += data.len() as u64;
        if let Some(tail) = &mut self.tail {
            if data.ends_with(b"\n\n") {
                *tail = *b"\n\n";
                return;
            }
            // A CR is part of a line end; its LF tells the same.
            let mut last = data.iter().rev().copied().filter(|byte| *byte != b'\r');
            *tail = match (last.next(), last.next()) {
                (Some(b), Some(a)) => [a, b],
                (Some(b), None) => [tail[1], b],
                _ => *tail,
            };
        }
    }

    /// The error event for a stream that breaks between events, which SDKs raise as an error. Within an event there is
    /// none: only closing the connection is correct there.
    fn error_event(&self, error: &BoxError) -> Option<Bytes> {
        let call = self.closer.call()?;
        if self.tail != Some(*b"\n\n") {
            return None;
        }
        let rejection = error.downcast_ref::<StreamBroken>().map_or_else(
            || Rejection::new(RejectionKind::UpstreamUnreachable, "the upstream's answer was cut off"),
            |e| e.0.clone(),
        );
        Some(dialect::error_event(&rejection, call.dialect(), &call.id().to_string()))
    }
}

impl CallBody {
    /// Ends the client's side: with an error event if there is room for one, otherwise by breaking the connection.
    fn break_off(&mut self, error: BoxError, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.give_up(error);
        self.poll_farewell(cx)
    }

    /// Like `break_off`, called from outside; it takes effect at the next poll. If the body has already ended, nothing
    /// happens.
    pub(super) fn cut(&mut self, why: &Rejection) {
        self.inner = Body::empty();
        match self.closer.call() {
            // The answer was already complete: an error after it would spoil a good answer.
            Some(call) if self.bytes_out > 0 && call.last_attempt_is_whole() => {
                self.broken = true;
                self.closer.end(ClientEnd::Complete, self.bytes_out);
            }
            Some(_) => self.give_up(StreamBroken(why.clone()).into()),
            None => {}
        }
    }

    /// Drops the answer and ends the client's side.
    fn give_up(&mut self, error: BoxError) {
        let event = self.error_event(&error);
        self.bytes_out += event.as_ref().map_or(0, |event| event.len() as u64);
        tracing::warn!(call = self.closer.call().map(|c| tracing::field::display(c.id())), %error, "an answer was cut off");
        self.broken = true;
        self.farewell = Some(event.ok_or(error));
        self.inner = Body::empty();
        self.closer.end(ClientEnd::Failed, self.bytes_out);
    }

    /// Sends the final event or error of a broken answer, after which nothing follows.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // hyper drops unflushed bytes when a body fails. Returning `Pending` once lets it flush the bytes before the
        // error.
        if matches!(self.farewell, Some(Err(_))) && !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.farewell.take().map(|told| told.map(Frame::data)))
    }
}

/// A mid-stream error that carries the rejection for the client.
#[derive(Debug)]
pub(crate) struct StreamBroken(pub(crate) Rejection);

impl std::fmt::Display for StreamBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StreamBroken {}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.broken {
            return this.poll_farewell(cx);
        }
        // By reference, and returned in place: each move would be one more per frame.
        let mut polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(came) = &mut polled {
            if let Some(Ok(frame)) = came
                && let Some(data) = frame.data_ref()
            {
                this.count(data);
            }
            if this.ending.after(came.as_ref(), &this.inner) {
                this.closer.end(ClientEnd::Complete, this.bytes_out);
            }
            if let Some(error) = came.take_if(|came| came.is_err()).and_then(Result::err) {
                polled = this.break_off(error, cx);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        !self.broken && self.ending.is_said()
    }

    fn size_hint(&self) -> SizeHint {
        // A cut answer ends with an event or error of another length than the inner body's.
        if self.broken { SizeHint::default() } else { self.inner.size_hint() }
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        // The inner body first: its attempt ends as abandoned before the call asks how it ended.
        self.inner = Body::empty();
        let end = match self.closer.call() {
            _ if self.ending.is_done() => ClientEnd::Complete,
            _ if std::thread::panicking() => ClientEnd::Failed,
            // The complete answer had been handed out when the client left.
            Some(call) if self.bytes_out > 0 && call.last_attempt_is_whole() => ClientEnd::Complete,
            _ => ClientEnd::Abandoned,
        };
        self.closer.end(end, self.bytes_out);
    }
}
