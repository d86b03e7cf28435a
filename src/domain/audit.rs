//! The record of one call: who, what, when, how much, and why not.
//!
//! Reach for it when you write a sink. A record is made at the close of a call, whatever its end, and says nothing of
//! what the prompts and the answers held. It serialises as one flat object, and is read back from it: members are added to
//! and not changed within one `schema`, and what is not known is left out. [`docs::records`](crate::docs::records) has them all.
//!
//! ```
//! use tollgate::domain::audit::AuditRecord;
//! fn line(record: &AuditRecord) -> Option<String> {
//!     serde_json::to_string(record).ok()
//! }
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::content::Keep;
use super::dialect::{Dialect, Operation};
use super::money::Money;
use super::outcome::{Attempt, AttemptEnd, Decision, End, Outcome, Quality};
use super::rejection::RejectionKind;
use super::scope::Scope;
use super::short::shortened;
use super::usage::Usage;

/// The version of the shape that records serialise in.
pub const SCHEMA: u32 = 1;

/// Longest name or tag that a record keeps, in bytes, and the most tags.
const NAME: usize = 256;
const TAGS: usize = 64;

/// One closed call. What is not known, or is none, is left out of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// [`SCHEMA`], when it was made.
    pub schema: u32,
    /// The call's id, which the client saw as `x-request-id` and the budgets know the reservation by.
    pub id: Uuid,
    /// When the call opened, to the microsecond.
    pub opened_at: Timestamp,
    /// The virtual key that was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Uuid>,
    /// Its name, or that of the caller whom the host has authenticated. Of this and of each of the next three, 256 bytes are
    /// kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<Arc<str>>,
    /// Whose key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// Its team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Arc<str>>,
    /// Its organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Arc<str>>,
    /// The client's program, as it says itself: see [`attribution`](super::attribution).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// Its session, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// On whose behalf, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_user: Option<Arc<str>>,
    /// Its team, as it says itself: `team` is the key's, and what budgets go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_team: Option<Arc<str>>,
    /// The key's words to sort costs by: 64 of them, and 256 bytes of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// What the client speaks.
    pub dialect: Dialect,
    /// What it asked for.
    pub operation: Operation,
    /// The model that it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// How the call ended.
    pub end: End,
    /// The status that the client was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was refused, or which of our errors answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<RejectionKind>,
    /// The sentence that the client was sent with it, of which 1 KiB is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// What each layer that may refuse decided, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// What a translation of the request lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Arc<str>>,
    /// Tokens, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What that usage costs by the catalogue.
    #[serde(rename = "cost_usd", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What was held of the budgets.
    #[serde(rename = "granted_usd", default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Money>,
    /// What they are charged.
    #[serde(rename = "charged_usd", default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Money>,
    /// How well that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The output tokens that the request was cut down to.
    #[serde(rename = "clamped_to", default, skip_serializing_if = "Option::is_none")]
    pub clamped: Option<u64>,
    /// Every attempt, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// From opening to the head of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_us: Option<u64>,
    /// What of that was spent here, and not on waiting for upstreams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_us: Option<u64>,
    /// From opening to the first byte of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// From opening to closing.
    pub took_us: u64,
    /// Bytes of the request's body, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes of body that the client was handed.
    pub bytes_out: u64,
    /// How much of what the two held was to be kept, if any was; there may have been no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Keep>,
}

/// One attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The upstream, by its name here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// The model that it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The model that its answer says it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Arc<str>>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The latest usage that the provider stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether that is its last word; left out of the JSON where it is.
    #[serde(default = "is_so", skip_serializing_if = "bool::clone")]
    pub usage_is_final: bool,
    /// What that usage costs by the catalogue.
    #[serde(rename = "cost_usd", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Of which list the prices are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<Arc<str>>,
    /// The most that it can have cost, where that usage is not the last word.
    #[serde(rename = "at_most_usd", default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Money>,
    /// What the provider calls its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// The provider's own id of the request, of which 128 bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
    /// From its start to the head of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_us: Option<u64>,
    /// From its start to its end.
    pub took_us: u64,
}

impl AuditRecord {
    /// The scope of the caller's own key, and what it is called.
    pub(crate) fn key(&self) -> Option<(Scope, Arc<str>)> {
        let name = self.key_name.clone()?;
        Some((self.key_id.map_or_else(|| Scope::key(name.clone()), |id| Scope::key(id.to_string())), name))
    }

    /// The record of a call that ended so.
    #[must_use]
    pub fn new(outcome: &Outcome) -> Self {
        let (principal, client) = (outcome.principal.as_deref(), &outcome.client);
        AuditRecord {
            schema: SCHEMA,
            id: outcome.id,
            opened_at: in_micros(outcome.opened_at),
            key_id: principal.and_then(|p| p.key),
            key_name: principal.map(|p| kept(&p.name)),
            user: principal.and_then(|p| p.user.as_ref().map(kept)),
            team: principal.and_then(|p| p.team.as_ref().map(kept)),
            org: principal.and_then(|p| p.org.as_ref().map(kept)),
            agent: client.agent.clone(),
            session: client.session.clone(),
            client_user: client.user.clone(),
            client_team: client.team.clone(),
            tags: principal.map(|p| p.tags.iter().take(TAGS).map(kept).collect()).unwrap_or_default(),
            dialect: outcome.endpoint.dialect,
            operation: outcome.endpoint.operation,
            model: outcome.model.clone(),
            end: outcome.end,
            status: outcome.status.map(|status| status.as_u16()),
            rejection: outcome.rejection,
            reason: outcome.reason.clone(),
            decisions: outcome.decisions.clone(),
            warnings: outcome.warnings.clone(),
            usage: outcome.usage,
            cost: outcome.cost,
            granted: outcome.granted,
            charged: outcome.charged,
            quality: outcome.quality(),
            clamped: outcome.clamped,
            attempts: outcome.attempts.iter().map(AttemptRecord::new).collect(),
            head_us: outcome.head_after.map(micros),
            own_us: outcome.own.map(micros),
            first_byte_us: outcome.first_byte_after.map(micros),
            took_us: micros(outcome.took),
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            content: outcome.content,
        }
    }
}

impl AttemptRecord {
    pub(crate) fn new(attempt: &Attempt) -> Self {
        AttemptRecord {
            upstream: attempt.target.as_ref().map(|target| target.upstream.clone()),
            dialect: attempt.target.as_ref().map(|target| target.dialect),
            model: attempt.target.as_ref().map(|target| target.model.clone()),
            answered: attempt.answered.clone(),
            end: attempt.end,
            status: attempt.status.map(|status| status.as_u16()),
            usage: attempt.usage,
            usage_is_final: attempt.usage_is_final,
            cost: attempt.cost,
            price_version: attempt.price_version.clone(),
            at_most: attempt.at_most,
            error: attempt.error.clone(),
            upstream_request_id: attempt.upstream_request_id.clone(),
            head_us: attempt.head_after.map(micros),
            took_us: micros(attempt.took),
        }
    }
}

/// A name as far as it is kept. What a host calls its callers nobody bounds, and a record must fit into a line.
fn kept(name: &Arc<str>) -> Arc<str> {
    if name.len() <= NAME { name.clone() } else { shortened(&**name, NAME).into() }
}

/// Without the nanoseconds, as all times of a record.
fn in_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn is_so() -> bool {
    true
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_loses_its_nanoseconds_and_nothing_else() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(in_micros(at("2026-11-24T09:00:00.000001999Z")), at("2026-11-24T09:00:00.000001Z"));
        assert_eq!(in_micros(at("2026-11-24T09:00:00.25Z")), at("2026-11-24T09:00:00.25Z"));
    }
}
