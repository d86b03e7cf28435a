use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::IngestLayer;
use super::read::read;
use crate::body::{Body, BoxError};
use crate::gate::GateFuture;

/// The service of an [`IngestLayer`](super::IngestLayer).
#[derive(Debug, Clone)]
pub struct Ingest<S> {
    inner: S,
    layer: IngestLayer,
}

impl<S> Ingest<S> {
    pub(super) fn new(inner: S, layer: IngestLayer) -> Self {
        Ingest { inner, layer }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Ingest<S>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone,
    ReqB: http_body::Body<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = GateFuture<S, Body>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        GateFuture::new(Box::pin(read(self.layer.clone(), request)), ready)
    }
}
