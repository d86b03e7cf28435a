use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::{Service, ServiceExt};

use super::wire::in_memory;
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;
use crate::meter::Meter;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A metered service, of which every attempt takes a clone of its own; what is shared is no box that a clone would make anew.
type Upstream = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// The upstreams of a gateway, by the names that targets call them by; each is metered.
#[derive(Clone, Default)]
pub struct Upstreams {
    by_name: BTreeMap<Arc<str>, Upstream>,
}

impl Upstreams {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an upstream: a [`Provider`](crate::upstream::Provider), or any service that answers in its dialect.
    #[must_use]
    pub fn add<S, ResB>(mut self, name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<ResB>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        ResB: http_body::Body<Data = Bytes> + Send + 'static,
        ResB::Error: Into<BoxError>,
    {
        let metered = Meter::new(service);
        self.by_name.insert(name.into(), Arc::new(move |request| Box::pin(metered.clone().oneshot(request))));
        self
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// Runs a call's attempts over its targets, in order: the innermost service of a stack.
///
/// The next target is tried only where the one before certainly never saw the request, so that nothing is paid for twice.
///
/// - **Reads:** the head, the route, the body in memory, the edits. **Adds:** an attempt a target tried.
/// - **Answers** 500 where a layer is missing, and whatever the last target answered.
#[derive(Debug, Clone)]
pub struct Dispatch {
    upstreams: Arc<Upstreams>,
}

impl Dispatch {
    /// Dispatches to these upstreams.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Dispatch { upstreams: Arc::new(upstreams) }
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let upstreams = self.upstreams.clone();
        Box::pin(async move { Ok(run(&upstreams, request).await.unwrap_or_else(Call::reject)) })
    }
}

async fn run(upstreams: &Upstreams, request: Request<Body>) -> Result<Response<Body>, Rejection> {
    let (parts, body) = request.into_parts();
    let call = Call::of_parts(&parts).cloned().ok_or_else(|| {
        Rejection::misconfigured(
            "no call has been opened: put `CallLayer`, or any layer of tollgate, outside of the dispatch",
        )
    })?;
    call.require_head()?;
    let bytes = in_memory(body)?;
    if call.dialect() == Dialect::OpenAiChat {
        call.ask_for_usage();
    }

    let mut parts = Some(parts);
    let mut targets = call.require_route()?.iter().peekable();
    while let Some(target) = targets.next() {
        let upstream = upstreams
            .by_name
            .get(&target.upstream)
            .ok_or_else(|| Rejection::misconfigured(format!("no upstream is called `{}`", target.upstream)))?;
        let attempt = call.toward(target.clone());
        let edited = attempt.edited(&bytes)?;
        let is_last = targets.peek().is_none();
        let Some(mut head) = (if is_last { parts.take() } else { parts.clone() }) else { break };
        head.headers.remove(header::CONTENT_LENGTH);
        match head.extensions.get_mut() {
            Some(call) => *call = attempt,
            None => drop(head.extensions.insert(attempt)),
        }
        let answer =
            upstream(Request::from_parts(head, Body::from(edited))).await.unwrap_or_else(|never| match never {});
        let unsent = answer.extensions().get::<Rejection>().is_some_and(Rejection::is_unsent);
        if is_last || !unsent {
            return Ok(as_the_client_knows_it(&call, answer));
        }
        tracing::info!(call = %call.id(), upstream = %target.upstream, "could not be reached; trying the next target");
    }
    Err(Rejection::misconfigured(
        "the router chose no target: a `Router` that finds none returns an empty list to `RouteLayer`",
    ))
}

/// Anthropic's "overloaded", here from a server that fronts Claude: OpenAI's clients know it as any 5xx, and agents among them
/// answer those with a storm of retries.
fn as_the_client_knows_it(call: &Call, mut answer: Response<Body>) -> Response<Body> {
    if answer.status().as_u16() == 529 && call.dialect() != Dialect::Anthropic {
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        answer.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
    }
    answer
}
