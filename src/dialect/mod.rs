//! The wire formats of the supported APIs, as pure functions over bytes.
//!
//! Use it if your own code answers in place of the gateway: [`render`] gives a [`Rejection`] the format of the client's
//! API.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::dialect;
//! use tollgate::domain::rejection::{Rejection, RejectionKind};
//!
//! let rejection = Rejection::new(RejectionKind::ModelNotAllowed, "model gpt-9 is not served here");
//! let status = |dialect| dialect::render(&rejection, dialect, "req-1").status.as_u16();
//! // Claude Code hides the text of a 404; OpenAI clients expect one.
//! assert_eq!((status(Dialect::Anthropic), status(Dialect::OpenAiChat)), (400, 404));
//! ```

mod anthropic;
pub(crate) mod canon;
pub mod head;
mod inputs;
mod limits;
mod line;
mod marks;
mod members;
pub mod meter;
mod openai_chat;
pub mod prefix;
pub mod translate;

pub(crate) use self::anthropic::{foreign_tool_ids, unsigned_thinking};
pub(crate) use self::limits::{LimitState, limit_headers};
pub(crate) use self::line::Line;
pub(crate) use self::members::error_name;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// A rejection in the format of a dialect.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rendered {
    /// The HTTP status.
    pub status: StatusCode,
    /// `content-type`, and where they apply `retry-after`, `x-should-retry` and `allow`.
    pub headers: HeaderMap,
    /// The JSON body.
    pub body: Bytes,
}

/// Gives a rejection the format that clients of `dialect` parse. `request_id` is repeated if the format has a place for
/// it.
#[must_use]
pub fn render(rejection: &Rejection, dialect: Dialect, request_id: &str) -> Rendered {
    let (status, body) = match dialect {
        Dialect::Anthropic => anthropic::error::body(rejection, request_id),
        _ => openai_chat::error::body(rejection),
    };
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Claude Code's contract for gateways: a retry would only say less about the reason.
    let is_final_there = dialect == Dialect::Anthropic && rejection.kind() == RejectionKind::BudgetUnreadable;
    if let Some(secs) = rejection.retry_after_secs().filter(|_| !is_final_there) {
        headers.insert(header::RETRY_AFTER, secs.into());
    }
    if let Some(methods) = rejection.allowed() {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    // SDKs retry every 429 and 5xx unless they are told not to.
    if rejection.is_final() || is_final_there {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    Rendered { status, headers, body: Bytes::from(body) }
}

/// The event that ends a stream with an error, in a form for which clients of `dialect` raise an error.
#[must_use]
pub fn error_event(rejection: &Rejection, dialect: Dialect, request_id: &str) -> Bytes {
    let mut out = bytes::BytesMut::new();
    match dialect {
        Dialect::Anthropic => {
            let (_, body) = anthropic::error::body(rejection, request_id);
            crate::wire::sse::encode(&mut out, Some("error"), body.as_bytes());
        }
        // No event name: openai-node raises an error for `event: error` and for a bare `error` member alike, the Python
        // SDK for the member.
        _ => crate::wire::sse::encode(&mut out, None, openai_chat::error::body(rejection).1.as_bytes()),
    }
    out.freeze()
}
