use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::request::Passage;
use crate::body::{Body, BoxError};
use crate::dialect::canon::fault::Fault;
use crate::dialect::translate::StreamTranslator;

/// The interval at which a silent stream is checked: a client hears something at least every other time.
const QUIET: Duration = Duration::from_secs(7);

/// A stream that is translated into the client's dialect.
pub(super) struct TranslatedBody {
    inner: Body,
    translator: StreamTranslator,
    out: BytesMut,
    /// Fires regardless of what was sent: resetting it for each event would cost more than the event.
    quiet: Pin<Box<Sleep>>,
    has_spoken: bool,
    passage: Arc<Passage>,
    /// Requests the rest of an answer that paused.
    resuming: Option<Resuming>,
    is_over: bool,
}

type Resuming = Pin<Box<dyn Future<Output = Result<(Body, bool), Fault>> + Send>>;

impl TranslatedBody {
    /// `out` has been translated already.
    pub(super) fn new(inner: Body, translator: StreamTranslator, out: BytesMut, passage: Arc<Passage>) -> Self {
        let quiet = Box::pin(tokio::time::sleep(QUIET));
        let (has_spoken, resuming, is_over) = (false, None, false);
        TranslatedBody { inner, translator, out, quiet, has_spoken, passage, resuming, is_over }
    }

    /// The upstream's next frame, from whichever part of the answer.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(resuming) = &mut self.resuming {
            let next = ready!(resuming.as_mut().poll(cx));
            self.resuming = None;
            match next {
                Ok((body, true)) => {
                    self.translator.resume();
                    self.inner = body;
                }
                Ok((_, false)) => self.fail(&Fault::garbled("the upstream continued a stream with plain JSON")),
                Err(fault) => self.fail(&fault),
            }
        }
        http_body::Body::poll_frame(Pin::new(&mut self.inner), cx)
    }

    fn fail(&mut self, fault: &Fault) {
        self.passage.call.tells_of_failure();
        self.translator.fail(&self.passage.shown(fault), &mut self.out);
        self.inner = Body::empty();
        self.is_over = true;
    }

    /// The upstream has sent everything, or has paused and wants to be asked for the rest.
    fn end(&mut self) {
        if let Err(fault) = self.translator.try_finish(&mut self.out) {
            return self.fail(&fault);
        }
        match self.translator.going_on(&self.passage.asked) {
            Some(next) => {
                let passage = self.passage.clone();
                self.resuming = Some(Box::pin(async move { passage.go_on(next.into()).await }));
            }
            None => {
                self.is_over = true;
                if self.translator.has_guessed() {
                    self.passage.usage_is_not_stated();
                }
            }
        }
    }

    /// The upstream is silent. If that has been so for long, ends an answer that is whole, which is returned, or writes a
    /// keep-alive.
    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        while self.quiet.as_mut().poll(cx).is_ready() {
            self.quiet.as_mut().reset(Instant::now() + QUIET);
            if self.resuming.is_none() && self.translator.is_over() {
                self.inner = Body::empty();
                self.end();
                return true;
            }
            if !std::mem::take(&mut self.has_spoken) {
                self.translator.keep_alive(&mut self.out);
            }
        }
        false
    }
}

impl http_body::Body for TranslatedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                this.has_spoken = true;
                return Poll::Ready(Some(Ok(Frame::data(this.out.split().freeze()))));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let Poll::Ready(frame) = this.poll_inner(cx) else {
                if this.wait(cx) || !this.out.is_empty() {
                    continue;
                }
                return Poll::Pending;
            };
            match frame {
                Some(Ok(frame)) => {
                    // The upstream's trailers are dropped. What follows the end is still read, so that the attempt ends
                    // properly.
                    if let Ok(chunk) = frame.into_data()
                        && let Err(fault) = this.translator.try_push(&chunk, &mut this.out)
                    {
                        this.fail(&fault);
                    }
                }
                // Nothing is lost after a complete answer.
                Some(Err(_)) if this.translator.has_all() => this.end(),
                // The door reports it in the client's form.
                Some(Err(error)) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.end(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.out.is_empty()
    }
}
