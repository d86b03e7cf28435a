use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;

use crate::dialect::canon::fault::{Fault, FaultKind, is_too_long};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::json::Raw;

/// `{"error":{"message":…,"type":…,"param":…,"code":…}}`, for Chat Completions and Responses alike.
/// Source: platform.openai.com/docs/guides/error-codes.
pub(crate) fn body(rejection: &Rejection) -> (StatusCode, String) {
    let (status, kind, code) = kind(rejection.kind());
    (status, json(rejection.message(), kind, rejection.param_name(), code))
}

fn json(message: &str, kind: &'static str, param: Option<&str>, code: Option<&'static str>) -> String {
    let error = Detail { message, r#type: kind, param, code };
    serde_json::to_string(&Body { error }).unwrap_or_default()
}

const SERVER: &str = "server_error";

/// The error of another upstream in OpenAI's format.
pub(crate) fn of_fault(fault: &Fault) -> (StatusCode, String) {
    let (status, kind, code) = named(fault.kind);
    (status, told(fault, kind, code))
}

/// The same within a stream that began well: except for a rate limit, it counts as the server's error.
pub(crate) fn within_stream(fault: &Fault) -> String {
    let (_, kind, code) = named(fault.kind);
    let is_rate = matches!(fault.kind, FaultKind::RateLimit | FaultKind::TokenLimit);
    told(fault, if is_rate { kind } else { SERVER }, code)
}

fn told(fault: &Fault, kind: &'static str, code: Option<&'static str>) -> String {
    let message = match fault.kind {
        FaultKind::ContextLength => too_long(&fault.message),
        _ => Cow::Borrowed(&*fault.message),
    };
    json(&message, kind, fault.param.as_deref(), code)
}

/// Status, type and code.
fn named(kind: FaultKind) -> (StatusCode, &'static str, Option<&'static str>) {
    const INVALID: &str = "invalid_request_error";
    match kind {
        FaultKind::InvalidRequest => (StatusCode::BAD_REQUEST, INVALID, None),
        FaultKind::Refused => (StatusCode::BAD_REQUEST, SERVER, None),
        FaultKind::Conflict => (StatusCode::CONFLICT, INVALID, None),
        FaultKind::NotFound => (StatusCode::NOT_FOUND, INVALID, None),
        FaultKind::ContextLength => (StatusCode::BAD_REQUEST, INVALID, Some("context_length_exceeded")),
        FaultKind::ContentPolicy => (StatusCode::BAD_REQUEST, INVALID, Some("content_policy_violation")),
        // The credential is the gateway's: the client must not conclude that its own key is bad.
        FaultKind::Authentication => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, Some("upstream_auth")),
        // So is the account that is out of money.
        FaultKind::Quota => (StatusCode::BAD_GATEWAY, "insufficient_quota", Some("insufficient_quota")),
        // A code for which no client retries. The type distinguishes it from a budget of the gateway.
        FaultKind::SpendCap => (StatusCode::TOO_MANY_REQUESTS, "requests", Some("insufficient_quota")),
        FaultKind::Permission => (StatusCode::FORBIDDEN, INVALID, Some("permission_denied")),
        FaultKind::ModelNotFound => (StatusCode::NOT_FOUND, INVALID, Some("model_not_found")),
        FaultKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large")),
        FaultKind::RateLimit => (StatusCode::TOO_MANY_REQUESTS, "requests", Some("rate_limit_exceeded")),
        FaultKind::TokenLimit => (StatusCode::TOO_MANY_REQUESTS, "tokens", Some("rate_limit_exceeded")),
        FaultKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, SERVER, Some("timeout")),
        // Agents answer a 503 with a storm of retries.
        FaultKind::Overloaded => (StatusCode::TOO_MANY_REQUESTS, SERVER, Some("overloaded")),
        FaultKind::Truncated => (StatusCode::BAD_GATEWAY, SERVER, Some("upstream_stream_truncated")),
        FaultKind::Garbled => (StatusCode::BAD_GATEWAY, SERVER, None),
        FaultKind::Api => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, None),
    }
}

/// In OpenAI's words, since frameworks recognize the error by them if there is no code. Source: langchainjs,
/// `libs/providers/langchain-openai/src/utils/client.ts`.
fn too_long(message: &str) -> Cow<'_, str> {
    const WORDS: &str = "maximum context length";
    if message.contains(WORDS) {
        return Cow::Borrowed(message);
    }
    // "prompt is too long: 213462 tokens > 200000 maximum"
    let figures = message.split_once(" tokens > ").and_then(|(before, behind)| {
        let (has, most) = (before.rsplit(' ').next()?, behind.split(' ').next()?);
        Some((has.parse::<u64>().ok()?, most.parse::<u64>().ok()?))
    });
    Cow::Owned(match figures {
        Some((has, most)) => {
            format!("This model's {WORDS} is {most} tokens. However, your messages resulted in {has} tokens. {message}")
        }
        None => format!("This model's {WORDS} is exceeded: {message}"),
    })
}

/// Reads `{"message":…,"type":…,"param":…,"code":…}`, in which some servers have a numeric code, or a bare string.
pub(crate) fn read(error: Raw<'_>) -> Fault {
    let word = |name: &str| {
        let value = error.member(name)?;
        Some(value.text().map_or_else(|| value.as_str().to_owned(), |text| text.decoded().into_owned()))
    };
    let message = word("message").or_else(|| error.text().map(|text| text.decoded().into_owned()));
    let message = message.unwrap_or_else(|| error.as_str().to_owned());
    let found = [word("code"), word("type")].into_iter().flatten().filter_map(|word| known(&word));
    // One of them may only repeat the status, while the other says more.
    let found = found.min_by_key(|kind| *kind == FaultKind::InvalidRequest);
    let kind = match found {
        None if message.contains("engine is currently overloaded") => FaultKind::Overloaded,
        None | Some(FaultKind::InvalidRequest) if is_too_long(&message) => FaultKind::ContextLength,
        found => found.unwrap_or(FaultKind::Api),
    };
    let mut fault = Fault::new(kind, message);
    fault.param = error.member("param").and_then(Raw::text).map(|param| param.decoded().into_owned());
    fault
}

fn known(word: &str) -> Option<FaultKind> {
    Some(match word {
        "context_length_exceeded" | "exceed_context_size_error" => FaultKind::ContextLength,
        "content_filter" | "content_policy_violation" => FaultKind::ContentPolicy,
        "invalid_api_key" | "401" => FaultKind::Authentication,
        "insufficient_quota" | "billing_hard_limit_reached" | "402" => FaultKind::Quota,
        "permission_denied" | "403" => FaultKind::Permission,
        "model_not_found" => FaultKind::ModelNotFound,
        "404" => FaultKind::NotFound,
        "timeout" | "408" | "504" => FaultKind::Timeout,
        "request_too_large" | "413" => FaultKind::TooLarge,
        "rate_limit_exceeded" | "rate_limit_error" | "requests" | "tokens" | "429" => FaultKind::RateLimit,
        "overloaded" | "overloaded_error" | "503" | "529" => FaultKind::Overloaded,
        "invalid_request_error" | "400" => FaultKind::InvalidRequest,
        _ => return None,
    })
}

fn kind(kind: RejectionKind) -> (StatusCode, &'static str, Option<&'static str>) {
    match kind {
        RejectionKind::InvalidRequest | RejectionKind::NotPermitted | RejectionKind::PriceUnknown => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", None)
        }
        RejectionKind::Unsupported => (StatusCode::BAD_REQUEST, "invalid_request_error", Some("unsupported_parameter")),
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
        RejectionKind::ClientTooSlow => (StatusCode::REQUEST_TIMEOUT, "invalid_request_error", Some("timeout")),
        // Any 5xx causes a storm of retries in agents.
        RejectionKind::BudgetUnreadable | RejectionKind::ShuttingDown | RejectionKind::StoreUnavailable => {
            (StatusCode::TOO_MANY_REQUESTS, "server_error", Some("overloaded"))
        }
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
