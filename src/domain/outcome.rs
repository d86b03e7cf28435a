//! How a call and each of its attempts ended.
//!
//! Use it in [`Call::on_close`](crate::Call::on_close) or [`CallLayer::on_close`](crate::call::CallLayer::on_close):
//! every observer gets one [`Outcome`] per call, once.
//!
//! ```
//! use tollgate::domain::outcome::{End, Outcome};
//! fn lost(outcome: &Outcome) -> bool {
//!     outcome.end == End::Failed && outcome.usage.is_none()
//! }
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attribution::Attribution;
use super::content::Keep;
use super::dialect::Endpoint;
use super::money::Money;
use super::principal::Principal;
use super::rejection::RejectionKind;
use super::short::{REASON, shortened};
use super::target::Target;
use super::usage::Usage;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The client got a good answer in full.
    Complete,
    /// The client disconnected before the end of its answer.
    Abandoned,
    /// The call was let through, and the upstream or the way to it failed: an error status, a broken or cut stream, a
    /// panic.
    Failed,
    /// The gateway did not let it through.
    Refused,
    /// The call was in flight and was ended from outside, by [`LiveCalls`](crate::call::LiveCalls) or by its
    /// [budget](crate::budget).
    Cut,
    /// The process that carried the call ended, and nobody saw the rest: see [`journal`](crate::store::journal).
    Lost,
}

impl End {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::Abandoned => "abandoned",
            End::Failed => "failed",
            End::Refused => "refused",
            End::Cut => "cut",
            End::Lost => "lost",
        }
    }
}

/// How accurately the cost of a call with held money is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quality {
    /// Exactly: from the provider's final usage, or because there was nothing to bill.
    Exact,
    /// As an upper bound: the call ended without a final usage, and this is the most that it can have cost.
    Estimated,
    /// Not at all: nothing bounds the cost below the grant, so the grant is charged.
    Forfeit,
}

impl Quality {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Exact => "exact",
            Quality::Estimated => "estimated",
            Quality::Forfeit => "forfeit",
        }
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The answer came in full.
    Complete,
    /// The gateway's side dropped it before its end, because nobody wanted it any more.
    Abandoned,
    /// No connection was made, or none took all of the request's body, so the provider had nothing to work on.
    Unsent,
    /// It was sent, as far as is known, but no answer came, or an edge proxy answered 524 after its own timeout. The
    /// provider may have worked and billed.
    NoAnswer,
    /// The provider answered with an error status, or with a success status and a body that is only an error.
    ErrorStatus,
    /// The answer broke off, stalled, reported a failure in its stream, or ended without its end marker.
    Broken,
}

impl AttemptEnd {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptEnd::Complete => "complete",
            AttemptEnd::Abandoned => "abandoned",
            AttemptEnd::Unsent => "unsent",
            AttemptEnd::NoAnswer => "no_answer",
            AttemptEnd::ErrorStatus => "error_status",
            AttemptEnd::Broken => "broken",
        }
    }
}

/// What is known of one attempt when its call has closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// Where it went; `None` if the service behind the layers is the host's own.
    pub target: Option<Target>,
    /// The model that the answer names.
    pub answered: Option<Arc<str>>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The status of the answer, if its head came.
    pub status: Option<StatusCode>,
    /// The latest usage that the provider stated; `None` if it stated none.
    pub usage: Option<Usage>,
    /// Whether that usage is final: the answer came in full and carried it.
    pub usage_is_final: bool,
    /// What that usage costs by the catalog; `None` if the model has no price there.
    pub cost: Option<Money>,
    /// The price list that the cost is from: that of the model's [card](super::catalog::ModelCard).
    pub price_version: Option<Arc<str>>,
    /// The most that it can have cost, if the usage is not final and time bounds it: see
    /// [`ceiling_so_far`](super::estimate::ceiling_so_far).
    pub at_most: Option<Money>,
    /// The most output tokens that it can have had, if the usage is not final: what the model can have produced in the
    /// time or, if its speed is not known, the number of events that came.
    pub output_at_most: Option<u64>,
    /// The provider's name for its error, if it failed: `overloaded_error`, `insufficient_quota`. One word of up to 64
    /// bytes; nothing of the message about the request.
    pub error: Option<Arc<str>>,
    /// The provider's own id of the request, for its support.
    pub upstream_request_id: Option<String>,
    /// The time from the start of the attempt to the head of its answer.
    pub head_after: Option<Duration>,
    /// The time from the start of the attempt to its end.
    pub took: Duration,
}

impl Attempt {
    /// An attempt that ended like this, and of which nothing else is known.
    pub(crate) fn begun(end: AttemptEnd) -> Self {
        Attempt {
            target: None,
            answered: None,
            end,
            status: None,
            usage: None,
            usage_is_final: false,
            cost: None,
            price_version: None,
            at_most: None,
            output_at_most: None,
            error: None,
            upstream_request_id: None,
            head_after: None,
            took: Duration::ZERO,
        }
    }
}

/// The account of a closed call. It is made once, after the client's body and the last attempt have both ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The id that the client saw as `x-request-id`.
    pub id: Uuid,
    /// The dialect and the operation of the request.
    pub endpoint: Endpoint,
    /// Who called, if a layer authenticated the caller.
    pub principal: Option<Arc<Principal>>,
    /// What the client says about itself. It is read only if something in the stack uses it: an
    /// [`AuditLayer`](crate::AuditLayer), an [`on_close`](crate::CallLayer::on_close) or
    /// [`on_open`](crate::CallLayer::on_open) observer, or a gate of the host.
    pub client: Attribution,
    /// The model that the client named, if the body was read.
    pub model: Option<Arc<str>>,
    /// How the call ended.
    pub end: End,
    /// The status that the client was sent; `None` if the client left before that.
    pub status: Option<StatusCode>,
    /// Why the gateway refused, or which of its own errors replaced the upstream's answer.
    pub rejection: Option<RejectionKind>,
    /// The message of that rejection to the client.
    pub reason: Option<Cow<'static, str>>,
    /// The decision of each layer that may refuse, in order.
    pub decisions: Vec<Decision>,
    /// What a translation of the request lost, as the client was told: `dropped=seed; clamped=temperature:1.4>1`.
    pub warnings: Option<Arc<str>>,
    /// The sum over the attempts; `None` if no attempt stated a usage.
    pub usage: Option<Usage>,
    /// The sum of the costs of the attempts, by the catalog; `None` if none has a cost.
    pub cost: Option<Money>,
    /// What was held in the budgets.
    pub granted: Option<Money>,
    /// What the budgets are finally charged: see [`charge`].
    pub charged: Option<Money>,
    /// The output limit that the request was clamped to, in tokens, to fit the grant.
    pub clamped: Option<u64>,
    /// Every attempt, in the order in which they began.
    pub attempts: Vec<Attempt>,
    /// Whether everything behind the layers that could ask a provider begins an attempt first. If so, a call without an
    /// attempt has cost nothing.
    pub metered: bool,
    /// When the call opened.
    pub opened_at: Timestamp,
    /// The time from opening to the head of the answer.
    pub head_after: Option<Duration>,
    /// The part of that time in which no upstream was waited for: reading the request, deciding, translating, waiting
    /// for a budget. It includes the host's own service if that is not metered.
    pub own: Option<Duration>,
    /// The time from opening to the first byte of the answer's body.
    pub first_byte_after: Option<Duration>,
    /// The time from opening to closing.
    pub took: Duration,
    /// The bytes of the request's body, if it was read.
    pub bytes_in: Option<u64>,
    /// The bytes of body that were passed to the client.
    pub bytes_out: u64,
    /// How much of the prompt and the answer was to be kept, if any: see [`ContentLayer`](crate::ContentLayer).
    pub content: Option<Keep>,
}

impl Outcome {
    /// Whether it is certain that no provider was asked.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        // Somebody gave the answer that is garbled.
        let is_refusal = |kind| kind != RejectionKind::UpstreamGarbled;
        let is_refused = self.rejection.is_some_and(is_refusal) && self.end != End::Cut;
        self.attempts.is_empty() && (is_refused || self.metered)
    }

    /// The time to the first byte of a good answer. Errors are immediate, and say nothing about how long answers take.
    pub(crate) fn first_chunk_after(&self) -> Option<Duration> {
        self.first_byte_after.filter(|_| self.status.is_some_and(|status| status.is_success()))
    }

    /// How accurately the charge is known; `None` if no budget held anything.
    #[must_use]
    pub fn quality(&self) -> Option<Quality> {
        let granted = self.granted?;
        if self.attempts.is_empty() {
            return Some(if self.is_unasked() { Quality::Exact } else { Quality::Forfeit });
        }
        let mut unknown = self.attempts.iter().filter(|attempt| known(attempt).is_none()).peekable();
        if unknown.peek().is_none() {
            return Some(Quality::Exact);
        }
        let is_bounded = self.charged != Some(granted) && unknown.all(|attempt| attempt.at_most.is_some());
        Some(if is_bounded { Quality::Estimated } else { Quality::Forfeit })
    }
}

impl Attempt {
    /// Whether no provider saw the attempt, or the provider refused it.
    pub(crate) fn came_to_nothing(&self) -> bool {
        match self.end {
            AttemptEnd::Unsent => true,
            AttemptEnd::ErrorStatus => self.usage.is_none(),
            _ => false,
        }
    }
}

/// What one layer decided about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// The name of the layer.
    pub layer: Cow<'static, str>,
    /// Whether the layer let the call pass; left out of the JSON if it did.
    #[serde(default = "passed", skip_serializing_if = "bool::clone")]
    pub allowed: bool,
    /// Why.
    pub reason: Cow<'static, str>,
}

fn passed() -> bool {
    true
}

impl Decision {
    /// The layer called `layer` let the call pass. 1 KiB of the reason is kept.
    pub fn allow(layer: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Decision { layer: layer.into(), allowed: true, reason: shortened(reason, REASON) }
    }

    /// The layer called `layer` refused the call. 1 KiB of the reason is kept.
    pub fn refuse(layer: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Decision { layer: layer.into(), allowed: false, reason: shortened(reason, REASON) }
    }
}

/// The charge for a call with this grant: the sum over its attempts.
///
/// - An attempt that no provider saw, or that was refused: nothing.
/// - An answer that came in full with its usage: its cost.
/// - Any other: the most that it can have cost, since the provider may have worked and billed unseen. If that is
///   unknown or exceeds the grant, the grant.
///
/// A call without attempts is charged nothing if [no provider was asked](Outcome::is_unasked), and otherwise the grant.
#[must_use]
pub fn charge(granted: Money, attempts: &[Attempt], is_unasked: bool) -> Money {
    sum(granted, attempts, is_unasked, |at_most| at_most.unwrap_or(granted).min(granted))
}

/// The charge for a call whose grant is only a guess at its cost.
///
/// As [`charge`], except for an attempt whose cost is not fully known: it is charged the most that it can have cost,
/// even beyond the grant, or the grant if that is unknown.
#[must_use]
pub fn charge_guessed(granted: Money, attempts: &[Attempt], is_unasked: bool) -> Money {
    sum(granted, attempts, is_unasked, |at_most| at_most.unwrap_or(granted))
}

fn sum(granted: Money, attempts: &[Attempt], is_unasked: bool, unknown: impl Fn(Option<Money>) -> Money) -> Money {
    if attempts.is_empty() {
        // Let through, and nobody saw what became of it: the service behind is not metered.
        return if is_unasked { Money::ZERO } else { granted };
    }
    let charged = |attempt: &Attempt| known(attempt).unwrap_or_else(|| unknown(attempt.at_most));
    attempts.iter().map(charged).fold(Money::ZERO, Money::saturating_add)
}

/// The amount counted for a call whose cost nothing bounds, so that nothing was held.
///
/// It is the sum over the attempts: the cost if it is known, otherwise the most that it can have cost, otherwise what
/// it is known to have cost so far.
#[must_use]
pub fn count(attempts: &[Attempt]) -> Money {
    let counted = |attempt: &Attempt| known(attempt).or(attempt.at_most).or(attempt.cost).unwrap_or(Money::ZERO);
    attempts.iter().map(counted).fold(Money::ZERO, Money::saturating_add)
}

/// The cost of an attempt, if it is fully known.
fn known(attempt: &Attempt) -> Option<Money> {
    match attempt.came_to_nothing() {
        true => Some(Money::ZERO),
        false => attempt.cost.filter(|_| attempt.usage_is_final),
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempt, AttemptEnd, Money, charge, charge_guessed};

    #[test]
    fn retries_are_charged_as_the_sum_of_their_attempts_each_for_what_is_known_of_it() {
        let money = Money::from_nanos;
        let known =
            |cost| Attempt { cost: Some(money(cost)), usage_is_final: true, ..Attempt::begun(AttemptEnd::Complete) };
        // What it has said so far is not all of it.
        let unknown = |at_most: Option<i64>| {
            let (cost, at_most) = (Some(money(1)), at_most.map(money));
            Attempt { cost, at_most, ..Attempt::begun(AttemptEnd::Broken) }
        };
        let unsent = || Attempt::begun(AttemptEnd::Unsent);
        for (attempts, charged, guessed) in [
            (vec![known(30), known(50)], 80, 80),
            (vec![known(130), known(50)], 180, 180),
            (vec![known(30), unknown(Some(40))], 70, 70),
            (vec![known(30), unknown(Some(140))], 130, 170),
            (vec![unknown(None), known(30)], 130, 130),
            (vec![unknown(Some(40)), unknown(Some(50))], 90, 90),
            (vec![unknown(Some(140)), unknown(None)], 200, 240),
            (vec![unsent(), known(30)], 30, 30),
            (vec![unsent(), unknown(None)], 100, 100),
        ] {
            // Whether nobody was asked is a question of calls without any.
            for is_unasked in [false, true] {
                let sums = [charge, charge_guessed].map(|sum| sum(money(100), &attempts, is_unasked).nanos());
                assert_eq!(sums, [charged, guessed], "{attempts:?}");
            }
        }
    }
}
