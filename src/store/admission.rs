//! The key, the limits and the budgets of a call, decided in one step.
//!
//! Reach for it where one store keeps all three: what is refused by one of them then takes nothing of the others, a key
//! that was revoked admits nothing from that moment on, as long as the store can be asked and whatever a cache still believes,
//! and a store that is far away is asked once a call instead of twice. Settling is the two traits' own.
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

/// Decides about calls as a whole.
#[async_trait]
pub trait AdmissionStore: BudgetStore + RateLimitStore {
    /// Lets a call through, and then its limits have counted it and its pots hold its grant; or refuses it, and then
    /// nothing anywhere has changed: in one atomic step. The key is looked at first, then the limits, then the budgets, by
    /// the rules of [`acquire`](RateLimitStore::acquire) and [`reserve`](BudgetStore::reserve). What was admitted is
    /// settled with each of the two, as if each had been asked.
    ///
    /// # Cancellation
    /// Whoever stops waiting settles both ids for nothing.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<Verdict, StoreError>;
}

/// What a call asks.
#[derive(Debug, Clone, Copy)]
pub struct Admit<'a> {
    /// The key that it came with; `None` for a caller whom the host has authenticated.
    pub key: Option<PresentedKey>,
    /// What it counts against, if anything is counted.
    pub limits: Option<Acquire<'a>>,
    /// What it is paid from, if anything is paid.
    pub budgets: Option<Reserve<'a>>,
}

/// A key as it was found when a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey {
    /// Which key.
    pub id: Uuid,
    /// Of which secret: a rotated key has another.
    pub digest: KeyDigest,
}

impl PresentedKey {
    /// Whether it is still good, where `record` is what there is of it now. That its policy was changed is no reason to
    /// refuse a call that was begun before.
    #[must_use]
    pub fn is_good(&self, record: Option<&KeyRecord>, now: jiff::Timestamp) -> bool {
        record.is_some_and(|record| {
            record.digest == self.digest && !record.disabled && record.expires_at.is_none_or(|at| now < at)
        })
    }
}

/// A store's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counted and held.
    Allow(Admitted),
    /// Nothing is counted or held anywhere.
    Deny(Denial),
}

/// What was counted and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// By the limits, if they were asked.
    pub allowed: Option<Allowed>,
    /// By the budgets, if they were asked.
    pub grant: Option<Grant>,
}

/// Why nothing was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The key is no longer what it was.
    Key,
    /// A limit is reached.
    Limit(rate_limit::Denial),
    /// A budget does not reach.
    Budget {
        /// Which, and why.
        denial: budget::Denial,
        /// How every limit that was asked about stands, which has counted nothing of this call.
        limits: Vec<rate_limit::Standing>,
    },
}
