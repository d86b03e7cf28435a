use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode, Version};

use super::request::{drop_named_by_connection, remove_where};
use crate::body::{Body, Covered, Gunzip, Secret, is_plain};
use crate::call::{Call, is_event_stream};
use crate::dialect::translate::{self, Reply};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// The most that an answer may decompress to if the client cannot decompress it itself.
const MOST_UNPACKED: usize = 1 << 30;

/// Whether an answer header must not reach the client. Such headers belong to the provider's connection, our account or
/// the provider's edge, or state a quota that all clients share, which would tell one client about the others.
///
/// Our own headers come only from the nearest gateway. Headers that a server in front of us obeys (to send one of its
/// own files instead), or that control a web page's browser, are never passed.
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

/// What is known about the request: who asked, and which provider.
pub(super) struct Asked {
    /// The dialect of the provider.
    pub(super) dialect: Dialect,
    pub(super) accepts_gzip: bool,
    pub(super) call: Option<Call>,
    /// The credential that was sent.
    pub(super) secret: Option<Secret>,
}

impl Asked {
    /// Whether the answer will be translated.
    fn is_of_another(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.dialect() != self.dialect)
    }
}

/// Turns a provider's answer into what the client may see, or into a rejection that replaces it.
pub(super) fn clean(response: Response<Body>, asked: &Asked) -> Result<Response<Body>, Rejection> {
    let (mut parts, mut body) = response.into_parts();
    // That of one hop. If the client's became 1.0, a broken answer would look like a whole one.
    parts.version = Version::HTTP_11;
    if let Some(rejection) = in_its_place(&parts) {
        return Err(rejection.answered(parts.status));
    }
    if parts.status == StatusCode::FORBIDDEN {
        // It may concern only the model, and the message is for the client; but the client cannot fix it.
        tracing::warn!(
            "the provider answered 403; check whether the gateway's credential is allowed to do what was requested"
        );
    }
    if parts.status == StatusCode::TOO_MANY_REQUESTS
        && let Some(mark) = translate::OutOfTokens::of(&parts.headers)
    {
        parts.extensions.insert(mark);
    }
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        // The other one decides (RFC 9112 section 6.3), and this one may be wrong.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    drop_named_by_connection(&mut parts.headers);
    remove_where(&mut parts.headers, is_theirs);
    if parts.status.is_success() {
        // Anthropic sends it with a third of its successful answers, and clients take it for throttling.
        parts.headers.remove(header::RETRY_AFTER);
    } else if is_html(&parts.headers) {
        tracing::info!(
            status = parts.status.as_u16(),
            "the provider sent an error of type text/html; check the base URL"
        );
        return Ok(by_its_status(parts, asked));
    }
    // Providers may repeat the credential in an error. An encoding that we cannot read cannot be searched for it.
    let hidden = asked.secret.as_ref().filter(|_| !parts.status.is_success());
    if hidden.is_some() && is_coded_otherwise(&parts.headers) {
        tracing::info!(
            status = parts.status.as_u16(),
            "the provider sent an error in a content-encoding that was not requested"
        );
        return Ok(by_its_status(parts, asked));
    }
    if (hidden.is_some() || !asked.accepts_gzip) && Gunzip::is_needed(&parts.headers) {
        body = match parts.status.is_success() {
            true => Gunzip::body(body, MOST_UNPACKED),
            // The message may be useful even if it is not gzip after all.
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
    // A stream with status 200 may still fail later.
    if let Some(secret) = asked.secret.as_ref().filter(|_| asked.is_of_another()) {
        parts.extensions.insert(secret.clone());
    }
    Ok(Response::from_parts(parts, body))
}

/// Whether an answer header is only true for the exact bytes that the provider sent (RFC 9110, 9530).
fn is_of_bytes(name: &str) -> bool {
    matches!(name, "etag" | "content-digest" | "repr-digest" | "digest")
}

/// Whether the answer has an encoding that we cannot decode, or several.
fn is_coded_otherwise(headers: &HeaderMap) -> bool {
    let is_single = headers.get_all(header::CONTENT_ENCODING).iter().count() == 1;
    !(is_plain(headers) || is_single && Gunzip::is_needed(headers))
}

/// The rejection that replaces an answer, if the answer would tell the client about us, or does not come from the API.
fn in_its_place(parts: &Parts) -> Option<Rejection> {
    if parts.status == StatusCode::UNAUTHORIZED {
        return Some(
            Rejection::new(RejectionKind::UpstreamCredential, "the gateway could not authenticate itself upstream")
                .internal("the provider answered 401 to the gateway's credential"),
        );
    }
    if parts.status.is_redirection() {
        // Following it would send the client's request somewhere else: neither clients nor upstreams choose an
        // upstream.
        return Some(
            Rejection::new(RejectionKind::UpstreamGarbled, "the upstream answered with a redirect")
                .internal("the provider sent a redirect; check the base URL"),
        );
    }
    // A client takes 1xx for an interim answer, and a status above 599 is invalid (RFC 9110 section 15).
    if !(200..600).contains(&parts.status.as_u16()) {
        return Some(Rejection::new(
            RejectionKind::UpstreamGarbled,
            format!("the upstream answered {}, an invalid status", parts.status.as_u16()),
        ));
    }
    if parts.status.is_success() && is_html(&parts.headers) {
        return Some(
            Rejection::new(
                RejectionKind::UpstreamGarbled,
                format!("the upstream answered {} with a web page", parts.status.as_u16()),
            )
            .internal("the provider sent an answer of type text/html; check the base URL"),
        );
    }
    None
}

/// Replaces an error that is a web page, or that cannot be decoded, by what its status alone says, in the API's form.
/// Clients act on the status, and wait as long as `retry-after` tells them.
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
