use http::StatusCode;
use serde::Serialize;

use crate::domain::rejection::{Rejection, RejectionKind};

/// `{"error":{"message":…,"type":…,"param":…,"code":…}}`, for Chat Completions and Responses alike.
/// Source: platform.openai.com/docs/guides/error-codes.
pub(crate) fn body(rejection: &Rejection) -> (StatusCode, String) {
    let (status, kind, code) = kind(rejection.kind());
    (status, json(rejection.message(), kind, rejection.param_name(), code))
}

pub(crate) fn json(message: &str, kind: &'static str, param: Option<&str>, code: Option<&'static str>) -> String {
    let error = Detail { message, r#type: kind, param, code };
    serde_json::to_string(&Body { error }).unwrap_or_default()
}

fn kind(kind: RejectionKind) -> (StatusCode, &'static str, Option<&'static str>) {
    match kind {
        RejectionKind::InvalidRequest | RejectionKind::PriceUnknown => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", None)
        }
        RejectionKind::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", Some("method_not_supported"))
        }
        RejectionKind::Misconfigured => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        RejectionKind::ModelNotAllowed | RejectionKind::ModelNotFound => {
            (StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"))
        }
        RejectionKind::NotFound => (StatusCode::NOT_FOUND, "invalid_request_error", Some("unknown_url")),
        RejectionKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key")),
        RejectionKind::BudgetSpent => (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota")),
        RejectionKind::BudgetHeld | RejectionKind::Busy | RejectionKind::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "requests", Some("rate_limit_exceeded"))
        }
        // Any 5xx sets off a storm of retries in agents.
        RejectionKind::StoreUnavailable => (StatusCode::TOO_MANY_REQUESTS, "server_error", Some("overloaded")),
        RejectionKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", Some("request_too_large")),
        RejectionKind::UpstreamCredential => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("upstream_auth")),
        RejectionKind::UpstreamGarbled | RejectionKind::UpstreamUnreachable => {
            (StatusCode::BAD_GATEWAY, "server_error", None)
        }
        RejectionKind::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", Some("timeout")),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}
