use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{Gate, Name};
use crate::body::{Body, BoxError};
use crate::call::{Call, DISCARD, discard};
use crate::domain::rejection::Rejection;

pub(crate) type Admission<B> = Pin<Box<dyn Future<Output = Result<Request<B>, Rejection>> + Send>>;

pin_project! {
    /// The future returned by a [`GateService`](super::GateService): the gate's refusal, or the inner service's answer.
    pub struct GateFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Admit { admission: Admission<B>, inner: S },
        Forward { #[pin] inner: S::Future },
    }
}

impl<S, B> GateFuture<S, B>
where
    S: Service<Request<B>>,
{
    /// Waits for `admission`, then passes its request to `inner`, which is ready.
    pub(crate) fn new(admission: Admission<B>, inner: S) -> Self {
        GateFuture { state: State::Admit { admission, inner } }
    }

    /// Only waits for the inner service.
    pub(super) fn passed(inner: S::Future) -> Self {
        GateFuture { state: State::Forward { inner } }
    }
}

/// Asks the gate, unless it has `decided`. If it refuses, reads what the client is still sending.
///
/// Not an `async fn`: its future would store each argument twice, once as passed and once as used by the body.
pub(super) fn admit<G, B>(
    gate: Arc<G>,
    name: Name,
    decided: Option<Result<(), Rejection>>,
    mut parts: Parts,
    body: B,
) -> Admission<B>
where
    G: Gate,
    B: http_body::Body<Data: Buf> + Send + 'static,
{
    Box::pin(async move {
        let call = Call::of_parts(&parts).cloned();
        let verdict = match (decided, call) {
            (Some(verdict), _) => verdict,
            (None, Some(call)) => {
                let before = name.before(&call, &parts.headers);
                let verdict = (*gate).admit(&mut parts, &call).await;
                name.decided(&call, before, &verdict);
                verdict
            }
            (None, None) => {
                Err(Rejection::misconfigured("a layer between two tollgate layers dropped the request's extensions"))
            }
        };
        match verdict {
            Ok(()) => Ok(Request::from_parts(parts, body)),
            Err(rejection) => {
                discard(&parts.headers, body, DISCARD).await;
                Err(rejection)
            }
        }
    })
}

impl<S, B, ResB> Future for GateFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let forward = match state.as_mut().project() {
                StateProj::Admit { admission, inner } => match ready!(admission.as_mut().poll(cx)) {
                    Ok(request) => inner.call(request),
                    Err(rejection) => return Poll::Ready(Ok(Response::from(rejection))),
                },
                StateProj::Forward { inner } => return inner.poll(cx).map_ok(|response| response.map(Body::new)),
            };
            state.set(State::Forward { inner: forward });
        }
    }
}

impl<S, B> fmt::Debug for GateFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateFuture").finish_non_exhaustive()
    }
}
