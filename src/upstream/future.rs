use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;
use tower::util::Oneshot;

use super::answer::{Asked, clean};
use super::idle::{IdleBody, Patience};
use super::unreachable::unreachable;
use crate::body::{Body, BoxError};
use crate::domain::rejection::{Rejection, RejectionKind};

pin_project! {
    /// The future returned by a [`Provider`](super::Provider).
    pub struct ProviderFuture<C>
    where
        C: Service<Request<Body>>,
    {
        #[pin]
        state: State<C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<C>
    where
        C: Service<Request<Body>>,
    {
        // Answered, either without having been sent or afterwards.
        Answered { answer: Option<Response<Body>> },
        Sent {
            #[pin]
            answer: Oneshot<C, Request<Body>>,
            asked: Asked,
            first_byte: Duration,
            idle: Duration,
            patience: Patience,
        },
    }
}

impl<C> ProviderFuture<C>
where
    C: Service<Request<Body>>,
{
    pub(super) fn refused(answer: Response<Body>) -> Self {
        ProviderFuture { state: State::Answered { answer: Some(answer) } }
    }

    /// Waits for `answer` up to `first_byte`. Its body may then be silent up to `idle`.
    pub(super) fn sent(answer: Oneshot<C, Request<Body>>, asked: Asked, first_byte: Duration, idle: Duration) -> Self {
        let patience = Patience::default();
        ProviderFuture { state: State::Sent { answer, asked, first_byte, idle, patience } }
    }
}

impl<C, ResB> Future for ProviderFuture<C>
where
    C: Service<Request<Body>, Response = Response<ResB>, Error: Into<BoxError>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let answered = match state.as_mut().project() {
            StateProj::Answered { answer } => match answer.take() {
                Some(answer) => return Poll::Ready(Ok(answer)),
                None => return Poll::Pending,
            },
            StateProj::Sent { answer, asked, first_byte, idle, patience } => match answer.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    let patience = std::mem::take(patience);
                    let response = response.map(|body| Body::own(IdleBody::new(body, *idle, patience)));
                    clean(response, asked)
                }
                Poll::Ready(Err(error)) => Err(unreachable(&error.into())),
                Poll::Pending if patience.poll_lost(*first_byte, cx).is_ready() => {
                    let message = "the upstream did not begin to answer in time";
                    Err(Rejection::new(RejectionKind::UpstreamTimeout, message))
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        // A request that is given up is dropped now, not when someone drops this future.
        state.set(State::Answered { answer: None });
        Poll::Ready(Ok(answered.unwrap_or_else(Response::from)))
    }
}

impl<C> fmt::Debug for ProviderFuture<C>
where
    C: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFuture").finish_non_exhaustive()
    }
}
