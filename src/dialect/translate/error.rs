use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Reply;
use crate::dialect::canon::fault::{Fault, FaultKind, is_too_long};
use crate::dialect::{Rendered, anthropic, openai_chat};
use crate::domain::dialect::Dialect;
use crate::wire::json::{Raw, members};
use crate::wire::sse::{Block, Scanner};

/// The longest message that is made from a body that is not an error of the upstream's API.
const LONGEST: usize = 500;

/// Those of Anthropic's rate limits that are limits on tokens.
const OUT_OF_TOKENS: [&str; 3] = [
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-output-tokens-remaining",
];

/// Marks an answer whose headers said that a token rate limit is used up. Those headers are about an account that all
/// clients share, and only the layer that asked the provider sees them. The kind of limit is no secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutOfTokens;

impl OutOfTokens {
    /// Returns the mark if these headers say so.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let is_out = OUT_OF_TOKENS.iter().any(|name| headers.get(*name).is_some_and(|left| left == "0"));
        is_out.then_some(OutOfTokens)
    }

    /// Writes it into headers again, for [`error`].
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(OUT_OF_TOKENS[0], HeaderValue::from_static("0"));
    }
}

/// Marks an error whose status is the upstream's, but whose body is the gateway's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByStatus;

/// Translates an error: an answer with a status of 400 or above. `headers` are the upstream's; those that say when to
/// retry are passed on.
#[must_use]
pub fn error(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    upstream: Dialect,
    client: Dialect,
    reply: &Reply,
) -> Rendered {
    let mut fault = fault(status, body, upstream);
    // A spend cap of the account does not say when it ends; a rate limit does.
    let is_spend_cap = ["contract_spend_limit_reached", "enforced_spend_limit_reached"]
        .iter()
        .any(|code| memchr::memmem::find(body, code.as_bytes()).is_some());
    if is_spend_cap && fault.kind == FaultKind::RateLimit {
        fault.kind = FaultKind::SpendCap;
    }
    if fault.kind == FaultKind::RateLimit && OutOfTokens::of(headers).is_some() {
        fault.kind = FaultKind::TokenLimit;
    }
    let mut rendered = of_fault(&fault, client, reply);
    // OpenAI's clients know these two as they are, and also those that only a server in front of the API returns.
    let is_known = match fault.kind {
        FaultKind::Api => status.is_server_error(),
        FaultKind::InvalidRequest | FaultKind::Refused => true,
        _ => matches!(status.as_u16(), 408 | 422),
    };
    if client != Dialect::Anthropic && is_known {
        rendered.status = status;
    }
    for name in ["retry-after", "retry-after-ms", "x-should-retry"] {
        if let Some(value) = headers.get(name) {
            rendered.headers.insert(name, value.clone());
        }
    }
    if matches!(fault.kind, FaultKind::Quota | FaultKind::SpendCap) {
        rendered.headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    rendered
}

/// A fault in the format of the client's API.
pub(crate) fn of_fault(fault: &Fault, client: Dialect, reply: &Reply) -> Rendered {
    let (status, body) = match client {
        Dialect::Anthropic => anthropic::error::of_fault(fault, &reply.request_id),
        _ => openai_chat::error::of_fault(fault),
    };
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if fault.kind == FaultKind::Overloaded && client != Dialect::Anthropic {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Rendered { status, headers, body: Bytes::from(body) }
}

/// The error that the upstream describes or, failing that, what its status means.
pub(crate) fn fault(status: StatusCode, body: &[u8], upstream: Dialect) -> Fault {
    let text = String::from_utf8_lossy(body);
    // Some servers stream an error too: then it is the first event.
    let event = if is_stream(&text) { first_event(body) } else { None };
    let text = event.map_or(text, |event| String::from_utf8_lossy(&event).into_owned().into());
    // Google wraps its only error in a list.
    let only = Raw::new(&text).elements().next().filter(|only| only.is_object());
    let text = only.map_or(&*text, Raw::as_str);
    let by_status = of_status(status);
    let is_object = members(text.as_bytes(), |_, _| {});
    let error = Raw::new(text).member("error").filter(|_| is_object);
    let Some(error) = error else {
        // Some servers use another format; some proxies use none.
        let words = Raw::new(text).member("message").or_else(|| Raw::new(text).member("detail"));
        let words = words.filter(|_| is_object).and_then(Raw::text).map(|words| words.decoded().into_owned());
        let message = words.unwrap_or_else(|| text.trim().chars().take(LONGEST).collect());
        let message = match message.is_empty() || message.starts_with('<') {
            true => format!("the upstream answered {}", status.as_u16()),
            false => message,
        };
        let kind = match by_status {
            FaultKind::InvalidRequest if is_too_long(&message) => FaultKind::ContextLength,
            FaultKind::InvalidRequest if !is_object && !matches!(status.as_u16(), 400 | 422) => FaultKind::Refused,
            _ => by_status,
        };
        return Fault::new(kind, message);
    };
    let mut fault = match upstream {
        Dialect::Anthropic => anthropic::error::read(text),
        _ => openai_chat::error::read(error),
    };
    // The status decides, since the upstream's own clients go by it; the message only distinguishes what shares a
    // status.
    let refines = matches!(
        (by_status, fault.kind),
        (FaultKind::InvalidRequest, FaultKind::ContextLength | FaultKind::ContentPolicy)
            | (FaultKind::NotFound, FaultKind::ModelNotFound)
            | (FaultKind::RateLimit, FaultKind::Quota | FaultKind::Overloaded)
            | (FaultKind::Api, FaultKind::Overloaded | FaultKind::Timeout | FaultKind::RateLimit)
            | (FaultKind::Quota | FaultKind::Permission, FaultKind::ModelNotFound | FaultKind::ContentPolicy)
    );
    if !refines {
        fault.kind = by_status;
    }
    if by_status == FaultKind::RateLimit && fault.kind == FaultKind::Quota {
        fault.kind = FaultKind::SpendCap;
    }
    fault
}

/// Whether the body is an event stream. A plain message may begin like a field, but has no data, and no end of a named
/// event.
fn is_stream(text: &str) -> bool {
    let text = text.trim_start();
    let begins = [":", "event:", "data:", "id:", "retry:"].iter().any(|field| text.starts_with(field));
    let has_data = text.split(['\r', '\n']).any(|line| line.starts_with("data:"));
    begins && (has_data || text.starts_with("event:") && text.lines().last() == Some(""))
}

/// The first event with any data; empty if there is none.
fn first_event(body: &[u8]) -> Option<Vec<u8>> {
    let (mut scanner, mut first) = (Scanner::new(), None);
    let mut look = |block: Block<'_>| {
        let said = block.data().filter(|data| !data.trim_ascii().is_empty());
        first = first.take().or_else(|| said.map(<[u8]>::to_vec));
    };
    // The end of the body also ends its last event.
    scanner.push(body, &mut look).and_then(|()| scanner.push(b"\n\n", &mut look)).ok()?;
    Some(first.unwrap_or_default())
}

fn of_status(status: StatusCode) -> FaultKind {
    match status.as_u16() {
        401 => FaultKind::Authentication,
        402 => FaultKind::Quota,
        403 => FaultKind::Permission,
        404 => FaultKind::NotFound,
        408 | 504 => FaultKind::Timeout,
        409 => FaultKind::Conflict,
        413 => FaultKind::TooLarge,
        429 => FaultKind::RateLimit,
        503 | 529 => FaultKind::Overloaded,
        400..=499 => FaultKind::InvalidRequest,
        _ => FaultKind::Api,
    }
}
