//! Traits for authoritative state: keys, budgets, limits, and the destinations of audit records, events and content.
//!
//! Start with [`memory`], and implement a trait for the database that you already have. Each method is one complete
//! question, and the store answers it in one atomic step. A refusal is an answer. A store returns a [`StoreError`] only
//! if it cannot answer.
//!
//! The caller makes the ids, and they are the idempotency keys: a call that asks again after an error uses the same id.
//! Time is an argument, [`At`]. Layers let the store decide by its own clock; the conformance suite passes a fixed
//! time.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::store::budget::BudgetStore;
//! use tollgate::store::memory::MemoryBudgets;
//! let budgets: std::sync::Arc<dyn BudgetStore> = std::sync::Arc::new(MemoryBudgets::new());
//! # }
//! ```

pub mod admission;
pub mod audit;
mod both;
pub mod budget;
pub mod cached;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contained;
pub mod content;
mod error;
pub mod event;
mod forward;
pub mod journal;
pub mod key;
#[cfg(feature = "memory")]
pub mod memory;
mod names;
mod patience;
pub mod rate_limit;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod watched;

pub(crate) use self::both::both;
pub(crate) use self::contained::contained;
pub(crate) use self::error::Chain;
pub use self::error::StoreError;
#[cfg(feature = "sqlite")]
pub(crate) use self::names::{Id, id, is_another};
pub(crate) use self::names::{is_removed, sync_dir};
pub(crate) use self::patience::{at_once, in_time, patiently, so_far};

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// The time by which a store decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The store's own clock. Every layer passes this.
    Store,
    /// This time. Tests pass it. A store never goes back to before the latest time that it has decided by.
    Fixed(Timestamp),
}

/// One running gateway, as the holder of what its calls have taken.
///
/// A gateway that is silent for longer than its lease is presumed dead: its slots are freed, and the money that it held
/// is forfeited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// A new id at every start.
    pub id: Uuid,
    /// How long the gateway is presumed alive after it was last heard from. Every `reserve`, `acquire` and `heartbeat`
    /// renews the lease, and so does an `admit` that lets a call through.
    pub lease: Duration,
}

impl Session {
    /// A new session with a new id.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Session { id: Uuid::now_v7(), lease }
    }
}
