use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::Service;

use super::stage::{Answer, Stage};
use super::wire::in_memory;
use crate::body::{Body, BoxError, forget_reason};
use crate::call::Call;
use crate::dialect::{foreign_tool_ids, unsigned_thinking};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::target::Target;
use crate::meter::Meter;
use crate::translate::{Outbound, Passage, Translation};
use crate::wire::splice::Splice;

/// The upstreams of a gateway, by the names that targets use. Each is metered.
#[derive(Clone, Default)]
pub struct Upstreams {
    by_name: BTreeMap<Arc<str>, Stage<Infallible>>,
}

impl Upstreams {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
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
        self.by_name.insert(name.into(), Stage::new(Meter::new(service)));
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// Runs a call's attempts over its targets, in order. It is the innermost service of a stack.
///
/// The next target is tried only if the previous one certainly never saw the request, so that nothing is paid for
/// twice: the previous target could not be reached, or its dialect cannot express the request.
///
/// A target that speaks another dialect than the client receives the request in its own dialect, and its answer is
/// translated back: see [`translate`](crate::translate).
///
/// - **Reads:** the head, the route, the body in memory, the edits. **Adds:** one attempt for each target tried.
/// - **Answers:** 500 if a layer is missing, otherwise the answer of the last target that was tried. If that target
///   cannot be asked: the failure of an earlier target that could not be reached, since an outage passes, or else the
///   400 that names what cannot be expressed.
#[derive(Debug, Clone)]
pub struct Dispatch {
    upstreams: Arc<Upstreams>,
    translation: Translation,
}

impl Dispatch {
    /// Dispatches to these upstreams.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Dispatch { upstreams: Arc::new(upstreams), translation: Translation::new() }
    }

    /// Sets how requests and answers are translated.
    #[must_use]
    pub fn translation(mut self, translation: Translation) -> Self {
        self.translation = translation;
        self
    }

    /// Returns the future without a box, for the assembly, which has room for it.
    pub(super) fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let doorless = Call::doorless(&request);
        let attempts = Attempts::of(request, self.translation);
        let mut attempts = attempts.map_err(|rejection| Call::reject_for(rejection, doorless));
        let upstreams = self.upstreams.clone();
        async move {
            // By reference: otherwise the future stores them twice.
            Ok(match &mut attempts {
                Ok(attempts) => attempts.run(&upstreams).await.unwrap_or_else(Response::from),
                Err(refused) => std::mem::take(refused),
            })
        }
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.answer(request))
    }
}

/// What all attempts of a call start from.
struct Attempts {
    call: Call,
    /// Taken by the last attempt.
    head: Option<Parts>,
    body: Bytes,
    translation: Translation,
}

/// An attempt that has started, or that was answered without an upstream.
struct Begun {
    answering: Answer<Infallible>,
    /// Translates the answer into the client's dialect, if the target speaks another one.
    passage: Option<Box<Passage>>,
    is_last: bool,
}

impl Attempts {
    fn of(request: Request<Body>, translation: Translation) -> Result<Self, Rejection> {
        let (mut head, body) = request.into_parts();
        // Before a clone of the call captures the earlier state.
        let body = in_memory(body).map(|body| Call::unedited(&mut head, body));
        let call = Call::of_parts(&head).cloned().ok_or_else(|| {
            Rejection::misconfigured(
                "no call has been opened: put `CallLayer`, or any other tollgate layer, outside of the dispatch",
            )
        })?;
        call.require_head()?;
        let body = body?;
        call.require_route()?;
        call.check_governed()?;
        // Each upstream has its meter.
        call.set_metered();
        if call.dialect() == Dialect::OpenAiChat {
            call.ask_for_usage();
        }
        Ok(Attempts { call, head: Some(head), body, translation })
    }

    async fn run(&mut self, upstreams: &Upstreams) -> Result<Response<Body>, Rejection> {
        // The error for the client if the last target cannot be asked. An outage takes precedence, because it passes: a
        // client that is told that its request is unsupported does not retry.
        let mut told: Option<Box<Rejection>> = None;
        for at in 0.. {
            let begun = match self.begin(upstreams, at) {
                Err(rejection) if rejection.kind() == RejectionKind::Unsupported => {
                    self.passes_over(at, "this upstream does not support the request");
                    told.get_or_insert_with(|| Box::new(rejection));
                    continue;
                }
                begun => begun?,
            };
            let Some(Begun { answering, passage, is_last }) = begun else { break };
            let mut answer = answering.await.unwrap_or_else(|never| match never {});
            let refused = answer.extensions().get::<Rejection>();
            // A rejection by a layer before the upstream concerns the whole call, not only this target.
            let unsent = refused
                .is_some_and(|why| why.is_unsent() || (why.kind().is_upstream() && self.call.last_attempt_is_unsent()));
            if is_last || !unsent {
                return Ok(match passage {
                    Some(passage) => passage.back(answer).await,
                    None => as_the_client_knows_it(&self.call, answer),
                });
            }
            self.passes_over(at, "this upstream could not be reached");
            told = answer.extensions_mut().remove().map(Box::new);
        }
        Err(told.map_or_else(
            || {
                Rejection::misconfigured(
                    "the call has a route without a target: a `Route` that finds no target must return an empty list to `RouteLayer`, which refuses the call",
                )
            },
            |rejection| *rejection,
        ))
    }

    fn passes_over(&self, at: usize, why: &str) {
        let upstream = self.call.route().and_then(|targets| targets.get(at)).map(|target| &*target.upstream);
        tracing::info!(call = %self.call.id(), upstream, "{why}; trying the next target, if there is one");
    }

    /// Starts the attempt at target number `at`, if there is one. The future that awaits it stores nothing of this
    /// function.
    fn begin(&mut self, upstreams: &Upstreams, at: usize) -> Result<Option<Begun>, Rejection> {
        let targets = self.call.require_route()?;
        let Some(target) = targets.get(at) else { return Ok(None) };
        let upstream = upstreams
            .by_name
            .get(&target.upstream)
            .ok_or_else(|| Rejection::misconfigured(format!("no upstream has the name `{}`", target.upstream)))?;
        let attempt = self.call.toward(target.clone());
        let is_last = at + 1 == targets.len();
        let Some(mut head) = (if is_last { self.head.take() } else { self.head.clone() }) else { return Ok(None) };
        let (body, mut passage) = if target.dialect == self.call.dialect() {
            head.headers.remove(header::CONTENT_LENGTH);
            if at > 0 {
                // Clear the warning about what the translation for an earlier target lost.
                self.call.warn(None);
            }
            (self.readable(target, attempt.edited(&self.body)?)?, None)
        } else {
            self.call.require_head()?.require_of(&self.body)?;
            match self.translation.outbound(&self.call, target, &mut head, &self.body)? {
                Outbound::Send(body, passage) => (body, Some(passage)),
                Outbound::Answer(answer) => {
                    self.call.asks_nobody();
                    let answering: Answer<Infallible> = Box::pin(std::future::ready(Ok(answer)));
                    return Ok(Some(Begun { answering, passage: None, is_last }));
                }
            }
        };
        match head.extensions.get_mut() {
            Some(call) => *call = attempt,
            None => drop(head.extensions.insert(attempt)),
        }
        if let Some(passage) = &mut passage {
            let upstream = upstream.clone();
            passage.ask_again(&head, move |request| {
                let answering = upstream.call(request);
                Box::pin(async move { answering.await.unwrap_or_else(|never| match never {}) })
            });
        }
        let answering = upstream.call(Request::from_parts(head, Body::from(body)));
        Ok(Some(Begun { answering, passage, is_last }))
    }

    /// Removes thinking blocks that another provider produced in this conversation, and puts its ids of tool calls into
    /// Claude's form: because of either, Claude's API would reject the whole request.
    fn readable(&self, target: &Target, body: Bytes) -> Result<Bytes, Rejection> {
        // Other servers that speak Messages do not sign thinking, and some need their own back.
        if target.dialect != Dialect::Anthropic || !target.model.contains("claude") {
            return Ok(body);
        }
        let (unsigned, foreign) = (unsigned_thinking(&body), foreign_tool_ids(&body));
        let warning = match (unsigned.is_empty(), foreign.is_empty()) {
            (true, true) => return Ok(body),
            (false, true) => "dropped=thinking",
            (true, false) => "adapted=tool_use_id",
            (false, false) => "dropped=thinking; adapted=tool_use_id",
        };
        if !self.translation.is_silent() {
            self.call.warn(Some(warning));
        }
        let mut edits: Vec<_> = unsigned.into_iter().map(|span| (span, String::new())).chain(foreign).collect();
        // Out of order, each edit would move all that come after it.
        edits.sort_unstable_by_key(|(span, _)| span.start);
        let mut splice = Splice::new();
        edits.into_iter().for_each(|(span, with)| _ = splice.replace(span, with));
        splice
            .apply(&body)
            .map_err(|error| Rejection::misconfigured(format!("the history could not be adapted to Claude: {error}")))
    }
}

/// Turns Anthropic's 529 "overloaded", here from a server that fronts Claude, into 429: OpenAI's clients treat it as
/// any other 5xx, and some agents answer a 5xx with a storm of retries.
fn as_the_client_knows_it(call: &Call, mut answer: Response<Body>) -> Response<Body> {
    if answer.status().as_u16() == 529 && call.dialect() != Dialect::Anthropic {
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        forget_reason(answer.extensions_mut());
        answer.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
    }
    answer
}
