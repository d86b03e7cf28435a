use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Service, ServiceExt};

use crate::body::Body;

pub(super) type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// A service whose type is forgotten, shared by all who hold it.
///
/// A box that can be cloned is cloned with all the boxes in it, once more for each layer that keeps one of two. Of this
/// one a call takes a clone of the service within, which is handles alone, and makes that ready before it calls it.
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

    /// A service that is a function, and has nothing to be made ready.
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
