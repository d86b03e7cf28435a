//! Keys, budgets and limits in memory: exact, quick, and gone with the process.
//!
//! Reach for it to begin, in tests, and where one process is all there is. What is spent of a budget is forgotten at a
//! restart; whoever settles a hold of before it is still charged, where the window is still the same.
//!
//! Clones share one state. A call takes one short lock and waits for nothing else, so a budget is as exact among a
//! thousand tasks as it is for one. Memory is bounded by the calls in flight, the ids of what was settled within the last
//! hour or so, and twice the scopes whose limits have not filled again and the pots whose windows have not passed: others
//! are forgotten, and stand as new ones do. Time never goes back: a clock that was ahead is waited for, so that no window
//! opens twice.
//!
//! ```
//! use std::sync::Arc;
//! use tollgate::domain::clock::ManualClock;
//! use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//!
//! let keys = MemoryKeys::new();
//! let budgets = MemoryBudgets::new();
//! let limits = MemoryLimits::new();
//!
//! // In a test, time moves when it is told to.
//! let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse()?));
//! let budgets = budgets.clock(clock.clone());
//! # Ok(()) }
//! ```

mod budgets;
mod keys;
mod leases;
mod limits;
mod settled;
mod sweep;
mod whole;

pub use self::budgets::MemoryBudgets;
pub use self::keys::MemoryKeys;
pub use self::limits::MemoryLimits;
pub use self::whole::MemoryStore;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::At;
use crate::domain::clock::Clock;

/// The time that was asked to decide by; the store's own latest stands over it.
fn time(at: At, clock: &dyn Clock) -> Timestamp {
    match at {
        At::Store => clock.now(),
        At::Fixed(time) => time,
    }
}

/// Nothing panics under these locks, and what one of them guards is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
