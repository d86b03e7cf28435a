use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::MeterFuture;
use crate::body::{Body, BoxError, accept_what_is_read};
use crate::call::Call;

/// The service of a [`MeterLayer`](super::MeterLayer).
#[derive(Debug, Clone)]
pub struct Meter<S> {
    inner: S,
}

impl<S> Meter<S> {
    /// For a request that already has a call; [`MeterLayer`](super::MeterLayer) accepts any request.
    pub(crate) fn new(inner: S) -> Self {
        Meter { inner }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Meter<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MeterFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let call = request.extensions_mut().get_mut::<Call>();
        let has_head = call.as_ref().is_some_and(|call| call.endpoint().has_head());
        let attempt = call.map(Call::begin_attempt_of);
        if has_head {
            accept_what_is_read(request.headers_mut());
        }
        let method = request.method().clone();
        MeterFuture::new(self.inner.call(request), attempt, has_head, method)
    }
}
