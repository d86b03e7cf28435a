//! Holds money for a call before it is sent, and settles the actual cost afterwards.
//!
//! So a budget that is not soft is not overspent, as far as the assumptions hold that [`limits`](crate::docs::limits)
//! names.
//!
//! - **Reads:** the principal's budgets; the head; the route, or the model if nothing is routed; prices from the call's
//!   [`Catalog`](crate::domain::catalog::Catalog).
//! - **Adds:** `x-tollgate-budget-remaining-usd` on every answer that the store had a say in. If the grant does not
//!   cover all that was asked, or if more was asked than the model's maximum by the catalog: a cap on the output tokens
//!   and `x-tollgate-clamped`. The cap is an edit, which the sender of the request applies, as `GatewayLayer` and
//!   `Dispatch` do.
//! - **Writes the limit into the request** if the client names no limit and a budget that is not soft pays: the model's
//!   maximum by the catalog, without a header. It does not if the prompt may leave no room for that maximum in the
//!   model's window.
//! - **Answers:**
//!   - 429 with `x-should-retry: false` if a budget has too little left, or if no budget pays where one is
//!     [required](BudgetLayer::required). If the budget resets, `retry-after` says when.
//!   - 429 with a `retry-after` of 1 to 60 s if the money is only held by calls in flight. The time is estimated from
//!     how long such calls take. A call that may [wait](BudgetLayer::wait) gets this only if its turn does not come.
//!   - 400 if the cost cannot be bounded: a model without a price, a tool without a limit.
//! - **Fails closed:** 429 if the store cannot answer. Claude Code is told not to retry that (`fetch_error`, in its
//!   contract for gateways). A call whose budgets are all soft is let through, and its cost is settled later.
//! - **Where:** the last check before money is spent, inside of everything that may still refuse.
//!
//! A grant covers all that the call may cost: the most input that its bytes can be, and the most output that it asks
//! for, at the highest price of any target. It is settled once, when the call closes, for the amount that
//! [`charge`](crate::domain::outcome::charge) computes. If a gateway dies, what it held is forfeited.
//!
//! With [`Estimator::Counted`] or [`Likely`](Estimator::Likely) the grant is only a guess. A stream that has cost
//! nearly all of its grant is then granted more while it runs. If there is no more, the stream ends with an error
//! event, and its call ends as [cut](crate::domain::outcome::End::Cut).
//!
//! A caller without budgets passes unless budgets are [required](BudgetLayer::required). A call without a caller does
//! not: it is a 500, as [`auth`](crate::auth) says. Counting tokens costs nothing.
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
