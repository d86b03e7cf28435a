use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};

use super::request::drop_named_by_connection;
use crate::body::{Body, Gunzip};
use crate::call::Call;
use crate::domain::rejection::{Rejection, RejectionKind};

/// Most that an answer may unpack to where the client cannot unpack it itself.
const MOST_UNPACKED: usize = 1 << 30;

/// Answer headers that speak of the provider's hop, of its account with us, or of its own edge.
const THEIRS: [HeaderName; 15] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::SET_COOKIE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    header::SERVER,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("anthropic-organization-id"),
];

/// What every client shares one account's worth of: shown to a client, they would tell it about the others.
const QUOTAS: [&str; 3] = ["anthropic-ratelimit-", "x-ratelimit-", "anthropic-priority-"];

/// Makes of a provider's answer what a client may see, or the rejection that stands in its place.
pub(super) fn clean(response: Response<Body>, accepts_gzip: bool) -> Result<Response<Body>, Rejection> {
    let (mut parts, mut body) = response.into_parts();
    if parts.status == StatusCode::UNAUTHORIZED {
        return Err(Rejection::new(
            RejectionKind::UpstreamCredential,
            "the gateway could not authenticate itself upstream",
        )
        .internal("the provider answered 401 to our credential"));
    }
    if parts.status.is_redirection() {
        // Followed, it would take the client's request past us; clients never choose an upstream, nor does an upstream.
        return Err(Rejection::new(RejectionKind::UpstreamGarbled, "the upstream answered with a redirect")
            .internal("a redirect; is the base URL right?"));
    }
    if is_html(&parts.headers) {
        return Err(Rejection::new(
            RejectionKind::UpstreamGarbled,
            format!("the upstream answered {} with a web page", parts.status.as_u16()),
        )
        .internal("an answer of type text/html; is the base URL right?"));
    }
    drop_named_by_connection(&mut parts.headers);
    for name in &THEIRS {
        parts.headers.remove(name);
    }
    let quotas: Vec<HeaderName> =
        parts.headers.keys().filter(|name| QUOTAS.iter().any(|q| name.as_str().starts_with(q))).cloned().collect();
    for name in quotas {
        parts.headers.remove(name);
    }
    if parts.status.is_success() {
        // Anthropic sends it with a third of its good answers; clients take it for throttling.
        parts.headers.remove(header::RETRY_AFTER);
    }
    if !accepts_gzip && Gunzip::is_needed(&parts.headers) {
        body = Gunzip::body(body, MOST_UNPACKED);
        for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::ETAG] {
            parts.headers.remove(name);
        }
    }
    Ok(Response::from_parts(parts, body))
}

fn is_html(headers: &HeaderMap) -> bool {
    !Call::is_event_stream(headers)
        && headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.as_bytes().get(..9))
            .is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
}
