//! Limits and budgets in one question to one store, with a last look at the key.
//!
//! Reach for it in the place of a [`RateLimitLayer`](crate::RateLimitLayer) and a [`BudgetLayer`](crate::BudgetLayer)
//! where one store keeps both: a call that is refused by either then takes nothing from the other, not for a moment; a
//! key that was revoked or rotated admits nothing any more, although a cache may still know it; and a store that is far
//! away is asked once.
//!
//! - **Reads:** what the two layers read; the key, where a `KeyAuthLayer` found one.
//! - **Adds** and **answers:** what the two layers do, and 401 for a key that has just been revoked.
//! - **Where:** the last question before the money is spent.
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
