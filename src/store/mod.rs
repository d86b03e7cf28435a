//! Authoritative state behind traits: keys, budgets, limits, and where audit records go.
//!
//! Reach for [`memory`] to begin, and implement a trait for the database that you have already. Every verb is one whole
//! question, answered in one atomic step; a refusal is an answer, and only a store that cannot answer gives a
//! [`StoreError`].
//!
//! Ids are made by the caller and are the keys of idempotence: a call that asks again after an error asks with the same
//! id. Time is an argument, [`At`]: a store with a clock of its own decides by it, and the conformance suite names the
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
mod patience;
pub mod rate_limit;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod watched;

pub(crate) use self::both::both;
pub(crate) use self::contained::contained;
pub(crate) use self::error::Chain;
pub use self::error::StoreError;
pub(crate) use self::patience::{at_once, in_time, patiently, so_far};

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// By which time a store decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// By its own: what every layer asks for.
    Store,
    /// By this one: what tests ask for. A store never goes back behind the latest time that it has decided by.
    Fixed(Timestamp),
}

/// One running gateway, as the holder of what its calls have taken. A gateway that falls silent for longer than the
/// lease is taken for dead: its slots are free again, and the money that it held is forfeited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// Made anew at every start.
    pub id: Uuid,
    /// How long it is believed to be alive without a word. Every `reserve` and `acquire` is one, as is `heartbeat`.
    pub lease: Duration,
}

impl Session {
    /// A new session.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Session { id: Uuid::now_v7(), lease }
    }
}
