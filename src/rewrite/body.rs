use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body::Frame;

use super::{Rewrite, Rewriter};
use crate::body::{Body, BoxError, Gunzip, is_plain};
use crate::call::{Call, StreamBroken, is_event_stream};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::sse::Scanner;

/// The most that a compressed stream may decompress to in total.
const MOST_STREAMED: usize = 1 << 30;

/// Rewrites an event stream with a rewriter from `with`, if it provides one.
pub(crate) fn rewrite<R: Rewrite>(with: &R, call: &Call, response: Response<Body>) -> Response<Body> {
    if !is_event_stream(response.headers()) {
        return response;
    }
    let (mut parts, mut body) = response.into_parts();
    let Some(rewriter) = with.begin(call, &parts) else { return Response::from_parts(parts, body) };
    if !is_readable(&parts.headers) {
        // Passing it on would bypass a rewriter that redacts.
        let message = "the upstream sent a stream in a content-encoding that was not requested and cannot be rewritten";
        return Response::from(Rejection::new(RejectionKind::UpstreamGarbled, message));
    }
    if Gunzip::is_needed(&parts.headers) {
        body = Gunzip::body(body, MOST_STREAMED);
        parts.headers.remove(header::CONTENT_ENCODING);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::ETAG);
    let body = RewriteBody {
        inner: body,
        rewriter,
        scanner: Scanner::new(),
        out: BytesMut::new(),
        stage: Stage::Flowing,
        trailers: None,
    };
    Response::from_parts(parts, Body::own(body))
}

/// Whether the stream's encoding can be decoded.
fn is_readable(headers: &HeaderMap) -> bool {
    is_plain(headers) || Gunzip::is_needed(headers)
}

struct RewriteBody<R> {
    inner: Body,
    rewriter: R,
    scanner: Scanner,
    out: BytesMut,
    stage: Stage,
    trailers: Option<Frame<Bytes>>,
}

enum Stage {
    Flowing,
    /// The rewriter failed; the error follows what it had already written.
    Broken(Option<Rejection>),
    Over,
}

impl<R: Rewriter> RewriteBody<R> {
    fn push(&mut self, chunk: &[u8]) -> Result<(), Rejection> {
        let (rewriter, out) = (&mut self.rewriter, &mut self.out);
        let mut verdict = Ok(());
        let scanned = self.scanner.push(chunk, |block| {
            if verdict.is_ok() {
                verdict = rewriter.block(&block, out);
            }
        });
        verdict?;
        scanned.map_err(|_| {
            Rejection::new(RejectionKind::UpstreamGarbled, "the upstream sent an event larger than 16 MiB")
        })
    }

    fn finish(&mut self) -> Result<(), Rejection> {
        let (rewriter, out) = (&mut self.rewriter, &mut self.out);
        let (mut verdict, mut lacks_its_end) = (Ok(()), false);
        let whole = self.scanner.finish(|block| (verdict, lacks_its_end) = (rewriter.block(&block, out), true));
        verdict?;
        // An unfinished comment is no loss.
        if whole.is_err() && has_data(self.scanner.pending()) {
            // Passing on a part of an event would bypass a rewriter that redacts.
            let message = "the upstream's stream ended in the middle of an event";
            return Err(Rejection::new(RejectionKind::UpstreamGarbled, message));
        }
        let at = out.len();
        rewriter.finish(out)?;
        if lacks_its_end && out.len() > at {
            // Terminates an event that the stream left open, before what the rewriter adds.
            let last = out.split_off(at);
            out.extend_from_slice(b"\n\n");
            out.unsplit(last);
        }
        Ok(())
    }
}

/// Whether the pending bytes contain a part of an event's data.
fn has_data(pending: &[u8]) -> bool {
    pending.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| line.starts_with(b"data"))
}

impl<R: Rewriter> http_body::Body for RewriteBody<R> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(this.out.split().freeze()))));
            }
            match &mut this.stage {
                Stage::Over => return Poll::Ready(this.trailers.take().map(Ok)),
                Stage::Broken(rejection) => {
                    let rejection = rejection.take();
                    this.stage = Stage::Over;
                    return Poll::Ready(rejection.map(|r| Err(StreamBroken(r).into())));
                }
                Stage::Flowing => {}
            }
            let step = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => this.push(&chunk),
                    Err(trailers) => {
                        // What was held back is sent before the trailers, after which nothing is read.
                        this.trailers = Some(trailers);
                        this.stage = Stage::Over;
                        this.finish()
                    }
                },
                Some(Err(error)) => {
                    // An event may be held back in part here. It was not sent, so there is room for an error event at
                    // the door.
                    this.stage = Stage::Over;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.stage = Stage::Over;
                    this.finish()
                }
            };
            if let Err(rejection) = step {
                this.stage = Stage::Broken(Some(rejection));
                this.inner = Body::empty();
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.out.is_empty() && self.trailers.is_none()
    }
}
