use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::{Rewrite, RewriteFuture};
use crate::body::{Body, BoxError};
use crate::call::Call;

/// The service of a [`RewriteLayer`](super::RewriteLayer).
pub struct RewriteService<R, S> {
    rewrite: Arc<R>,
    inner: S,
}

impl<R, S> RewriteService<R, S> {
    pub(super) fn new(rewrite: Arc<R>, inner: S) -> Self {
        RewriteService { rewrite, inner }
    }
}

impl<R, S, ReqB, ResB> Service<Request<ReqB>> for RewriteService<R, S>
where
    R: Rewrite,
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = RewriteFuture<R, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let call = Call::of(&request).cloned();
        RewriteFuture::new(self.inner.call(request), self.rewrite.clone(), call)
    }
}

impl<R, S: Clone> Clone for RewriteService<R, S> {
    fn clone(&self) -> Self {
        RewriteService { rewrite: self.rewrite.clone(), inner: self.inner.clone() }
    }
}

impl<R, S: fmt::Debug> fmt::Debug for RewriteService<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewriteService")
            .field("rewrite", &std::any::type_name::<R>())
            .field("inner", &self.inner)
            .finish()
    }
}
