use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::budget::{Budget, Pot, Window};
use crate::domain::ledger::{Account, Room};
use crate::domain::money::Money;
use crate::domain::scope::Scope;

/// A threshold of a limit that spending has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossing {
    /// The pot.
    pub pot: Pot,
    /// The name of the key, if the pot is a key's own. A [`BudgetLayer`](crate::BudgetLayer) sets it; stores do not.
    pub key_name: Option<Arc<str>>,
    /// Whether the budget is soft: it refuses nothing, at 100 percent either. A [`BudgetLayer`](crate::BudgetLayer) sets
    /// it; stores do not.
    pub soft: bool,
    /// The start of the window.
    pub window_start: Timestamp,
    /// The limit of the call that reached the threshold.
    pub limit: Money,
    /// The percentage of the limit: one of the [thresholds](crate::domain::ledger::THRESHOLDS).
    pub percent: u8,
    /// The amount spent.
    pub spent: Money,
}

impl Crossing {
    /// A crossing: `spent` has reached `percent` of this limit.
    #[must_use]
    pub fn new(pot: Pot, window_start: Timestamp, limit: Money, percent: u8, spent: Money) -> Self {
        Crossing { pot, key_name: None, soft: false, window_start, limit, percent, spent }
    }

    /// Sets the name of the key, if the pot is its own.
    pub(crate) fn by_key(mut self, key: Option<(Scope, Arc<str>)>) -> Self {
        self.key_name = name_of(&self.pot, key);
        self
    }
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The pot and its limit.
    pub budget: Budget,
    /// The name of the key, if the pot is a key's own. A [`BudgetLayer`](crate::BudgetLayer) sets it; stores do not.
    pub key_name: Option<Arc<str>>,
    /// Settled and forfeited in this window.
    pub spent: Money,
    /// Granted to calls in flight.
    pub held: Money,
    /// When the window ends, if it does. For a rolling window: when the oldest spending becomes available again.
    pub resets_at: Option<Timestamp>,
}

impl Standing {
    /// The standing of `budget`, given the account of its pot and the end of the window.
    #[must_use]
    pub fn new(budget: Budget, account: &Account, ends_at: Option<Timestamp>) -> Self {
        let resets_at = match budget.pot.window {
            Window::Rolling(_) => account.first_back(budget.pot.window),
            _ => ends_at,
        };
        Standing { budget, key_name: None, spent: account.spent, held: account.held, resets_at }
    }

    /// Sets the name of the key, if the pot is its own.
    pub(crate) fn for_key(mut self, key: Option<(Scope, Arc<str>)>) -> Self {
        self.key_name = name_of(&self.budget.pot, key);
        self
    }

    /// The percentage of the limit that is spent, rounded down. A limit of zero or less counts as 100 percent spent.
    #[must_use]
    pub fn percent_spent(&self) -> u64 {
        let (spent, limit) = (i128::from(self.spent.nanos()), i128::from(self.budget.limit.nanos()));
        if limit <= 0 {
            return 100;
        }
        u64::try_from((spent * 100 / limit).max(0)).unwrap_or(u64::MAX)
    }

    /// The room from which a grant is decided.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { spent: self.spent, held: self.held, limit: self.budget.limit, soft: self.budget.soft }
    }

    /// What may still be granted.
    #[must_use]
    pub fn left(&self) -> Money {
        self.room().left()
    }
}

/// The name of the key, if the pot is its own.
fn name_of(pot: &Pot, key: Option<(Scope, Arc<str>)>) -> Option<Arc<str>> {
    key.filter(|(own, _)| *own == pot.scope).map(|(_, name)| name)
}
