//! Where requests, tokens and calls at once are counted.
//!
//! Reach for it to count across replicas in a store of your own. The rule of what is counted a minute is
//! [`bucket`](crate::domain::bucket).
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

/// How long whoever finds no slot is told to wait: nobody knows when a call ends, and to come back in a second is soon
/// enough.
pub const SLOT_WAIT: Duration = Duration::from_secs(1);

/// Counts what may be done a minute, and at once.
///
/// Where several processes share a store, what one of them counts is counted for all of them at once. The rules of the
/// suite know one handle on it; `conformance::limits_shared` has two.
#[async_trait]
pub trait RateLimitStore: Send + Sync + 'static {
    /// Counts a call against every limit that is asked for, or against none, in one atomic step. Asked again with the
    /// id of a permit that is out, it gives the same permit again.
    ///
    /// An id that was settled is not asked for again. A store that a question can reach after its settlement, because
    /// there is a network or a queue in between, must not permit it then: nobody would ever free its slot.
    ///
    /// # Cancellation
    /// Whoever stops waiting settles the id for nothing: it may be counted all the same.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<Verdict, StoreError>;

    /// Ends a call: its slots are free, and of its tokens what it did not use is given back, as far as it has not
    /// drained; what it used beyond is owed. Settling twice is settling once. The permit of a silent session, whose
    /// slots are free already, may be settled for an hour at least.
    ///
    /// # Errors
    /// When the store cannot be written; the caller settles again.
    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError>;

    /// Says that a session is alive, for the length of its lease; the slots of one that is not are free, until it says
    /// something again: its calls that nobody has settled are under way still, and have their slots again, whatever the limit.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError>;

    /// How these limits stand, in the order in which they were asked for.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<Standing>, StoreError>;
}

/// What a call asks of its limits: one request, some tokens, one slot.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Acquire<'a> {
    /// The caller's id for it, which makes asking twice asking once.
    pub id: Uuid,
    /// Who holds the slots.
    pub session: Session,
    /// All the limits it counts against; a measure of a scope that is named twice is counted once, under the tighter
    /// limit.
    pub limits: &'a [Limit],
    /// How many tokens it is estimated to take; 0 unless set.
    pub tokens: u64,
}

impl<'a> Acquire<'a> {
    /// Counts one call against every one of `limits`.
    #[must_use]
    pub fn new(id: Uuid, session: Session, limits: &'a [Limit]) -> Self {
        Acquire { id, session, limits, tokens: 0 }
    }

    /// A call that is estimated to take so many tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = tokens;
        self
    }

    /// How much of a limit's measure the call takes.
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
    /// Counted.
    Allow(Allowed),
    /// Counted nowhere.
    Deny(Denial),
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// To be settled.
    pub permit: Permit,
    /// How every limit stands after it.
    pub standings: Vec<Standing>,
}

/// Why nothing was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which of the limits, counted from 0; of several, the one to wait for longest.
    pub index: usize,
    /// How long to wait: [`SLOT_WAIT`] for a slot; `None` where no waiting helps, because the call is larger than the
    /// limit.
    pub retry_after: Option<Duration>,
    /// How every limit stands.
    pub standings: Vec<Standing>,
}

/// A call that counts, with all that it takes to settle it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The caller's id.
    pub id: Uuid,
    /// What it took: of each measure of a scope, once.
    pub taken: Vec<Taken>,
}

/// What a call took of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The limit.
    pub limit: Limit,
    /// How much.
    pub amount: u64,
    /// Where the bucket stood; without a meaning for calls at once.
    pub mark: Mark,
}

/// What a call has used in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// So many tokens, and its request.
    Tokens(u64),
    /// What was estimated: nobody has counted.
    AsEstimated,
    /// Nothing: it was refused further in, and does not count as a request either.
    Nothing,
}

/// How a limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: Limit,
    /// How much could be taken at once.
    pub left: u64,
    /// How long until all of it could be; zero for calls at once, of which nobody knows.
    pub full_after: Duration,
}
