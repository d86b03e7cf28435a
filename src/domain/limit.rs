//! Limits on requests per minute, tokens per minute, and concurrent calls.
//!
//! Use it to give a key its limits. A minute's worth may be used at once and then comes back evenly, as with the
//! providers (a token bucket whose size is its limit).
//!
//! ```
//! use tollgate::domain::limit::{Limit, Measure};
//! use tollgate::domain::scope::Scope;
//! let limit = Limit::new(Scope::user("ada"), Measure::Requests, 60);
//! assert_eq!(limit.to_string(), "60 requests a minute for user ada");
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scope::Scope;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Calls begun per minute.
    Requests,
    /// Input and output tokens per minute, without those that Anthropic's API has read from its cache.
    Tokens,
    /// Concurrent calls, each until its last byte.
    Parallel,
}

impl Measure {
    /// The name under which the measure is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Parallel => "parallel",
        }
    }
}

/// A scope, a measure, and the most that is allowed.
///
/// The principal supplies the limit with every request, as for a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limit {
    /// The scope that the limit applies to.
    pub scope: Scope,
    /// What is counted.
    pub measure: Measure,
    /// The most per minute, or concurrently.
    pub most: u64,
}

impl Limit {
    /// At most `most` of `measure` for `scope`.
    #[must_use]
    pub fn new(scope: Scope, measure: Measure, most: u64) -> Self {
        Limit { scope, measure, most }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Requests => write!(f, "{} requests a minute for {}", self.most, self.scope),
            Measure::Tokens => write!(f, "{} tokens a minute for {}", self.most, self.scope),
            Measure::Parallel => write!(f, "{} calls at once for {}", self.most, self.scope),
        }
    }
}
