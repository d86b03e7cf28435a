use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BoxError};
use crate::dialect::translate::StreamTranslator;

/// How often a silent stream is looked after: a client hears something at least every other time.
const QUIET: Duration = Duration::from_secs(7);

/// A stream on its way into the client's dialect.
pub(super) struct TranslatedBody {
    inner: Body,
    translator: StreamTranslator,
    out: BytesMut,
    /// Rings whether or not something was said: to move it for each event would cost more than the event.
    quiet: Pin<Box<Sleep>>,
    has_spoken: bool,
    is_over: bool,
}

impl TranslatedBody {
    /// `out` is what has been said already.
    pub(super) fn new(inner: Body, translator: StreamTranslator, out: BytesMut) -> Self {
        let quiet = Box::pin(tokio::time::sleep(QUIET));
        TranslatedBody { inner, translator, out, quiet, has_spoken: false, is_over: false }
    }

    /// The upstream is silent. Writes a sign of life if it has been for long.
    fn wait(&mut self, cx: &mut Context<'_>) {
        while self.quiet.as_mut().poll(cx).is_ready() {
            self.quiet.as_mut().reset(Instant::now() + QUIET);
            if !std::mem::take(&mut self.has_spoken) {
                self.translator.keep_alive(&mut self.out);
            }
        }
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
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
                this.wait(cx);
                if this.out.is_empty() {
                    return Poll::Pending;
                }
                continue;
            };
            match frame {
                Some(Ok(frame)) => {
                    // Trailers are the upstream's. What comes behind the end is read, so that the attempt ends well.
                    if let Ok(chunk) = frame.into_data()
                        && let Err(fault) = this.translator.try_push(&chunk, &mut this.out)
                    {
                        this.translator.fail(&fault, &mut this.out);
                        this.inner = Body::empty();
                        this.is_over = true;
                    }
                }
                // Behind a whole answer nothing is lost.
                Some(Err(_)) if this.translator.is_over() => this.is_over = true,
                // The door says so, in the client's shape.
                Some(Err(error)) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.is_over = true;
                    this.translator.finish(&mut this.out);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.out.is_empty()
    }
}
