use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Service, ServiceExt};

use crate::body::Body;

pub(super) type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// A type-erased service, shared by all its holders.
///
/// Cloning a boxed service clones every box inside it, once more for each layer that holds a copy. Here a call clones
/// only the service inside, which consists of handles, and makes that clone ready before calling it.
pub(super) struct Stage<E> {
    call: Arc<dyn Fn(Request<Body>) -> Answer<E> + Send + Sync>,
}

impl<E> Stage<E> {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        E: 'static,
    {
        Stage::by(move |request| service.clone().oneshot(request))
    }

    /// Creates a stage from a function, which is always ready.
    pub(super) fn by<F>(answer: impl Fn(Request<Body>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
    {
        Stage { call: Arc::new(move |request| Box::pin(answer(request))) }
    }

    pub(super) fn call(&self, request: Request<Body>) -> Answer<E> {
        (self.call)(request)
    }
}

impl<E> Service<Request<Body>> for Stage<E> {
    type Response = Response<Body>;
    type Error = E;
    type Future = Answer<E>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer<E> {
        Stage::call(self, request)
    }
}

impl<E> Clone for Stage<E> {
    fn clone(&self) -> Self {
        Stage { call: self.call.clone() }
    }
}
