use http::StatusCode;
use serde::Serialize;

use crate::domain::rejection::{Rejection, RejectionKind};

/// `{"type":"error","error":{"type":…,"message":…},"request_id":…}`: the SDKs choose the exception by status alone.
/// Source: platform.claude.com/docs/en/api/errors.
pub(crate) fn body(rejection: &Rejection, request_id: &str) -> (StatusCode, String) {
    let (status, kind) = kind(rejection.kind());
    (status, json(kind, rejection.message(), request_id))
}

pub(crate) fn json(kind: &'static str, message: &str, request_id: &str) -> String {
    let body = Body { r#type: "error", error: Detail { r#type: kind, message }, request_id };
    serde_json::to_string(&body).unwrap_or_default()
}

/// Anthropic's own status, which its clients wait out.
const OVERLOADED: StatusCode = match StatusCode::from_u16(529) {
    Ok(status) => status,
    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
};

fn kind(kind: RejectionKind) -> (StatusCode, &'static str) {
    match kind {
        // 403 makes Claude Code print "Failed to authenticate", and 404 hides the message.
        RejectionKind::InvalidRequest | RejectionKind::ModelNotAllowed | RejectionKind::PriceUnknown => {
            (StatusCode::BAD_REQUEST, "invalid_request_error")
        }
        RejectionKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error"),
        RejectionKind::Misconfigured | RejectionKind::UpstreamCredential => {
            (StatusCode::INTERNAL_SERVER_ERROR, "api_error")
        }
        RejectionKind::ModelNotFound | RejectionKind::NotFound => (StatusCode::NOT_FOUND, "not_found_error"),
        RejectionKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "authentication_error"),
        RejectionKind::BudgetSpent => (StatusCode::TOO_MANY_REQUESTS, "billing_error"),
        RejectionKind::BudgetHeld | RejectionKind::Busy | RejectionKind::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error")
        }
        RejectionKind::StoreUnavailable => (OVERLOADED, "overloaded_error"),
        RejectionKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        RejectionKind::UpstreamGarbled | RejectionKind::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, "api_error"),
        RejectionKind::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error"),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    error: Detail<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Detail<'a> {
    r#type: &'static str,
    message: &'a str,
}
