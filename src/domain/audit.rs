//! The record of one call: who, what, when, how much, and why not.
//!
//! Reach for it when you write a sink. A record is made at the close of a call, whatever its end, and says nothing of
//! what the prompts and the answers held. It serialises as one flat object, whose members are added to and not changed
//! within one `schema`; money is decimal text.
//!
//! ```
//! use tollgate::domain::audit::AuditRecord;
//! fn line(record: &AuditRecord) -> Option<String> {
//!     serde_json::to_string(record).ok()
//! }
//! ```

use std::sync::Arc;

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::outcome::{Attempt, AttemptEnd, Decision, Outcome};
use super::usage::Usage;

/// The version of the shape that records serialise in.
pub const SCHEMA: u32 = 1;

/// One closed call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    outcome: Arc<Outcome>,
}

impl AuditRecord {
    /// The record of a call that ended so.
    #[must_use]
    pub fn new(outcome: Arc<Outcome>) -> Self {
        AuditRecord { outcome }
    }

    /// All that is known of the call.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl Serialize for AuditRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = self.outcome();
        let principal = outcome.principal.as_deref();
        Line {
            schema: SCHEMA,
            id: outcome.id.to_string(),
            opened_at: outcome.opened_at.to_string(),
            key_id: principal.and_then(|p| p.key).map(|id| id.to_string()),
            key_name: principal.map(|p| &*p.name),
            user: principal.and_then(|p| p.user.as_deref()),
            team: principal.and_then(|p| p.team.as_deref()),
            org: principal.and_then(|p| p.org.as_deref()),
            agent: outcome.client.agent.as_deref(),
            session: outcome.client.session.as_deref(),
            client_user: outcome.client.user.as_deref(),
            tags: principal.map(|p| &p.tags[..]).unwrap_or_default(),
            dialect: outcome.endpoint.dialect,
            operation: outcome.endpoint.operation,
            model: outcome.model.as_deref(),
            end: outcome.end,
            status: outcome.status.map(|s| s.as_u16()),
            rejection: outcome.rejection,
            reason: outcome.reason.as_deref(),
            decisions: &outcome.decisions,
            warnings: outcome.warnings.as_deref(),
            usage: outcome.usage,
            cost_usd: outcome.cost.map(|m| m.to_string()),
            granted_usd: outcome.granted.map(|m| m.to_string()),
            charged_usd: outcome.charged.map(|m| m.to_string()),
            clamped_to: outcome.clamped,
            attempts: Attempts(&outcome.attempts),
            head_us: outcome.head_after.map(micros),
            first_byte_us: outcome.first_byte_after.map(micros),
            took_us: micros(outcome.took),
            bytes_out: outcome.bytes_out,
        }
        .serialize(serializer)
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(serde::Serialize)]
struct Line<'a> {
    schema: u32,
    id: String,
    opened_at: String,
    key_id: Option<String>,
    key_name: Option<&'a str>,
    user: Option<&'a str>,
    team: Option<&'a str>,
    org: Option<&'a str>,
    agent: Option<&'a str>,
    session: Option<&'a str>,
    client_user: Option<&'a str>,
    tags: &'a [Arc<str>],
    dialect: super::dialect::Dialect,
    operation: super::dialect::Operation,
    model: Option<&'a str>,
    end: super::outcome::End,
    status: Option<u16>,
    rejection: Option<super::rejection::RejectionKind>,
    reason: Option<&'a str>,
    decisions: &'a [Decision],
    warnings: Option<&'a str>,
    usage: Option<Usage>,
    cost_usd: Option<String>,
    granted_usd: Option<String>,
    charged_usd: Option<String>,
    clamped_to: Option<u64>,
    attempts: Attempts<'a>,
    head_us: Option<u64>,
    first_byte_us: Option<u64>,
    took_us: u64,
    bytes_out: u64,
}

struct Attempts<'a>(&'a [Attempt]);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for attempt in self.0 {
            list.serialize_element(&Try {
                upstream: attempt.target.as_ref().map(|t| &*t.upstream),
                model: attempt.target.as_ref().map(|t| &*t.model),
                end: attempt.end,
                status: attempt.status.map(|s| s.as_u16()),
                usage: attempt.usage,
                usage_is_final: attempt.usage_is_final,
                cost_usd: attempt.cost.map(|m| m.to_string()),
                price_version: attempt.price_version.as_deref(),
                at_most_usd: attempt.at_most.map(|m| m.to_string()),
                upstream_request_id: attempt.upstream_request_id.as_deref(),
                head_us: attempt.head_after.map(micros),
                took_us: micros(attempt.took),
            })?;
        }
        list.end()
    }
}

#[derive(serde::Serialize)]
struct Try<'a> {
    upstream: Option<&'a str>,
    model: Option<&'a str>,
    end: AttemptEnd,
    status: Option<u16>,
    usage: Option<Usage>,
    usage_is_final: bool,
    cost_usd: Option<String>,
    price_version: Option<&'a str>,
    at_most_usd: Option<String>,
    upstream_request_id: Option<&'a str>,
    head_us: Option<u64>,
    took_us: u64,
}
