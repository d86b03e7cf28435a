//! Our own refusals and errors, without a shape until the door gives them the client's.
//!
//! Reach for it in a gate: `Err(Rejection::new(RejectionKind::InvalidRequest, "no pictures on Fridays"))`.
//!
//! ```
//! use tollgate::domain::rejection::{Rejection, RejectionKind};
//! let rejection = Rejection::new(RejectionKind::InvalidRequest, "`stream` must be a boolean").param("stream");
//! assert_eq!(rejection.kind(), RejectionKind::InvalidRequest);
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What a rejection is about; the status, type and code that each dialect gives it are its error table's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectionKind {
    /// There would be money if the calls in flight settled for nothing; soon there may be.
    BudgetHeld,
    /// A budget has nothing left in its window.
    BudgetSpent,
    /// The store of a budget that refuses cannot say how it stands.
    BudgetUnreadable,
    /// More is in flight than the gateway holds at once; soon there will be room.
    Busy,
    /// The client took nothing of its answer for too long.
    ClientTooSlow,
    /// The request cannot be understood, or asks for what cannot be.
    InvalidRequest,
    /// The method is not one that this path answers.
    MethodNotAllowed,
    /// A layer is missing from a hand-built stack, or two of them contradict each other.
    Misconfigured,
    /// The model exists nowhere that this client may go.
    ModelNotAllowed,
    /// No model of this name is listed.
    ModelNotFound,
    /// Nothing is served under this path.
    NotFound,
    /// A limit of requests, tokens or calls at once is reached.
    RateLimited,
    /// The gateway stops, and has waited for the call as long as it would.
    ShuttingDown,
    /// A store that must be asked cannot answer.
    StoreUnavailable,
    /// What the call may cost cannot be bounded, and it is paid from a budget.
    PriceUnknown,
    /// The body is larger than we read.
    TooLarge,
    /// The request asks for what the API of the model's upstream has no way to say.
    Unsupported,
    /// No key, or one that opens nothing.
    Unauthenticated,
    /// The upstream refused the credential that *we* sent; never the client's fault.
    UpstreamCredential,
    /// The upstream answered with something that is not its API.
    UpstreamGarbled,
    /// The upstream took too long to connect or to answer.
    UpstreamTimeout,
    /// The upstream could not be reached, or hung up without an answer.
    UpstreamUnreachable,
}

impl RejectionKind {
    /// As records and metrics have it.
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

    /// Whether the call had been let through, and the way upstream failed it.
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

/// A refusal, or an error of ours in an answer's place. Cheap to clone.
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
    /// A rejection with a message for the client: no key, no host name, no account in it.
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

    /// The 405 of a path that takes these methods alone, as its `allow` header lists them (RFC 9110 section 15.5.6).
    pub(crate) fn only(methods: &'static str) -> Self {
        let message = if methods == "POST" { "use POST" } else { "use GET" };
        Rejection { allow: Some(methods), ..Rejection::new(RejectionKind::MethodNotAllowed, message) }
    }

    pub(crate) fn allowed(&self) -> Option<&'static str> {
        self.allow
    }

    /// The 500 of a stack that lacks a layer. The client learns nothing; `cure` is logged and says where to put what.
    pub fn misconfigured(cure: impl Into<Arc<str>>) -> Self {
        Rejection::new(
            RejectionKind::Misconfigured,
            "the gateway is misconfigured; its operator finds the reason in the log",
        )
        .internal(cure)
    }

    /// What the log says of it, which the client must not see.
    #[must_use]
    pub fn internal(mut self, message: impl Into<Arc<str>>) -> Self {
        self.internal = Some(message.into());
        self
    }

    /// The request field that is at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// When to come back. Sent in whole seconds, rounded up, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// No retry helps: SDKs are told so, which would otherwise try again with every status from 429 up.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Marks an upstream failure that happened before any byte of the request went out.
    #[must_use]
    pub fn nothing_sent(mut self) -> Self {
        self.nothing_sent = true;
        self
    }

    /// It stands in the place of an answer of this status.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Self {
        self.answered = Some(status);
        self
    }

    /// It travels in an answer of this status, until the door gives it its own.
    pub(crate) fn placed(mut self, status: StatusCode) -> Self {
        self.placed = Some(status);
        self
    }

    /// The status of the answer that it is found in, where somebody else has given it that.
    pub(crate) fn replaced_by(&self, status: StatusCode) -> Option<StatusCode> {
        self.placed.filter(|placed| *placed != status).map(|_| status)
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The sentence for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same, kept.
    pub(crate) fn shared_message(&self) -> Cow<'static, str> {
        self.message.clone()
    }

    /// The sentence for the log.
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
        self.retry_after.map(|d| (d.as_secs() + u64::from(d.subsec_nanos() > 0)).max(1))
    }

    /// The status of the upstream's answer that it stands in the place of, if one came.
    #[must_use]
    pub fn upstream_status(&self) -> Option<StatusCode> {
        self.answered
    }

    /// Whether clients are told not to try again by themselves.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
            || matches!(
                self.kind,
                // No retry finds a layer, a credential, a key or money that is missing.
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
