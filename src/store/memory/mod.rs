//! Keys, budgets and limits in memory: exact, fast, and gone with the process.
//!
//! Use it to begin with, in tests, and for a service that runs as a single process. A restart forgets what was spent of
//! a budget. A hold from before the restart is still charged when it is settled, if its window is still the same.
//!
//! Clones share one state. A call takes one short lock and waits for nothing else, so a budget is as exact with a
//! thousand tasks as with one.
//!
//! Memory is bounded by:
//!
//! - the calls in flight;
//! - the ids of calls that were settled within about the last hour;
//! - twice the number of scopes whose limits have not filled again, and of pots whose windows have not passed. Others
//!   are forgotten, and stand as new ones do.
//!
//! Time never goes back. If the clock was ahead and is set back, the store's time stands still until the clock has
//! caught up, so no window opens twice.
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
//! // In a test, time moves only when it is told to.
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

/// The time to decide by. The caller takes the maximum of it and the store's latest time.
fn time(at: At, clock: &dyn Clock) -> Timestamp {
    match at {
        At::Store => clock.now(),
        At::Fixed(time) => time,
    }
}

/// Nothing panics while it holds one of these locks, and the guarded state is consistent at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
