use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};

use super::request::{drop_named_by_connection, remove_where};
use crate::body::{Body, Covered, Gunzip, Secret};
use crate::call::{Call, is_event_stream};
use crate::dialect::translate::{self, Reply};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// Most that an answer may unpack to where the client cannot unpack it itself.
const MOST_UNPACKED: usize = 1 << 30;

/// Whether an answer header speaks of the provider's hop, of its account with us, of its own edge, or of a quota that all
/// clients share: shown to one, it would tell about the others. One of ours is said by the gateway that is nearest; what a
/// server in front of us obeys (a file of its own to be sent in the place of the answer), or the browser of a page, by nobody.
pub(super) fn is_theirs(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "set-cookie"
            | "alt-svc"
            | "strict-transport-security"
            | "server"
            | "openai-organization"
            | "openai-project"
            | "anthropic-organization-id"
            | "x-sendfile"
            | "clear-site-data"
            | "refresh"
            | "service-worker-allowed"
    ) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

const BEGINNINGS: [&str; 8] = [
    "anthropic-ratelimit-",
    "x-ratelimit-",
    "anthropic-priority-",
    "x-tollgate-",
    "access-control-",
    "x-accel-",
    "x-lighttpd-",
    "content-security-policy",
];

/// What is known of who asked, and whom.
pub(super) struct Asked {
    /// What the provider speaks.
    pub(super) dialect: Dialect,
    pub(super) accepts_gzip: bool,
    pub(super) call: Option<Call>,
    /// What it was asked with.
    pub(super) secret: Option<Secret>,
}

impl Asked {
    /// Whether the answer has to be translated.
    fn is_of_another(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.dialect() != self.dialect)
    }
}

/// Makes of a provider's answer what a client may see, or the rejection that stands in its place.
pub(super) fn clean(response: Response<Body>, asked: &Asked) -> Result<Response<Body>, Rejection> {
    let (mut parts, mut body) = response.into_parts();
    if let Some(rejection) = in_its_place(&parts) {
        return Err(rejection.answered(parts.status));
    }
    if parts.status == StatusCode::FORBIDDEN {
        // It may be about the model alone, and its words are the client's to read; but nobody there can mend it.
        tracing::warn!("the provider answered 403: has our credential the right to what it is asked for?");
    }
    if parts.status == StatusCode::TOO_MANY_REQUESTS
        && let Some(mark) = translate::OutOfTokens::of(&parts.headers)
    {
        parts.extensions.insert(mark);
    }
    drop_named_by_connection(&mut parts.headers);
    remove_where(&mut parts.headers, is_theirs);
    if parts.status.is_success() {
        // Anthropic sends it with a third of its good answers; clients take it for throttling.
        parts.headers.remove(header::RETRY_AFTER);
    } else if is_html(&parts.headers) {
        tracing::info!(status = parts.status.as_u16(), "an error of type text/html; is the base URL right?");
        return Ok(by_its_status(parts, asked));
    }
    // Providers repeat in an error what they were asked with. What cannot be read cannot be looked through.
    let hidden = asked.secret.as_ref().filter(|_| !parts.status.is_success());
    if hidden.is_some() && is_coded_otherwise(&parts.headers) {
        tracing::info!(status = parts.status.as_u16(), "an error in a content-encoding that was not asked for");
        return Ok(by_its_status(parts, asked));
    }
    if (hidden.is_some() || !asked.accepts_gzip) && Gunzip::is_needed(&parts.headers) {
        body = match parts.status.is_success() {
            true => Gunzip::body(body, MOST_UNPACKED),
            // Its words may be what there is to learn from.
            false => Gunzip::body_or_plain(body, MOST_UNPACKED),
        };
        parts.headers.remove(header::CONTENT_ENCODING);
        parts.headers.remove(header::CONTENT_LENGTH);
        remove_where(&mut parts.headers, is_of_bytes);
    }
    if let Some(secret) = hidden {
        remove_where(&mut parts.headers, is_of_bytes);
        secret.leave(&mut parts.headers);
        secret.leave_reason(&mut parts.extensions);
        body = Covered::body(body, secret.clone());
    }
    // A stream of status 200 may fail yet.
    if let Some(secret) = asked.secret.as_ref().filter(|_| asked.is_of_another()) {
        parts.extensions.insert(secret.clone());
    }
    Ok(Response::from_parts(parts, body))
}

/// Whether an answer header is true of the very bytes that the provider sent, and of no others (RFC 9110, 9530).
fn is_of_bytes(name: &str) -> bool {
    matches!(name, "etag" | "content-digest" | "repr-digest" | "digest")
}

/// Whether it comes in a coding that nobody here undoes, or in several.
fn is_coded_otherwise(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_plain = |coding: &HeaderValue| coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let is_known = codings.next().is_none_or(|coding| is_plain(coding) || Gunzip::is_needed(headers));
    !is_known || codings.next().is_some()
}

/// What is answered where the provider's own answer would tell the client about us, or is not its API.
fn in_its_place(parts: &Parts) -> Option<Rejection> {
    if parts.status == StatusCode::UNAUTHORIZED {
        return Some(
            Rejection::new(RejectionKind::UpstreamCredential, "the gateway could not authenticate itself upstream")
                .internal("the provider answered 401 to our credential"),
        );
    }
    if parts.status.is_redirection() {
        // Followed, it would take the client's request past us; clients never choose an upstream, nor does an upstream.
        return Some(
            Rejection::new(RejectionKind::UpstreamGarbled, "the upstream answered with a redirect")
                .internal("a redirect; is the base URL right?"),
        );
    }
    // A client takes 1xx for the head of an answer to come, and what is beyond 599 is none (RFC 9110 section 15).
    if !(200..600).contains(&parts.status.as_u16()) {
        return Some(Rejection::new(
            RejectionKind::UpstreamGarbled,
            format!("the upstream answered {}, which is no status of an answer", parts.status.as_u16()),
        ));
    }
    if parts.status.is_success() && is_html(&parts.headers) {
        return Some(
            Rejection::new(
                RejectionKind::UpstreamGarbled,
                format!("the upstream answered {} with a web page", parts.status.as_u16()),
            )
            .internal("an answer of type text/html; is the base URL right?"),
        );
    }
    None
}

/// An error that something before the provider's API wrote as a page, or that cannot be read: what it says by its status alone,
/// as the API would. Clients go by the status, and wait as long as they are told to.
fn by_its_status(mut parts: Parts, asked: &Asked) -> Response<Body> {
    if let Some(secret) = &asked.secret {
        secret.leave(&mut parts.headers);
        secret.leave_reason(&mut parts.extensions);
    }
    let id = asked.call.as_ref().map(|call| call.id().to_string()).unwrap_or_default();
    let fault = translate::fault(parts.status, b"", asked.dialect);
    let body = translate::of_fault(&fault, asked.dialect, &Reply::new("", id)).body;
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    remove_where(&mut parts.headers, is_of_bytes);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.extensions.insert(translate::ByStatus);
    Response::from_parts(parts, Body::from(body))
}

fn is_html(headers: &HeaderMap) -> bool {
    !is_event_stream(headers)
        && headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.as_bytes().get(..9))
            .is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
}
