//! The record of one call: who, what, when, how much, and why not.
//!
//! Use it to write a sink. A record is made when a call closes, however it ended, and contains nothing of its prompts
//! and answers. It serialises as one flat object, and can be read back. Within one `schema`, members may be added but
//! never changed. What is unknown is left out. [`docs::records`](crate::docs::records) lists all members.
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

/// The version of the serialised shape of records.
pub const SCHEMA: u32 = 1;

/// The longest name or tag that a record keeps, in bytes, and the most tags.
const NAME: usize = 256;
const TAGS: usize = 64;

/// The record of one closed call. Unknown and empty values are left out of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The [`SCHEMA`] at the time when the record was made.
    pub schema: u32,
    /// The call's id: the client saw it as `x-request-id`, and the budgets know the reservation by it.
    pub id: Uuid,
    /// When the call opened, to the microsecond.
    pub opened_at: Timestamp,
    /// The virtual key that was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Uuid>,
    /// The name of the key, or of the caller whom the host has authenticated. For this and each of the next three
    /// members, 256 bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<Arc<str>>,
    /// The user that the key belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The team of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Arc<str>>,
    /// The organisation of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Arc<str>>,
    /// The client program, as the client says: see [`attribution`](super::attribution).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// The client's session, as the client says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// The end user, as the client says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_user: Option<Arc<str>>,
    /// The team, as the client says. `team` is that of the key, and the one that budgets use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_team: Option<Arc<str>>,
    /// The tags of the key: 64 of them, and 256 bytes of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// The dialect of the client.
    pub dialect: Dialect,
    /// The operation of the request.
    pub operation: Operation,
    /// The model that the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// How the call ended.
    pub end: End,
    /// The status that the client was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the gateway refused, or which of its own errors replaced the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<RejectionKind>,
    /// The message of that rejection to the client; 1 KiB is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The decision of each layer that may refuse, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// What a translation of the request lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Arc<str>>,
    /// The usage over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What that usage costs by the catalog.
    #[serde(rename = "cost_usd", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What was held in the budgets.
    #[serde(rename = "granted_usd", default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Money>,
    /// What the budgets are charged.
    #[serde(rename = "charged_usd", default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Money>,
    /// How accurately the charge is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The output limit that the request was clamped to, in tokens.
    #[serde(rename = "clamped_to", default, skip_serializing_if = "Option::is_none")]
    pub clamped: Option<u64>,
    /// Every attempt, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// The time from opening to the head of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_us: Option<u64>,
    /// The part of that time that was not spent waiting for upstreams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_us: Option<u64>,
    /// The time from opening to the first byte of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// The time from opening to closing.
    pub took_us: u64,
    /// The bytes of the request's body, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// The bytes of body that were passed to the client.
    pub bytes_out: u64,
    /// How much of the prompt and the answer was to be kept, if any. There may have been no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Keep>,
}

/// One attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The name of the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// The dialect of the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// The model that the upstream was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The model that the answer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Arc<str>>,
    /// How the attempt ended.
    pub end: AttemptEnd,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The latest usage that the provider stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether that usage is final; left out of the JSON if it is.
    #[serde(default = "is_so", skip_serializing_if = "bool::clone")]
    pub usage_is_final: bool,
    /// What that usage costs by the catalog.
    #[serde(rename = "cost_usd", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// The price list that the cost is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<Arc<str>>,
    /// The most that the attempt can have cost, if the usage is not final.
    #[serde(rename = "at_most_usd", default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Money>,
    /// The provider's name for its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// The provider's own id of the request; 128 bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
    /// The time from the start of the attempt to the head of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_us: Option<u64>,
    /// The time from the start of the attempt to its end.
    pub took_us: u64,
}

impl AuditRecord {
    /// The scope of the caller's own key, and the name of the key.
    pub(crate) fn key(&self) -> Option<(Scope, Arc<str>)> {
        let name = self.key_name.clone()?;
        Some((self.key_id.map_or_else(|| Scope::key(name.clone()), |id| Scope::key(id.to_string())), name))
    }

    /// The record of this outcome.
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

/// A name, shortened. Hosts may use names of any length, and a record must fit into a line.
fn kept(name: &Arc<str>) -> Arc<str> {
    if name.len() <= NAME { name.clone() } else { shortened(&**name, NAME).into() }
}

/// Without the nanoseconds, like all times in a record: many databases have none.
pub(crate) fn in_micros(at: Timestamp) -> Timestamp {
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
