use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use tower::Service;

use super::closer::Closer;
use super::hidden::Hidden;
use super::{Call, CallFuture, CallLayer};
use crate::body::{Body, BoxError};
use crate::domain::dialect::{Dialect, Endpoint, Operation};
use crate::domain::principal::Principal;

/// Opens the call unless an outer layer has, and gives every answer its final form.
#[derive(Clone)]
pub struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> CallService<S> {
    pub(super) fn new(inner: S, layer: CallLayer) -> Self {
        CallService { inner, layer }
    }

    /// Wraps a layer of ours so that it works alone: it opens the call if it is the first to see the request.
    pub(crate) fn standing_alone(inner: S) -> Self {
        CallService { inner, layer: CallLayer::new() }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for CallService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        self.layer.around(request, |request| self.inner.call(request))
    }
}

impl CallLayer {
    /// Answers a request through `inner`, within the request's call, or within a call that is opened here.
    pub(crate) fn around<B, F>(&self, mut request: Request<B>, inner: impl FnOnce(Request<B>) -> F) -> CallFuture<F> {
        let closer = self.enter(&mut request);
        let is_head = request.method() == Method::HEAD;
        CallFuture::new(inner(request), closer, is_head)
    }

    fn enter<B>(&self, request: &mut Request<B>) -> Option<Closer> {
        let config = &self.config;
        let seen = || config.endpoint.unwrap_or_else(|| endpoint(request));
        let mut opened = None;
        let call = match Call::of(request) {
            Some(call) => {
                // An outer layer may have seen the path with the prefix of a mount, and not recognized it.
                if call.endpoint().operation == Operation::Other {
                    call.narrow(seen());
                }
                call
            }
            None => {
                let mut endpoint = seen();
                let hidden = if config.endpoint.is_some() { None } else { Hidden::of(request, endpoint) };
                if hidden == Some(Hidden::BySpelling) {
                    endpoint.dialect = Endpoint::dialect_of_misspelt(request.uri().path());
                }
                &opened.insert(Call::open(endpoint, hidden, config)).0
            }
        };
        // The host's own identity, picked up by whichever of our layers sees it first.
        if call.principal().is_none()
            && let Some(principal) = identified(request)
        {
            call.set_principal(principal);
        }
        if !config.observers.is_empty() || !config.openers.is_empty() {
            call.set_client(request.headers());
        }
        for observer in &config.observers {
            let observer = observer.clone();
            call.on_close(move |outcome| observer(outcome));
        }
        for opener in &config.openers {
            if catch_unwind(AssertUnwindSafe(|| opener(call))).is_err() {
                tracing::error!(call = %call.id(), "an on_open hook panicked");
            }
        }
        let (call, closer) = opened?;
        request.extensions_mut().insert(call);
        Some(closer)
    }
}

impl<S: fmt::Debug> fmt::Debug for CallService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallService").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

/// Whom the host has identified. Most hosts share one value between calls.
fn identified<B>(request: &Request<B>) -> Option<Arc<Principal>> {
    let extensions = request.extensions();
    extensions.get::<Arc<Principal>>().cloned().or_else(|| extensions.get::<Principal>().cloned().map(Arc::new))
}

/// The path decides. For paths that both families share, such as `/v1/models` without a family prefix, Anthropic's
/// version header decides.
pub(super) fn endpoint<B>(request: &Request<B>) -> Endpoint {
    let path = request.uri().path();
    let mut endpoint = Endpoint::of(path);
    let shared = matches!(endpoint.operation, Operation::ListModels | Operation::KeyInfo | Operation::Other);
    if shared && Endpoint::family(path).is_none() && request.headers().contains_key("anthropic-version") {
        endpoint.dialect = Dialect::Anthropic;
    }
    endpoint
}
