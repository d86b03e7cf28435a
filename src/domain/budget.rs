//! A limit on spending, for a scope and a window of time.
//!
//! Use it to give a key its budgets.
//!
//! ```
//! use tollgate::domain::budget::{Budget, Window};
//! use tollgate::domain::scope::Scope;
//! let budget = Budget::new(Scope::team("search"), Window::Month, "500".parse()?);
//! // For `BudgetLayer::for_everyone`, which finds a key by its name too. A key's own: `Principal::budget`.
//! let runaway = Budget::new(Scope::key("ci"), "rolling 1h".parse()?, "20".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::{Deserialize, Serialize};

use super::money::Money;
use super::scope::Scope;
pub use super::window::Window;

/// What spending is counted under. Its limit is not part of it, so different limits share one pot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pot {
    /// The scope that the pot belongs to.
    pub scope: Scope,
    /// The window after which it begins anew.
    pub window: Window,
}

/// A pot, and the most that may be spent from it in one window.
///
/// The principal supplies the limit with every request. A store keeps what was spent, and no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Budget {
    /// The pot.
    #[serde(flatten)]
    pub pot: Pot,
    /// The most that may be spent and held together in one window.
    pub limit: Money,
    /// Whether calls go on beyond the limit. A soft budget only reports that its limit was reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

impl Budget {
    /// A budget of `limit` for `scope` in each `window`.
    #[must_use]
    pub fn new(scope: Scope, window: Window, limit: Money) -> Self {
        Budget { pot: Pot { scope, window }, limit, soft: false }
    }

    /// Makes the budget soft: it refuses nothing, and reports when its limit is reached.
    #[must_use]
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }
}
