use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::GatewayBuilder;
use super::stage::Stage;
use crate::body::{Body, BoxError};

/// The stages with a service behind them. Accepts any request body type, and is cheap to clone.
///
/// It is always ready; your inner service is made ready within each call.
pub struct GatewayService<E> {
    inner: Stage<E>,
}

/// A complete LLM gateway as one service: the stages, with dispatch and upstreams behind them.
///
/// Serve it with axum (`Router::fallback_service`, `nest_service`) or with plain hyper; see the examples.
pub type Gateway = GatewayService<Infallible>;

impl Gateway {
    /// Starts a builder without upstreams.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::new()
    }
}

impl<E> GatewayService<E> {
    pub(super) fn new(inner: Stage<E>) -> Self {
        GatewayService { inner }
    }
}

impl<E, ReqB> Service<Request<ReqB>> for GatewayService<E>
where
    ReqB: http_body::Body<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        self.inner.call(request.map(Body::new))
    }
}

impl<E> Clone for GatewayService<E> {
    fn clone(&self) -> Self {
        GatewayService { inner: self.inner.clone() }
    }
}

impl<E> fmt::Debug for GatewayService<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayService").finish_non_exhaustive()
    }
}
