use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use crate::body::{Body, BoxError};
use crate::dialect::translate::StreamTranslator;

/// A stream on its way into the client's dialect.
pub(super) struct TranslatedBody {
    inner: Body,
    translator: StreamTranslator,
    out: BytesMut,
    is_over: bool,
}

impl TranslatedBody {
    /// `out` is what has been said already.
    pub(super) fn new(inner: Body, translator: StreamTranslator, out: BytesMut) -> Self {
        TranslatedBody { inner, translator, out, is_over: false }
    }
}

impl http_body::Body for TranslatedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(this.out.split().freeze()))));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
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
