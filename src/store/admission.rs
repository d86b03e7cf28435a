//! Decides about the key, the limits and the budgets of a call in one step.
//!
//! Use it if one store keeps all three. It has three advantages:
//!
//! - A call that one of them refuses takes nothing from the others.
//! - A revoked key admits nothing from that moment on, whatever a cache still believes, as long as the store can be
//!   asked.
//! - A remote store is asked once per call instead of twice.
//!
//! Settlement still goes through [`BudgetStore`] and [`RateLimitStore`].
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::AdmissionLayer;
//! use tollgate::store::memory::MemoryStore;
//! let store = MemoryStore::new();
//! let (keys, admission) = (store.keys(), AdmissionLayer::new(store));
//! # }
//! ```

use async_trait::async_trait;
use uuid::Uuid;

use super::budget::{self, BudgetStore, Grant, Reserve};
use super::rate_limit::{self, Acquire, Allowed, RateLimitStore};
use super::{At, StoreError};
use crate::domain::key::{KeyDigest, KeyRecord};

/// Decides about a call as a whole.
#[async_trait]
pub trait AdmissionStore: BudgetStore + RateLimitStore {
    /// Admits or refuses a call, in one atomic step. If the call is admitted, its limits have counted it and its pots
    /// hold its grant. If it is refused, nothing has changed anywhere.
    ///
    /// The store checks the key first, then the limits, then the budgets, by the rules of
    /// [`acquire`](RateLimitStore::acquire) and [`reserve`](BudgetStore::reserve). An admitted call is settled with
    /// each of the two traits, as if each had been asked separately.
    ///
    /// # Cancellation
    /// A caller that stops waiting must settle both ids for nothing.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<Verdict, StoreError>;
}

/// What a call asks for.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Admit<'a> {
    /// The key that the call came with; `None` for a caller whom the host has authenticated.
    pub key: Option<PresentedKey>,
    /// What the call counts against, if it is limited.
    pub limits: Option<Acquire<'a>>,
    /// What the call is paid from, if it has budgets.
    pub budgets: Option<Reserve<'a>>,
}

impl<'a> Admit<'a> {
    /// Asks for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks whether this key is still good.
    #[must_use]
    pub fn key(mut self, key: PresentedKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Asks to be counted against limits.
    #[must_use]
    pub fn limits(mut self, ask: Acquire<'a>) -> Self {
        self.limits = Some(ask);
        self
    }

    /// Asks budgets to hold money.
    #[must_use]
    pub fn budgets(mut self, ask: Reserve<'a>) -> Self {
        self.budgets = Some(ask);
        self
    }
}

/// A key as it was found when the call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresentedKey {
    /// The id of the key.
    pub id: Uuid,
    /// The digest of its secret. A rotated key has another.
    pub digest: KeyDigest,
}

impl PresentedKey {
    /// The key with this id, presented by a secret of this digest.
    #[must_use]
    pub fn new(id: Uuid, digest: KeyDigest) -> Self {
        PresentedKey { id, digest }
    }

    /// Whether the key is still good, given its current record. A changed policy is no reason to refuse a call that
    /// began before the change.
    #[must_use]
    pub fn is_good(&self, record: Option<&KeyRecord>, now: jiff::Timestamp) -> bool {
        record.is_some_and(|record| record.digest == self.digest && record.is_good_at(now))
    }
}

/// A store's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call is counted, and its money is held.
    Allow(Admitted),
    /// Nothing is counted or held anywhere.
    Deny(Denial),
}

/// What was counted and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What the limits allowed, if they were asked.
    pub allowed: Option<Allowed>,
    /// What the budgets granted, if they were asked.
    pub grant: Option<Grant>,
}

/// Why the call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The key was revoked, rotated or has expired.
    Key,
    /// A limit is reached.
    Limit(rate_limit::Denial),
    /// A budget has too little left.
    Budget {
        /// Which budget, and why.
        denial: budget::Denial,
        /// The standing of every limit that was asked about; none of them has counted this call.
        limits: Vec<rate_limit::Standing>,
    },
}
