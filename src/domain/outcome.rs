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
    /// The client got the whole of a good answer.
    Complete,
    /// The client went away before the end of its answer.
    Abandoned,
    /// It was let through, and upstream or the way there failed: an error status, a broken or cut stream, a panic.
    Failed,
    /// We did not let it through.
    Refused,
    /// It was under way, and ended from outside, see [`LiveCalls`](crate::call::LiveCalls), or by its
    /// [budget](crate::budget).
    Cut,
    /// The process that carried it ended, and nobody saw how it went on: see [`journal`](crate::store::journal).
    Lost,
}

impl End {
    /// As records and metrics have it.
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

/// How well it is known what a call cost that money was held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quality {
    /// By the provider's own last word, or because there was nothing to bill.
    Exact,
    /// It ended without that word: it is the most that it can have cost.
    Estimated,
    /// Nothing bounds what it can have cost below what was granted: that.
    Forfeit,
}

impl Quality {
    /// As records and metrics have it.
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
    /// The answer came whole.
    Complete,
    /// Dropped by our side before its end, because nobody wanted it any more.
    Abandoned,
    /// No connection was made, or none took all of the request's body: the provider had nothing to work on.
    Unsent,
    /// Sent, as far as anybody knows, but no answer came, or in its place the 524 of an edge that waited no longer: the provider
    /// may have worked and billed.
    NoAnswer,
    /// The provider answered with an error status, or with one of success and an error for all of its answer.
    ErrorStatus,
    /// The answer broke off, stalled, said in its stream that it failed, or ended without the mark of its end.
    Broken,
}

impl AttemptEnd {
    /// As records and metrics have it.
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
    /// Where it went; `None` where the service behind the layers is the host's own.
    pub target: Option<Target>,
    /// The model that the answer says it is of.
    pub answered: Option<Arc<str>>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The status of the answer, if its head came.
    pub status: Option<StatusCode>,
    /// The latest usage that the provider stated; `None` if it stated none.
    pub usage: Option<Usage>,
    /// Whether that usage is the provider's last word: the answer came whole and carried it.
    pub usage_is_final: bool,
    /// What that usage costs by the catalogue; `None` where the model has no price there.
    pub cost: Option<Money>,
    /// Of which list the prices are that it was costed by: that of the model's [card](super::catalog::ModelCard).
    pub price_version: Option<Arc<str>>,
    /// The most that it can have cost, where that usage is not the last word and time bounds it: see
    /// [`ceiling_so_far`](super::estimate::ceiling_so_far).
    pub at_most: Option<Money>,
    /// The most output tokens that it can have had, where that usage is not the last word: what its model can have made in the
    /// time, or, where its speed is not known, as many as events came.
    pub output_at_most: Option<u64>,
    /// What the provider calls its error, if it failed: `overloaded_error`, `insufficient_quota`. One word of up to 64 bytes, and
    /// nothing of what it says of the request.
    pub error: Option<Arc<str>>,
    /// The provider's own id of the request, for its support desk.
    pub upstream_request_id: Option<String>,
    /// From the start of the attempt to the head of its answer.
    pub head_after: Option<Duration>,
    /// From the start of the attempt to its end.
    pub took: Duration,
}

impl Attempt {
    /// One that ended so, and of which nothing else is known.
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

/// The account of a closed call. Made once, after its client body and its last attempt have both ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The id that the client saw as `x-request-id`.
    pub id: Uuid,
    /// What was asked, in which dialect.
    pub endpoint: Endpoint,
    /// Who called, if anyone asked.
    pub principal: Option<Arc<Principal>>,
    /// What the client says of itself, where somebody hears of the call: an [`AuditLayer`](crate::AuditLayer), an observer or an
    /// opener ([`on_close`](crate::CallLayer::on_close), [`on_open`](crate::CallLayer::on_open)), a gate of the host's.
    pub client: Attribution,
    /// The model that the client named, if its body was read.
    pub model: Option<Arc<str>>,
    /// How the call ended.
    pub end: End,
    /// The status that the client was sent; `None` if it left before any was.
    pub status: Option<StatusCode>,
    /// Why we refused, or which of our own errors answered in the upstream's place.
    pub rejection: Option<RejectionKind>,
    /// The sentence that the client was sent with it.
    pub reason: Option<Cow<'static, str>>,
    /// What each layer that may refuse decided, in order.
    pub decisions: Vec<Decision>,
    /// What a translation of the request lost, as the client was told: `dropped=seed; clamped=temperature:1.4>1`.
    pub warnings: Option<Arc<str>>,
    /// The sum over the attempts; `None` if no attempt stated any.
    pub usage: Option<Usage>,
    /// The sum of what the attempts cost, by the catalogue; `None` if none has a cost.
    pub cost: Option<Money>,
    /// What was held of the budgets.
    pub granted: Option<Money>,
    /// What the budgets are charged in the end: see [`charge`].
    pub charged: Option<Money>,
    /// The output tokens that the request was cut down to, so that it fits the grant.
    pub clamped: Option<u64>,
    /// Every attempt, in the order in which they began.
    pub attempts: Vec<Attempt>,
    /// Whether nothing that could ask a provider stood behind the layers but what begins an attempt first: a call without
    /// one has cost nothing then.
    pub metered: bool,
    /// When the call opened.
    pub opened_at: Timestamp,
    /// From opening to the head of the answer.
    pub head_after: Option<Duration>,
    /// What of that no upstream was waited for: reading the request, deciding, translating, waiting for a budget; and a host's own
    /// service, where nobody meters it.
    pub own: Option<Duration>,
    /// From opening to the first byte of the answer's body.
    pub first_byte_after: Option<Duration>,
    /// From opening to closing.
    pub took: Duration,
    /// Bytes of the request's body, if it was read.
    pub bytes_in: Option<u64>,
    /// Bytes of body that the client was handed.
    pub bytes_out: u64,
    /// How much of what the two held was to be kept, if any was: see [`ContentLayer`](crate::ContentLayer).
    pub content: Option<Keep>,
}

impl Outcome {
    /// Whether it is known that no provider was asked anything.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        let is_refused = self.rejection.is_some() && self.end != End::Cut;
        self.attempts.is_empty() && (is_refused || self.metered)
    }

    /// From opening to the first byte of a good answer: an error is there at once, and says nothing of how long answers take.
    pub(crate) fn first_chunk_after(&self) -> Option<Duration> {
        self.first_byte_after.filter(|_| self.status.is_some_and(|status| status.is_success()))
    }

    /// How well it is known what the budgets are charged; `None` where nothing was held of any.
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
    /// Whether no provider saw it, or the one that did refused it.
    pub(crate) fn came_to_nothing(&self) -> bool {
        match self.end {
            AttemptEnd::Unsent => true,
            AttemptEnd::ErrorStatus => self.usage.is_none(),
            _ => false,
        }
    }
}

/// What one layer made of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// Which layer.
    pub layer: Cow<'static, str>,
    /// Whether it let the call pass; left out of its JSON where it did.
    #[serde(default = "passed", skip_serializing_if = "bool::clone")]
    pub allowed: bool,
    /// Why.
    pub reason: Cow<'static, str>,
}

fn passed() -> bool {
    true
}

impl Decision {
    /// The layer called `layer` let the call pass. Of the reason 1 KiB is kept.
    pub fn allow(layer: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Decision { layer: layer.into(), allowed: true, reason: shortened(reason, REASON) }
    }

    /// The layer called `layer` did not. Of the reason 1 KiB is kept.
    pub fn refuse(layer: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Decision { layer: layer.into(), allowed: false, reason: shortened(reason, REASON) }
    }
}

/// What a call is charged that was granted so much.
///
/// The sum of its attempts: nothing for one that no provider saw, or that was refused; its cost where the answer came
/// whole with its usage; for any other, since the provider may have worked, and billed, unseen, the most that it can have
/// cost, or the whole grant where that is less or not known. Without any attempt nothing where it [is
/// known](Outcome::is_unasked) that no provider was asked, and else the whole grant.
#[must_use]
pub fn charge(granted: Money, attempts: &[Attempt], is_unasked: bool) -> Money {
    sum(granted, attempts, is_unasked, |at_most| at_most.unwrap_or(granted).min(granted))
}

/// What a call is charged whose grant is a guess at what it may cost.
///
/// As [`charge`], but for an attempt of which not all is known: the most that it can have cost, though that be more than was
/// granted, or the grant where that is not known.
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

/// What a call is counted for where nothing bounds what it may cost, so that nothing was held: as far as anybody knows.
///
/// The sum of its attempts: the cost of one that is known, of any other the most that it can have cost, or what it is known
/// to have cost so far.
#[must_use]
pub fn count(attempts: &[Attempt]) -> Money {
    let counted = |attempt: &Attempt| known(attempt).or(attempt.at_most).or(attempt.cost).unwrap_or(Money::ZERO);
    attempts.iter().map(counted).fold(Money::ZERO, Money::saturating_add)
}

/// The cost of an attempt of which everything is known.
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
