//! Money: held before it is spent, made true after, and never more than there is.
//!
//! - **Reads:** the principal's budgets; the head; the route, or the model where nothing is routed; their prices in the
//!   call's [`Catalog`](crate::domain::catalog::Catalog).
//! - **Adds:** `x-tollgate-budget-remaining-usd` on every answer that its store had a say in; a cap on the output
//!   tokens (an edit: whoever sends the request applies it, as `GatewayLayer` and `Dispatch` do), and
//!   `x-tollgate-clamped`, where the budgets do not reach for all that was asked. Where a budget that refuses pays, and the
//!   client names no limit, the one that is held for is written into the request, and nobody is told: all that the model
//!   gives by the catalogue. Not where the prompt may leave no room for it in the model's window.
//! - **Answers** 429: "spent" with `retry-after` up to the reset and `x-should-retry: false`, "held by calls in flight"
//!   with a `retry-after` of 1 to 60 s, by how long such calls take, unless it may [wait](BudgetLayer::wait) and its turn
//!   comes. 400 where the cost cannot be bounded: a model without a price, a tool without an end. A store that cannot
//!   tell: 429, closed, which Claude Code is told not to try again (`fetch_error`, its contract for gateways).
//! - **Where:** the last question before the money is spent, inside of everything that may still refuse.
//!
//! A grant is all that the call may cost: the most input that its bytes can be, and the most output that it asks for,
//! at the dearest price of any target. It is settled once, at the close, for what
//! [`charge`](crate::domain::outcome::charge) says. A gateway that dies forfeits what it held.
//!
//! Where it was only a guess ([`Estimator::Counted`], [`Likely`](Estimator::Likely)), a stream that comes to cost nearly all of
//! it is granted more while it goes on. Where there is no more it ends with an error event, and its call as
//! [cut](crate::domain::outcome::End::Cut).
//!
//! A caller without budgets is not asked about, unless they are [required](BudgetLayer::required), and a count of tokens costs
//! nothing.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::budget::{BudgetLayer, OverBudget};
//! use tollgate::store::memory::MemoryBudgets;
//! let default = BudgetLayer::new(MemoryBudgets::new());
//! let all_or_nothing = BudgetLayer::new(MemoryBudgets::new()).over_budget(OverBudget::Reject);
//! # }
//! ```

mod bound;
mod ended;
mod exhausted;
mod flights;
mod gate;
mod guard;
mod layer;
mod observed;
mod queue;
mod refusal;
mod soft;
mod standing;
mod wanted;

pub use self::gate::BudgetGate;
pub use self::layer::{BudgetLayer, Estimator, OverBudget};
pub(crate) use self::wanted::Wanted;
