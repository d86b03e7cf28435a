//! Posts to an HTTP endpoint.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::NotAWebhook;
use crate::body::{Body, BoxError};
use crate::domain::clock::{Clock, SystemClock};
use crate::store::StoreError;

/// How long the endpoint may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest pause that an endpoint may ask for: what waits for it takes room.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);

/// An HTTP endpoint.
pub(super) struct Endpoint {
    pub(super) url: Uri,
    /// Until when the endpoint asked not to be called.
    rests: Mutex<Option<Instant>>,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, NotAWebhook> {
        let url: Uri = url.parse().map_err(|_| NotAWebhook("the URL is not valid"))?;
        let is_http = url.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        if !is_http || url.authority().is_none() {
            return Err(NotAWebhook("the URL is not an absolute http or https URL"));
        }
        Ok(Endpoint { url, rests: Mutex::default() })
    }

    /// Sends the request. Returns the status if the endpoint refused it for good.
    ///
    /// If the endpoint has named a time by `retry-after`, nothing is sent before that time, and the call fails at once.
    ///
    /// # Errors
    /// If there was no answer, or one that allows a retry.
    pub(super) async fn post<C, B>(&self, client: C, request: Request<Body>) -> Result<Option<StatusCode>, StoreError>
    where
        C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Send,
    {
        let rests = *self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        let left = rests.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if !left.is_zero() {
            let why =
                format!("the endpoint asked by `retry-after` not to be called for another {} ms", left.as_millis());
            return Err(StoreError::unavailable(why));
        }
        let answering = tokio::time::timeout(PATIENCE, client.oneshot(request));
        let answer = answering.await.map_err(StoreError::uncertain)?.map_err(StoreError::uncertain)?;
        let status = answer.status();
        let comes_again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || comes_again.contains(&status) {
            let rest = rest_of(answer.headers(), SystemClock.now());
            *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = rest.map(|rest| Instant::now() + rest);
            return Err(StoreError::unavailable(format!("the endpoint answered {status}")));
        }
        Ok((!status.is_success()).then_some(status))
    }
}

/// The pause that an answer asks for, in seconds or as a date, up to the maximum.
fn rest_of(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let said = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let rest = if !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is too long as well.
        said.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(said).ok()?;
        // A date in the past asks for no pause.
        Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(rest.min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{Duration, HeaderMap, LONGEST_REST, header, rest_of};

    #[test]
    fn an_endpoint_is_left_alone_for_as_long_as_it_says_in_seconds_or_by_a_date_and_never_for_long() {
        let now = "2026-11-28T09:00:00Z".parse().expect("a time");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (said, rest) in [
            ("0", seconds(0)),
            (" 7 ", seconds(7)),
            ("301", Some(LONGEST_REST)),
            ("99999999999999999999999999", Some(LONGEST_REST)),
            ("Sat, 28 Nov 2026 09:01:30 GMT", seconds(90)),
            ("Sat, 28 Nov 2026 08:00:00 GMT", seconds(0)),
            ("Tue, 28 Nov 2056 09:00:00 GMT", Some(LONGEST_REST)),
            ("Mon, 28 Nov 2056 09:00:00 GMT", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(said))]);
            assert_eq!(rest_of(&headers, now), rest, "{said:?}");
        }
        assert_eq!(rest_of(&HeaderMap::new(), now), None);
    }
}
