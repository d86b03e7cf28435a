//! Counts requests, tokens and concurrent calls.
//!
//! Implement [`RateLimitStore`] to count across replicas in a store of your own. [`bucket`](crate::domain::bucket) has
//! the rule for what is counted per minute.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! # use tollgate::domain::limit::{Limit, Measure};
//! # use tollgate::domain::scope::Scope;
//! use std::time::Duration;
//! use tollgate::store::memory::MemoryLimits;
//! use tollgate::store::rate_limit::{Acquire, RateLimitStore, Verdict};
//! use tollgate::store::{At, Session};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tollgate::store::StoreError> {
//!
//! let store = MemoryLimits::new();
//! let session = Session::new(Duration::from_secs(8));
//! let limits = [Limit::new(Scope::user("ada"), Measure::Requests, 1)];
//! let ask = |id| Acquire::new(id, session, &limits);
//! assert!(matches!(store.acquire(&ask(uuid::Uuid::now_v7()), At::Store).await?, Verdict::Allow(_)));
//! assert!(matches!(store.acquire(&ask(uuid::Uuid::now_v7()), At::Store).await?, Verdict::Deny(_)));
//! # Ok(()) } }
//! ```

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{At, Session, StoreError};
use crate::domain::bucket::Mark;
use crate::domain::limit::{Limit, Measure};

/// The wait that a caller is told when no slot is free. Nobody knows when a call will end, and one second is soon
/// enough.
pub const SLOT_WAIT: Duration = Duration::from_secs(1);

/// Counts usage per minute, and concurrent calls.
///
/// If several processes share a store, what one of them counts is counted at once for all of them. The suite's rules
/// use one handle on the store; `conformance::limits_shared` uses two.
#[async_trait]
pub trait RateLimitStore: Send + Sync + 'static {
    /// Counts a call against every limit in the request, or against none, in one atomic step. If it is asked again with
    /// the id of an outstanding permit, it returns the same permit.
    ///
    /// An id is never asked for again after it was settled. A network or a queue may deliver the request to a store
    /// after its settlement. Such a store must not grant it then: nobody would ever free its slot. A denial or an
    /// error will do, since nobody waits for the answer any more.
    ///
    /// # Cancellation
    /// A caller that stops waiting must settle the id for nothing, since the call may have been counted.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<Verdict, StoreError>;

    /// Ends a call. Its slots become free. Unused tokens are given back, except those that have already drained; tokens
    /// beyond the estimate are owed. Settling twice has the effect of settling once.
    ///
    /// The permit of a silent session, whose slots are free already, can be settled for at least an hour.
    ///
    /// # Errors
    /// When the store cannot be written; the caller settles again.
    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError>;

    /// Renews the lease of a session. The slots of a session whose lease has ended are free. If that session is heard
    /// from again, its calls that are not settled count as in flight and take their slots again, whatever the limit.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError>;

    /// Returns the standing of these limits, in the order of the request.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<Standing>, StoreError>;
}

/// What a call asks of its limits: one request, some tokens and one slot.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Acquire<'a> {
    /// The caller's id for the call. Asking twice with one id has the effect of asking once.
    pub id: Uuid,
    /// The session that holds the slots.
    pub session: Session,
    /// All the limits that the call counts against. If one measure of a scope is named twice, it is counted once, under
    /// the tighter limit.
    pub limits: &'a [Limit],
    /// The estimated number of tokens; 0 unless set.
    pub tokens: u64,
}

impl<'a> Acquire<'a> {
    /// Counts one call against each of `limits`.
    #[must_use]
    pub fn new(id: Uuid, session: Session, limits: &'a [Limit]) -> Self {
        Acquire { id, session, limits, tokens: 0 }
    }

    /// Sets the estimated number of tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = tokens;
        self
    }

    /// How much the call takes of a limit's measure.
    #[must_use]
    pub fn amount(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Tokens => self.tokens,
            Measure::Requests | Measure::Parallel => 1,
        }
    }
}

/// A store's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call is counted.
    Allow(Allowed),
    /// The call is counted nowhere.
    Deny(Denial),
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The permit, to be settled.
    pub permit: Permit,
    /// The standing of every limit after the call was counted.
    pub standings: Vec<Standing>,
}

/// Why the call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The index of the limit that refused. If several refuse, it is the one with the longest wait; a wait that does
    /// not help is the longest.
    pub index: usize,
    /// How long to wait; [`SLOT_WAIT`] for a slot. `None` if waiting does not help, because the call is larger than the
    /// limit.
    pub retry_after: Option<Duration>,
    /// The standing of every limit.
    pub standings: Vec<Standing>,
}

/// A call that is counted, with all that is needed to settle it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The caller's id.
    pub id: Uuid,
    /// What the call took: one entry for each measure of each scope.
    pub taken: Vec<Taken>,
}

/// What a call took of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The limit.
    pub limit: Limit,
    /// How much.
    pub amount: u64,
    /// The state of the bucket. It has no meaning for concurrent calls.
    pub mark: Mark,
}

/// What a call has used in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// This many tokens, and one request.
    Tokens(u64),
    /// The estimate, because the actual usage is not known.
    AsEstimated,
    /// Nothing. The call was refused by a later step, and does not count as a request either.
    Nothing,
}

/// How a limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: Limit,
    /// How much could be taken right now.
    pub left: u64,
    /// How long until the whole limit is available; zero for concurrent calls, for which it is unknown.
    pub full_after: Duration,
}
