//! How a call ended, and each attempt of it.
//!
//! Reach for it in [`Call::on_close`](crate::Call::on_close) or
//! [`CallLayer::on_close`](crate::call::CallLayer::on_close): everyone who needs to know gets one [`Outcome`], once.
//!
//! ```
//! use tollgate::domain::outcome::{End, Outcome};
//! fn lost(outcome: &Outcome) -> bool {
//!     outcome.end == End::Failed && outcome.usage.is_none()
//! }
//! ```

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::dialect::Endpoint;
use super::rejection::RejectionKind;
use super::target::Target;
use super::usage::Usage;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// The client got the whole of a good answer.
    Complete,
    /// The client went away before the end of its answer.
    Abandoned,
    /// It was let through, and upstream or the way there failed: an error status, a broken or cut stream, a panic.
    Failed,
    /// We did not let it through.
    Refused,
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The answer came whole.
    Complete,
    /// Dropped by our side before its end, because nobody wanted it any more.
    Abandoned,
    /// No connection was made, so the provider never saw the request.
    Unsent,
    /// Sent, but no head of an answer came: the provider may have worked and billed.
    NoAnswer,
    /// The provider answered with an error status.
    ErrorStatus,
    /// The answer broke off, stalled, said in its stream that it failed, or ended without the mark of its end.
    Broken,
}

/// What is known of one attempt when its call has closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// Where it went; `None` where the service behind the layers is the host's own.
    pub target: Option<Target>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The status of the answer, if its head came.
    pub status: Option<StatusCode>,
    /// The latest usage that the provider stated; `None` if it stated none.
    pub usage: Option<Usage>,
    /// Whether that usage is the provider's last word: the answer came whole and carried it.
    pub usage_is_final: bool,
    /// The provider's own id of the request, for its support desk.
    pub upstream_request_id: Option<String>,
    /// From the start of the attempt to the head of its answer.
    pub head_after: Option<Duration>,
    /// From the start of the attempt to its end.
    pub took: Duration,
}

/// The account of a closed call. Made once, after its client body and its last attempt have both ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The id that the client saw as `x-request-id`.
    pub id: Uuid,
    /// What was asked, in which dialect.
    pub endpoint: Endpoint,
    /// The model that the client named, if its body was read.
    pub model: Option<String>,
    /// How the call ended.
    pub end: End,
    /// The status that the client was sent; `None` if it left before any was.
    pub status: Option<StatusCode>,
    /// Why we refused, or which of our own errors answered in the upstream's place.
    pub rejection: Option<RejectionKind>,
    /// The sum over the attempts; `None` if no attempt stated any.
    pub usage: Option<Usage>,
    /// Every attempt, in the order in which they began.
    pub attempts: Vec<Attempt>,
    /// When the call opened.
    pub opened_at: Timestamp,
    /// From opening to the head of the answer.
    pub head_after: Option<Duration>,
    /// From opening to the first byte of the answer's body.
    pub first_byte_after: Option<Duration>,
    /// From opening to closing.
    pub took: Duration,
    /// Bytes of body that the client was handed.
    pub bytes_out: u64,
}
