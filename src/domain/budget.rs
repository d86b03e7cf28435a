//! A sum of money for a scope, in a window of time.
//!
//! Reach for it when you give a key its budgets.
//!
//! ```
//! use tollgate::domain::budget::{Budget, Window};
//! use tollgate::domain::scope::Scope;
//! let budget = Budget::new(Scope::team("search"), Window::Month, "500".parse()?);
//! let runaway = Budget::new(Scope::key("ci"), "rolling 1h".parse()?, "20".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::{Deserialize, Serialize};

use super::money::Money;
use super::scope::Scope;
pub use super::window::Window;

/// What a budget is kept under: one pot, whatever its limit is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pot {
    /// Whose it is.
    pub scope: Scope,
    /// When it begins anew.
    pub window: Window,
}

/// A pot and the most that may come out of it in one window.
///
/// The limit travels with every ask, from the principal: a store keeps what was spent, and no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Budget {
    /// The pot.
    #[serde(flatten)]
    pub pot: Pot,
    /// The most that may be spent and held in one window.
    pub limit: Money,
    /// Whether calls go on beyond the limit: then it is only told that it was reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

impl Budget {
    /// `limit` for `scope` in each `window`.
    #[must_use]
    pub fn new(scope: Scope, window: Window, limit: Money) -> Self {
        Budget { pot: Pot { scope, window }, limit, soft: false }
    }

    /// Refuses nothing, and tells when it is reached.
    #[must_use]
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }
}
