//! The gateway's own refusals and errors, before they are given the shape of the client's API.
//!
//! Use it in a gate: `Err(Rejection::new(RejectionKind::NotPermitted, "no pictures on Fridays"))`.
//!
//! ```
//! use tollgate::domain::rejection::{Rejection, RejectionKind};
//! let rejection = Rejection::new(RejectionKind::InvalidRequest, "`stream` must be a boolean").param("stream");
//! assert_eq!(rejection.kind(), RejectionKind::InvalidRequest);
//! ```
//!
//! # What clients get
//!
//! The kind decides the status. No kind is a 403, which Claude Code takes for a failed login. To refuse something that
//! this caller may not do, take `ModelNotAllowed` if it is about the model, and otherwise `NotPermitted`.
//! [`GatewayLayer::status`](crate::GatewayLayer::status) sets another status for a kind.
//!
//! | kind | Anthropic | OpenAI |
//! |---|---|---|
//! | `InvalidRequest`, `NotPermitted`, `PriceUnknown` | 400 `invalid_request_error` | 400 `invalid_request_error` |
//! | `Unsupported` | 400 `invalid_request_error` | 400 `unsupported_parameter` |
//! | `ModelNotAllowed` | 400 `invalid_request_error` | 404 `model_not_found` |
//! | `Unauthenticated` | 401 `authentication_error` | 401 `invalid_api_key` |
//! | `ModelNotFound` | 404 `not_found_error` | 404 `model_not_found` |
//! | `NotFound` | 404 `not_found_error` | 404 `unknown_url` |
//! | `MethodNotAllowed` | 405 `invalid_request_error` | 405 `method_not_supported` |
//! | `ClientTooSlow` | 408 `timeout_error` | 408 `timeout` |
//! | `TooLarge` | 413 `request_too_large` | 413 `request_too_large` |
//! | `BudgetSpent` | 429 `billing_error` | 429 `insufficient_quota` |
//! | `BudgetUnreadable` | 429 `billing_error` | 429 `overloaded` |
//! | `BudgetHeld`, `Busy`, `RateLimited` | 429 `rate_limit_error` | 429 `rate_limit_exceeded` |
//! | `ShuttingDown`, `StoreUnavailable` | 529 `overloaded_error` | 429 `overloaded` |
//! | `Misconfigured` | 500 `api_error` | 500 `server_error` |
//! | `UpstreamCredential` | 500 `api_error` | 500 `upstream_auth` |
//! | `UpstreamGarbled`, `UpstreamUnreachable` | 502 `api_error` | 502 `server_error` |
//! | `UpstreamTimeout` | 504 `timeout_error` | 504 `timeout` |
//!
//! The word is `error.type` for Anthropic's clients, and `error.code` for OpenAI's, or `error.type` where they have no
//! code.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What a rejection is about. The error table of each dialect maps it to a status, a type and a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectionKind {
    /// A budget would have enough if the calls in flight settled for nothing, so a retry may succeed soon.
    BudgetHeld,
    /// A budget has too little left in its window for the call, or no budget pays for a call that needs one.
    BudgetSpent,
    /// The store of a budget that is not soft cannot say how the budget stands.
    BudgetUnreadable,
    /// More calls are in flight than the gateway holds at once; there will soon be room.
    Busy,
    /// The client read nothing of its answer, or sent nothing of its request, for too long.
    ClientTooSlow,
    /// The request cannot be understood, or asks for something impossible.
    InvalidRequest,
    /// This path does not answer the method.
    MethodNotAllowed,
    /// A layer is missing from a hand-built stack, or two layers contradict each other.
    Misconfigured,
    /// The model does not exist anywhere that this client may use.
    ModelNotAllowed,
    /// No model of this name is listed.
    ModelNotFound,
    /// Nothing is served under this path.
    NotFound,
    /// A rule of the host refuses this request, as a [gate](crate::gate) may. A request that cannot be understood is an
    /// `InvalidRequest`.
    NotPermitted,
    /// A limit on requests, tokens or concurrent calls is reached.
    RateLimited,
    /// The gateway is shutting down, and its grace period for the call is over.
    ShuttingDown,
    /// A store that must be asked cannot answer.
    StoreUnavailable,
    /// The cost of the call cannot be bounded, and a budget pays for it.
    PriceUnknown,
    /// The body is larger than the gateway reads.
    TooLarge,
    /// The request asks for something that the API of the model's upstream cannot express.
    Unsupported,
    /// There is no key, or the key is not valid.
    Unauthenticated,
    /// The upstream refused the credential that *the gateway* sent; this is never the client's fault.
    UpstreamCredential,
    /// The upstream's answer is not one of its API.
    UpstreamGarbled,
    /// The upstream took too long to connect or to answer.
    UpstreamTimeout,
    /// The upstream could not be reached, or closed the connection without an answer.
    UpstreamUnreachable,
}

impl RejectionKind {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RejectionKind::BudgetHeld => "budget_held",
            RejectionKind::BudgetSpent => "budget_spent",
            RejectionKind::BudgetUnreadable => "budget_unreadable",
            RejectionKind::Busy => "busy",
            RejectionKind::ClientTooSlow => "client_too_slow",
            RejectionKind::InvalidRequest => "invalid_request",
            RejectionKind::MethodNotAllowed => "method_not_allowed",
            RejectionKind::Misconfigured => "misconfigured",
            RejectionKind::ModelNotAllowed => "model_not_allowed",
            RejectionKind::ModelNotFound => "model_not_found",
            RejectionKind::NotFound => "not_found",
            RejectionKind::NotPermitted => "not_permitted",
            RejectionKind::RateLimited => "rate_limited",
            RejectionKind::ShuttingDown => "shutting_down",
            RejectionKind::StoreUnavailable => "store_unavailable",
            RejectionKind::PriceUnknown => "price_unknown",
            RejectionKind::TooLarge => "too_large",
            RejectionKind::Unsupported => "unsupported",
            RejectionKind::Unauthenticated => "unauthenticated",
            RejectionKind::UpstreamCredential => "upstream_credential",
            RejectionKind::UpstreamGarbled => "upstream_garbled",
            RejectionKind::UpstreamTimeout => "upstream_timeout",
            RejectionKind::UpstreamUnreachable => "upstream_unreachable",
        }
    }

    /// Whether the call was let through, and then failed at the upstream or on the way to it.
    #[must_use]
    pub fn is_upstream(self) -> bool {
        matches!(
            self,
            RejectionKind::UpstreamCredential
                | RejectionKind::UpstreamGarbled
                | RejectionKind::UpstreamTimeout
                | RejectionKind::UpstreamUnreachable
        )
    }
}

/// A refusal, or an error of the gateway that replaces an answer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rejection {
    kind: RejectionKind,
    message: Cow<'static, str>,
    internal: Option<Arc<str>>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    nothing_sent: bool,
    is_final: bool,
    answered: Option<StatusCode>,
    placed: Option<StatusCode>,
    allow: Option<&'static str>,
}

impl Rejection {
    /// A rejection with a message for the client. The message must not contain a key, a host name or an account.
    pub fn new(kind: RejectionKind, message: impl Into<Cow<'static, str>>) -> Self {
        Rejection {
            kind,
            message: message.into(),
            internal: None,
            param: None,
            retry_after: None,
            nothing_sent: false,
            is_final: false,
            answered: None,
            placed: None,
            allow: None,
        }
    }

    /// The 405 of a path that answers only these methods, as its `allow` header lists them (RFC 9110 section 15.5.6).
    pub(crate) fn only(methods: &'static str) -> Self {
        let message = if methods == "POST" { "use POST" } else { "use GET" };
        Rejection { allow: Some(methods), ..Rejection::new(RejectionKind::MethodNotAllowed, message) }
    }

    pub(crate) fn allowed(&self) -> Option<&'static str> {
        self.allow
    }

    /// The 500 of a stack that lacks a layer. The client learns nothing; `cure` is logged, and says which layer to add
    /// and where.
    pub fn misconfigured(cure: impl Into<Arc<str>>) -> Self {
        Rejection::new(RejectionKind::Misconfigured, "the gateway is misconfigured; the reason is in its log")
            .internal(cure)
    }

    /// Adds a message for the log, which the client does not see.
    #[must_use]
    pub fn internal(mut self, message: impl Into<Arc<str>>) -> Self {
        self.internal = Some(message.into());
        self
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Sets when a retry may help. It is sent in whole seconds, rounded up, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Says that no retry helps. SDKs are told so; otherwise they retry every status from 429 up.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Marks an upstream failure that happened before any byte of the request was sent.
    #[must_use]
    pub fn nothing_sent(mut self) -> Self {
        self.nothing_sent = true;
        self
    }

    /// Says that the rejection replaces an upstream's answer with this status.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Self {
        self.answered = Some(status);
        self
    }

    /// The status of the answer that carries the rejection until the door gives it its own.
    pub(crate) fn placed(mut self, status: StatusCode) -> Self {
        self.placed = Some(status);
        self
    }

    /// The status of that answer, if another service has changed it.
    pub(crate) fn replaced_by(&self, status: StatusCode) -> Option<StatusCode> {
        self.placed.filter(|placed| *placed != status).map(|_| status)
    }

    /// What the rejection is about.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The message for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message for the client, cloned.
    pub(crate) fn shared_message(&self) -> Cow<'static, str> {
        self.message.clone()
    }

    /// The message for the log.
    #[must_use]
    pub fn internal_message(&self) -> Option<&str> {
        self.internal.as_deref()
    }

    /// The request field at fault, if one is.
    #[must_use]
    pub fn param_name(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Whole seconds until a retry may help, at least one.
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(|d| d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0)).max(1))
    }

    /// The status of the upstream's answer that the rejection replaces, if one came.
    #[must_use]
    pub fn upstream_status(&self) -> Option<StatusCode> {
        self.answered
    }

    /// Whether clients are told not to retry by themselves.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
            || matches!(
                self.kind,
                // No retry supplies a missing layer, credential, key or budget, or what an API cannot express.
                RejectionKind::Misconfigured
                    | RejectionKind::UpstreamCredential
                    | RejectionKind::Unauthenticated
                    | RejectionKind::BudgetSpent
                    | RejectionKind::Unsupported
            )
    }

    /// Whether the provider certainly never saw the request, so that another target may be asked without paying twice.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.nothing_sent
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_whatever_it_is() {
        for (wait, told) in [
            (Duration::ZERO, 1),
            (Duration::from_millis(1_001), 2),
            (Duration::from_secs(60), 60),
            (Duration::MAX, u64::MAX),
        ] {
            let rejection = Rejection::new(RejectionKind::Busy, "later").retry_after(wait);
            assert_eq!(rejection.retry_after_secs(), Some(told), "{wait:?}");
        }
    }
}
