use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;

use super::{Rewrite, rewrite};
use crate::body::{Body, BoxError};
use crate::call::Call;

pin_project! {
    /// The future returned by a [`RewriteService`](super::RewriteService).
    pub struct RewriteFuture<R, F> {
        #[pin]
        inner: F,
        rewrite: Arc<R>,
        call: Option<Call>,
    }
}

impl<R, F> RewriteFuture<R, F> {
    pub(super) fn new(inner: F, rewrite: Arc<R>, call: Option<Call>) -> Self {
        RewriteFuture { inner, rewrite, call }
    }
}

impl<R, F, B, E> Future for RewriteFuture<R, F>
where
    R: Rewrite,
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?.map(Body::new);
        Poll::Ready(Ok(match this.call {
            Some(call) => rewrite(&**this.rewrite, call, response),
            None => response,
        }))
    }
}

impl<R, F> fmt::Debug for RewriteFuture<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewriteFuture").finish_non_exhaustive()
    }
}
