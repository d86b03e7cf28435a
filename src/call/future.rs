use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use pin_project_lite::pin_project;

use super::Ending;
use super::body::CallBody;
use super::closer::Closer;
use super::state::ClientEnd;
use crate::body::{Body, BoxError, forget_reason, is_plain};
use crate::dialect;
use crate::domain::dialect::Operation;
use crate::domain::outcome::Decision;
use crate::domain::rejection::Rejection;
use crate::domain::short::{REASON, shortened};

pin_project! {
    /// The answer of a [`CallService`](super::CallService).
    pub struct CallFuture<F> {
        #[pin]
        inner: Option<F>,
        closer: Option<Closer>,
        is_head: bool,
        // Whether the inner layers have seen the request. Before that, a cut would reach no layer.
        is_begun: bool,
    }
}

impl<F> CallFuture<F> {
    pub(super) fn new(inner: F, closer: Option<Closer>, is_head: bool) -> Self {
        CallFuture { inner: Some(inner), closer, is_head, is_begun: false }
    }
}

impl<F, B, E> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.closer.as_ref().and_then(Closer::call);
        let mut why = call.filter(|_| *this.is_begun).and_then(|call| call.poll_cut(cx));
        let mut polled = Poll::Pending;
        if why.is_none() {
            let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Pending };
            polled = inner.poll(cx);
            if polled.is_pending() && !std::mem::replace(this.is_begun, true) {
                why = call.and_then(|call| call.poll_cut(cx));
            }
        }
        if let Some(why) = why {
            // The work in progress ends before the client gets its answer.
            this.inner.set(None);
            let refused = Response::from(why);
            return Poll::Ready(Ok(match this.closer.take() {
                Some(closer) => at_the_door(refused, closer, *this.is_head),
                None => refused,
            }));
        }
        let answer = ready!(polled);
        Poll::Ready(match (answer, this.closer.take()) {
            (Ok(response), None) => Ok(response.map(Body::new)),
            (Ok(response), Some(closer)) => Ok(at_the_door(response.map(Body::new), closer, *this.is_head)),
            (Err(error), closer) => {
                if let Some(mut closer) = closer {
                    closer.end(ClientEnd::Failed, 0);
                }
                Err(error)
            }
        })
    }
}

impl<F> fmt::Debug for CallFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name that the Anthropic SDKs read.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Milliseconds (W3C Server Timing, section 3.1).
fn server_timing(own: Duration, upstream: Duration) -> HeaderValue {
    let millis = |took: Duration| format!("{}.{:03}", took.as_millis(), took.subsec_micros() % 1_000);
    let own = millis(own);
    let text = match upstream.is_zero() {
        true => format!("gateway;dur={own}"),
        false => format!("gateway;dur={own}, upstream;dur={}", millis(upstream)),
    };
    // Digits and plain letters are always a valid header value.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("gateway"))
}

fn at_the_door(mut response: Response<Body>, closer: Closer, is_head: bool) -> Response<Body> {
    let Some(call) = closer.call().cloned() else { return response };
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id: &str = call.id().hyphenated().encode_lower(&mut text);

    let rejection = response.extensions_mut().remove::<Rejection>();
    let is_refusal = rejection.is_some();
    if let Some(rejection) = &rejection {
        log(rejection, id);
    }
    // If a host's layer in between has changed the status, that status counts, and its own body, if it has one, is the
    // answer.
    let theirs = rejection.as_ref().and_then(|rejection| rejection.replaced_by(response.status()));
    // For HEAD, a framework in between has already dropped the body, so an empty body tells nothing.
    let is_empty = !is_head && response.body().size_hint().exact() == Some(0);
    let is_ours = is_refusal && (theirs.is_none() || is_empty);
    if let Some(rejection) = rejection.as_ref().filter(|_| is_ours) {
        let rendered = dialect::render(rejection, call.dialect(), id);
        let own = theirs.or_else(|| call.shared.manners.status(call.dialect(), rejection.kind()));
        *response.status_mut() = own.unwrap_or(rendered.status);
        forget_reason(response.extensions_mut());
        // A framework in between may have set headers for the placeholder body.
        for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING, header::ETAG] {
            response.headers_mut().remove(name);
        }
        response.headers_mut().extend(rendered.headers);
        *response.body_mut() = Body::from(rendered.body);
    }
    let status = response.status();
    // Answers of the host's other routes belong to the host: they get an id only if they have none.
    let ours = call.endpoint().operation != Operation::Other || rejection.is_some();
    let is_event_stream = ours && is_event_stream(response.headers());
    // Plain text in a compressed body would corrupt it.
    let is_coded = !is_plain(response.headers());
    let headers = response.headers_mut();
    if is_event_stream {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from_owner(text)) {
        for name in [X_REQUEST_ID, REQUEST_ID] {
            if ours || !headers.contains_key(&name) {
                headers.insert(name, value.clone());
            }
        }
    }
    {
        let after = call.elapsed();
        let mut state = call.state();
        state.client.status = Some(status);
        state.client.rejection = rejection.as_ref().map(Rejection::kind);
        // A refusal that no layer has recorded comes from some gate, ours or the host's.
        if let Some(rejection) = rejection.as_ref().filter(|rejection| !rejection.kind().is_upstream())
            && state.cut.is_none()
            && state.decisions.iter().all(|decision| decision.allowed)
        {
            state.decisions.push(Decision::refuse("stack", rejection.shared_message()));
        }
        state.client.reason = rejection.map(|rejection| shortened(rejection.shared_message(), REASON));
        state.client.head_after = Some(after);
        let own = after.saturating_sub(state.upstream_took);
        state.client.own = Some(own);
        if call.shared.manners.server_timing && ours {
            headers.append(SERVER_TIMING, server_timing(own, state.upstream_took));
        }
        // A refused call that was sent nowhere does not count against limits. For a call that was cut, that must be
        // certain.
        let is_cut = state.cut.as_ref().is_some_and(|(_, why)| state.client.rejection == Some(why.kind()));
        let counts = !is_refusal || !state.attempts.is_empty() || (is_cut && !state.metered);
        headers.reserve(state.answer_headers.len() + 6);
        for (name, value) in state.standings.headers(call.dialect(), counts) {
            headers.insert(name, value);
        }
        for (name, value, of_success) in state.answer_headers.drain(..) {
            if !of_success || status.is_success() {
                headers.insert(name, value);
            }
        }
    }
    if is_head || Ending::is_bodiless(&Method::GET, status) {
        return without_body(response, closer, is_head);
    }
    let is_event_stream = is_event_stream && !is_coded;
    response.map(|body| match CallBody::new(body, closer, is_event_stream) {
        body if is_ours => Body::own(body),
        body => call.cuttable(body),
    })
}

/// HTTP/1.1 never polls the body of such an answer, and HTTP/2 would send it, so it is removed. Its length is announced
/// if known: if a service has already left the body out of its answer to HEAD, the length is unknown.
fn without_body(response: Response<Body>, mut closer: Closer, is_head: bool) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if is_head
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
        && !Ending::is_bodiless(&Method::GET, parts.status)
        && let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
    {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    drop(body);
    closer.end(ClientEnd::Complete, 0);
    Response::from_parts(parts, Body::empty())
}

/// Whether the answer is an event stream, whatever the case and parameters of its content type.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Logs a rejection: a client's mistake at debug level, a fault of the gateway as an error.
pub(super) fn log(rejection: &Rejection, id: &str) {
    let (kind, internal) = (rejection.kind(), rejection.internal_message());
    match internal {
        Some(internal) => tracing::error!(call = id, ?kind, "{rejection}: {internal}"),
        None => tracing::debug!(call = id, ?kind, "refused: {rejection}"),
    }
}
