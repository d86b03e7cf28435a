use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use tower::Service;

use super::future::admit;
use super::{Gate, GateFuture, Name};
use crate::body::{Body, BoxError};
use crate::call::Call;

/// The service of a [`GateLayer`](super::GateLayer).
pub struct GateService<G, S> {
    gate: Arc<G>,
    name: Name,
    inner: S,
}

impl<G, S> GateService<G, S> {
    pub(super) fn new(gate: Arc<G>, name: Name, inner: S) -> Self {
        GateService { gate, name, inner }
    }
}

impl<G, S, ReqB, ResB> Service<Request<ReqB>> for GateService<G, S>
where
    G: Gate,
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    ReqB: http_body::Body<Data: Buf> + Send + 'static,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = GateFuture<S, ReqB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let call = Call::of_parts(&parts).cloned();
        let decided = call.and_then(|call| {
            let before = self.name.before(&call, &parts.headers);
            let verdict = self.gate.decide(&mut parts, &call);
            verdict.inspect(|verdict| self.name.decided(&call, before, verdict))
        });
        if let Some(Ok(())) = decided {
            return GateFuture::passed(self.inner.call(Request::from_parts(parts, body)));
        }
        // The clone is not ready; this one is. So this one is used, and the clone stays.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        GateFuture::new(admit(self.gate.clone(), self.name, decided, parts, body), ready)
    }
}

impl<G, S: Clone> Clone for GateService<G, S> {
    fn clone(&self) -> Self {
        GateService { gate: self.gate.clone(), name: self.name, inner: self.inner.clone() }
    }
}

impl<G, S: fmt::Debug> fmt::Debug for GateService<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateService").field("gate", &std::any::type_name::<G>()).field("inner", &self.inner).finish()
    }
}
