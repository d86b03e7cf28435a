//! Events that somebody should hear of when they happen: a budget that runs out, a provider that is down.
//!
//! Use it to write an [`EventSink`](crate::store::event::EventSink), or to report something yourself. The text of an
//! event is a sentence for people. It serialises as one flat object with a `type`.
//!
//! ```
//! use tollgate::domain::event::{Event, What};
//! let event = Event::new("2026-11-28T09:00:00Z".parse()?, What::UpstreamDown { upstream: "anthropic".into(), attempts: 5 });
//! assert_eq!(event.to_string(), "upstream anthropic is down: its last 5 attempts failed");
//! assert_eq!(serde_json::to_value(&event)?["type"], "upstream_down");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::budget::Pot;
use super::money::Money;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The id of the event, by which a sink recognizes one that comes again.
    pub id: Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A budget has reached a threshold. At 100 percent nothing more is granted, unless the budget is soft.
    BudgetThreshold {
        /// The pot.
        pot: Pot,
        /// The name of the key, if the pot is a key's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_name: Option<Arc<str>>,
        /// The limit of the budget.
        limit_usd: Money,
        /// The amount spent.
        spent_usd: Money,
        /// The percentage of the limit that was reached.
        percent: u8,
        /// Whether the budget is soft: it refuses nothing, at 100 percent either. False, whatever it is, if a call has
        /// reached the threshold that a crash ended.
        #[serde(default)]
        soft: bool,
    },
    /// A budget refuses calls: what is left of it, if anything, is too little for a call.
    BudgetExhausted {
        /// The pot.
        pot: Pot,
        /// The name of the key, if the pot is a key's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_name: Option<Arc<str>>,
        /// The limit of the budget.
        limit_usd: Money,
        /// The amount spent.
        spent_usd: Money,
        /// When there will be more, if ever.
        resets_at: Option<Timestamp>,
    },
    /// A key was revoked.
    KeyRevoked {
        /// The id of the key.
        key_id: Uuid,
        /// The name of the key.
        key_name: Arc<str>,
    },
    /// An upstream does not answer, or not properly.
    UpstreamDown {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// The number of attempts in a row that failed.
        attempts: u64,
    },
    /// An upstream answers again.
    UpstreamUp {
        /// The name of the upstream.
        upstream: Arc<str>,
    },
    /// Records cannot be written as they should be, and calls are refused.
    AuditDegraded {
        /// Why.
        reason: Cow<'static, str>,
    },
    /// Records are written again.
    AuditRestored,
}

impl Event {
    /// An event that happened at this time.
    #[must_use]
    pub fn new(at: Timestamp, what: What) -> Self {
        Event { id: Uuid::now_v7(), at, what }
    }
}

impl What {
    /// The type, as in the JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            What::BudgetThreshold { .. } => "budget_threshold",
            What::BudgetExhausted { .. } => "budget_exhausted",
            What::KeyRevoked { .. } => "key_revoked",
            What::UpstreamDown { .. } => "upstream_down",
            What::UpstreamUp { .. } => "upstream_up",
            What::AuditDegraded { .. } => "audit_degraded",
            What::AuditRestored => "audit_restored",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.what, f)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::BudgetThreshold { pot, key_name, limit_usd, spent_usd, percent, soft } => {
                let (window, scope) = (pot.window, pot.scope.by_name(key_name.as_deref()));
                let soft_window = format_args!("{}{window}", if *soft { "soft " } else { "" });
                match percent {
                    100 => write!(f, "the {soft_window} budget of {scope} is spent: ${spent_usd} of ${limit_usd}")?,
                    _ => write!(
                        f,
                        "{percent}% of the {soft_window} budget of {scope} is spent: ${spent_usd} of ${limit_usd}"
                    )?,
                }
                if *soft && *percent == 100 { f.write_str("; calls go on") } else { Ok(()) }
            }
            What::BudgetExhausted { pot, key_name, limit_usd, spent_usd, resets_at } => {
                let (window, scope) = (pot.window, pot.scope.by_name(key_name.as_deref()));
                write!(
                    f,
                    "calls are refused by the {window} budget of {scope}: ${spent_usd} of ${limit_usd} is spent"
                )?;
                resets_at.map_or(Ok(()), |at| write!(f, "; more becomes available at {at}"))
            }
            What::KeyRevoked { key_name, .. } => write!(f, "key {key_name} was revoked"),
            What::UpstreamDown { upstream, attempts } => {
                write!(f, "upstream {upstream} is down: its last {attempts} attempts failed")
            }
            What::UpstreamUp { upstream } => write!(f, "upstream {upstream} answers again"),
            What::AuditDegraded { reason } => write!(f, "calls are refused because they cannot be recorded: {reason}"),
            What::AuditRestored => f.write_str("calls are recorded again"),
        }
    }
}
