//! Checks limits and budgets with one request to one store, and checks the key once more.
//!
//! Use it instead of a [`RateLimitLayer`](crate::RateLimitLayer) and a [`BudgetLayer`](crate::BudgetLayer) if one store
//! keeps both, and the keys:
//!
//! - A call that one of them refuses takes nothing from the other, not even for a moment.
//! - A key that was revoked or rotated is refused, even if a cache still knows it.
//! - A remote store is asked only once.
//!
//! A key that this store does not know counts as revoked. If your keys are kept elsewhere, use the two layers.
//!
//! It works like the two layers:
//!
//! - **Reads:** what the two layers read, and the key, if a `KeyAuthLayer` found one.
//! - **Adds** and **answers:** what the two layers do, and 401 for a key that has just been revoked.
//! - **Where:** the last check before money is spent.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use std::time::Duration;
//! use tollgate::store::memory::MemoryStore;
//! use tollgate::{AdmissionLayer, GatewayLayer};
//!
//! let store = MemoryStore::new();
//! let admission = AdmissionLayer::new(store)
//!     .budgets(|budgets| budgets.wait(Duration::from_secs(5)))
//!     .limits(|limits| limits.expected_output(1_024));
//! let governed = GatewayLayer::new().admission(admission);
//! # }
//! ```

mod gate;
mod layer;

pub use self::gate::AdmissionGate;
pub use self::layer::AdmissionLayer;
