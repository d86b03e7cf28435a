use http::StatusCode;
use serde::Serialize;

use super::too_long;
use crate::dialect::canon::fault::{Fault, FaultKind, is_too_long};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::json::{Escaped, Raw};

/// `{"type":"error","error":{"type":…,"message":…},"request_id":…}`: the SDKs choose the exception by status alone.
/// Source: platform.claude.com/docs/en/api/errors.
pub(crate) fn body(rejection: &Rejection, request_id: &str) -> (StatusCode, String) {
    let (status, kind) = kind(rejection.kind());
    (status, json(kind, rejection.message(), details(rejection), request_id))
}

/// Without such details, the tool runners of the SDKs, which begin a thread unasked, would not fall back to sending the
/// whole conversation themselves. Source: anthropic-sdk-python, `lib/threads/_thread_state.py`.
fn details(rejection: &Rejection) -> Option<Details> {
    let is_thread = rejection.kind() == RejectionKind::Unsupported && rejection.param_name() == Some("thread");
    is_thread.then_some(Details { error_code: "thread_unsupported_request" })
}

fn json(kind: &'static str, message: &str, details: Option<Details>, request_id: &str) -> String {
    let body = Body { r#type: "error", error: Detail { r#type: kind, message, details }, request_id };
    serde_json::to_string(&body).unwrap_or_default()
}

/// The error of another upstream in Anthropic's format.
pub(crate) fn of_fault(fault: &Fault, request_id: &str) -> (StatusCode, String) {
    let (status, kind) = match fault.kind {
        FaultKind::InvalidRequest | FaultKind::Refused | FaultKind::ContextLength | FaultKind::ContentPolicy => {
            (StatusCode::BAD_REQUEST, "invalid_request_error")
        }
        FaultKind::Quota | FaultKind::SpendCap => (StatusCode::TOO_MANY_REQUESTS, "billing_error"),
        FaultKind::Permission => (StatusCode::FORBIDDEN, "permission_error"),
        FaultKind::NotFound | FaultKind::ModelNotFound => (StatusCode::NOT_FOUND, "not_found_error"),
        FaultKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error"),
        FaultKind::Conflict => (StatusCode::CONFLICT, "conflict_error"),
        FaultKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        FaultKind::RateLimit | FaultKind::TokenLimit => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        FaultKind::Overloaded => (OVERLOADED, "overloaded_error"),
        // The credential is the gateway's: the client must not conclude that its own key is bad.
        FaultKind::Api | FaultKind::Authentication => (StatusCode::INTERNAL_SERVER_ERROR, "api_error"),
        FaultKind::Garbled | FaultKind::Truncated => (StatusCode::BAD_GATEWAY, "api_error"),
    };
    match fault.kind {
        FaultKind::ContextLength => (status, json(kind, &too_long::told(&fault.message), None, request_id)),
        _ => (status, json(kind, &fault.message, None, request_id)),
    }
}

/// Reads Anthropic's error from its event or body. If it has another format, all of it becomes the message.
pub(crate) fn read(document: &str) -> Fault {
    let error = Raw::new(document).member("error");
    let text = |name: &str| error.and_then(|error| error.member(name)).and_then(Raw::text);
    let message = error.and_then(Raw::text).or_else(|| text("message"));
    let message = message.map(|message| message.decoded().into_owned());
    let message = message.unwrap_or_else(|| document.to_owned());
    let kind = match text("type").as_ref().map_or("", Escaped::as_str) {
        "overloaded_error" => FaultKind::Overloaded,
        "rate_limit_error" => FaultKind::RateLimit,
        "authentication_error" => FaultKind::Authentication,
        "billing_error" => FaultKind::Quota,
        "permission_error" => FaultKind::Permission,
        "not_found_error" if message.starts_with("model:") => FaultKind::ModelNotFound,
        "not_found_error" => FaultKind::NotFound,
        "request_too_large" => FaultKind::TooLarge,
        "timeout_error" => FaultKind::Timeout,
        "conflict_error" => FaultKind::Conflict,
        "invalid_request_error" if is_too_long(&message) => FaultKind::ContextLength,
        "invalid_request_error" => FaultKind::InvalidRequest,
        _ => FaultKind::Api,
    };
    Fault::new(kind, message)
}

/// Anthropic's own status, which its clients retry after a wait.
const OVERLOADED: StatusCode = match StatusCode::from_u16(529) {
    Ok(status) => status,
    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
};

fn kind(kind: RejectionKind) -> (StatusCode, &'static str) {
    match kind {
        // 403 makes Claude Code print "Failed to authenticate", and 404 hides the message.
        RejectionKind::InvalidRequest
        | RejectionKind::NotPermitted
        | RejectionKind::ModelNotAllowed
        | RejectionKind::PriceUnknown
        | RejectionKind::Unsupported => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        RejectionKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error"),
        RejectionKind::Misconfigured | RejectionKind::UpstreamCredential => {
            (StatusCode::INTERNAL_SERVER_ERROR, "api_error")
        }
        RejectionKind::ModelNotFound | RejectionKind::NotFound => (StatusCode::NOT_FOUND, "not_found_error"),
        RejectionKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "authentication_error"),
        RejectionKind::BudgetSpent | RejectionKind::BudgetUnreadable => {
            (StatusCode::TOO_MANY_REQUESTS, "billing_error")
        }
        RejectionKind::BudgetHeld | RejectionKind::Busy | RejectionKind::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error")
        }
        RejectionKind::ShuttingDown | RejectionKind::StoreUnavailable => (OVERLOADED, "overloaded_error"),
        RejectionKind::ClientTooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout_error"),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Serialize)]
struct Details {
    error_code: &'static str,
}
