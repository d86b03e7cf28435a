use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, Response, StatusCode};
use pin_project_lite::pin_project;

use super::body::MeterBody;
use super::tap::{MOST_STREAMED, Tap};
use crate::body::{Body, BoxError, Gunzip};
use crate::call::{AttemptGuard, Ending, is_event_stream};
use crate::domain::dialect::Dialect;
use crate::domain::outcome::AttemptEnd;
use crate::domain::rejection::{Rejection, RejectionKind};

pin_project! {
    /// The future returned by a [`Meter`](super::Meter).
    pub struct MeterFuture<F> {
        #[pin]
        inner: F,
        attempt: Option<AttemptGuard>,
        has_head: bool,
        method: Method,
    }
}

impl<F> MeterFuture<F> {
    pub(super) fn new(inner: F, attempt: Option<AttemptGuard>, has_head: bool, method: Method) -> Self {
        MeterFuture { inner, attempt, has_head, method }
    }
}

impl<F, B, E> Future for MeterFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let Some(mut attempt) = this.attempt.take() else {
            return Poll::Ready(answer.map(|response| response.map(Body::new)));
        };
        let response = match answer {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                attempt.end(AttemptEnd::NoAnswer);
                return Poll::Ready(Err(error));
            }
        };
        if attempt.is_taken_over() {
            let is_answer = response.status().is_success() && response.extensions().get::<Rejection>().is_none();
            match is_answer.then(|| attempt.anew()).flatten() {
                Some(again) => attempt = again,
                None => return Poll::Ready(Ok(aside(response, attempt, this.method))),
            }
        }
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            if let Some(status) = rejection.upstream_status() {
                attempt.head(status, None);
            }
            let end = failed(rejection);
            attempt.end(end);
            return Poll::Ready(Ok(response));
        }
        let status = response.status();
        attempt.head(status, upstream_request_id(response.headers()));
        if has_only_waited(status) {
            attempt.end(AttemptEnd::NoAnswer);
            return Poll::Ready(Ok(response));
        }
        // Responses is not read yet: no usage is better than a wrong one.
        let is_read = |dialect: &Dialect| *this.has_head && status.is_success() && *dialect != Dialect::OpenAiResponses;
        let dialect = attempt.dialect().filter(is_read);
        let withholds = dialect == Some(Dialect::OpenAiChat) && attempt.withholds_usage();
        Poll::Ready(Ok(metered(response, attempt, dialect, withholds, this.method)))
    }
}

/// Meters the answer as one in this dialect.
fn metered(
    response: Response<Body>,
    attempt: AttemptGuard,
    dialect: Option<Dialect>,
    withholds: bool,
    method: &Method,
) -> Response<Body> {
    let status = response.status();
    let bodiless = Ending::is_bodiless(method, status);
    let failed = status.is_client_error() || status.is_server_error();
    let (mut parts, mut body) = response.into_parts();
    let tap = match dialect {
        Some(dialect) => {
            if withholds && is_event_stream(&parts.headers) && Gunzip::is_needed(&parts.headers) {
                body = Gunzip::body(body, MOST_STREAMED);
                parts.headers.remove(header::CONTENT_ENCODING);
            }
            Tap::new(dialect, &parts.headers, withholds)
        }
        None if failed => Tap::of_error(&parts.headers),
        None => Tap::none(),
    };
    if tap.withholds() {
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::ETAG);
    }
    let body = Body::own(MeterBody::new(body, attempt, tap, bodiless, failed));
    Response::from_parts(parts, body)
}

/// The inner meter counts this answer. A chunk that only we asked for must still be removed, whether or not it was
/// removed there.
fn aside(response: Response<Body>, mut attempt: AttemptGuard, method: &Method) -> Response<Body> {
    let is_chat = attempt.dialect() == Some(Dialect::OpenAiChat) && is_event_stream(response.headers());
    let withholds = is_chat && attempt.withholds_usage();
    attempt.end(AttemptEnd::Abandoned);
    match withholds {
        true => metered(response, attempt, Some(Dialect::OpenAiChat), true, method),
        false => response,
    }
}

/// Whether the status comes from the edge before the provider, which sent the request on and stopped waiting: the
/// provider still works on it, and bills. That is not true of a 504, which may as well mean that nothing could be
/// connected to.
fn has_only_waited(status: StatusCode) -> bool {
    // Used by Cloudflare, which stands before Anthropic's and OpenAI's APIs.
    const ORIGIN_TIMEOUT: u16 = 524;
    status.as_u16() == ORIGIN_TIMEOUT
}

fn failed(rejection: &Rejection) -> AttemptEnd {
    match rejection.kind() {
        _ if rejection.upstream_status().is_some_and(has_only_waited) => AttemptEnd::NoAnswer,
        _ if rejection.is_unsent() => AttemptEnd::Unsent,
        // Refused before it was sent.
        kind if !kind.is_upstream() => AttemptEnd::Unsent,
        RejectionKind::UpstreamCredential | RejectionKind::UpstreamGarbled => AttemptEnd::ErrorStatus,
        _ => AttemptEnd::NoAnswer,
    }
}

/// The provider's request id, cut to what a record has room for.
fn upstream_request_id(headers: &HeaderMap) -> Option<String> {
    const LONGEST: usize = 128;
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let value = headers.get(REQUEST_ID).or_else(|| headers.get(X_REQUEST_ID))?;
    // Only ASCII, which can be cut anywhere.
    value.to_str().ok().map(|id| id.get(..LONGEST).unwrap_or(id).to_owned())
}

impl<F> fmt::Debug for MeterFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn of_an_id_as_much_is_kept_as_a_record_has_room_for() {
        for (len, kept) in [(36, 36), (128, 128), (300_000, 128)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::try_from("a".repeat(len)).expect("a value"));
            assert_eq!(upstream_request_id(&headers), Some("a".repeat(kept)));
        }
    }
}
