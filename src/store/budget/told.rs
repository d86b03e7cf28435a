use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::budget::{Budget, Pot, Window};
use crate::domain::ledger::{Account, Room};
use crate::domain::money::Money;
use crate::domain::scope::Scope;

/// A part of a limit that is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossing {
    /// Whose money.
    pub pot: Pot,
    /// What the key is called, where it is a key's: what a [`BudgetLayer`](crate::BudgetLayer) tells of, no store.
    pub key_name: Option<Arc<str>>,
    /// Of which window.
    pub window_start: Timestamp,
    /// Under the limit of the call that reached it.
    pub limit: Money,
    /// Which part, in hundredths: one of the [thresholds](crate::domain::ledger::THRESHOLDS).
    pub percent: u8,
    /// What is spent.
    pub spent: Money,
}

impl Crossing {
    /// So much of a pot is spent, under this limit.
    #[must_use]
    pub fn new(pot: Pot, window_start: Timestamp, limit: Money, percent: u8, spent: Money) -> Self {
        Crossing { pot, key_name: None, window_start, limit, percent, spent }
    }

    /// By a call of the key with this scope of its own, and this name.
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
    /// What the key is called, where it is a key's: what a [`BudgetLayer`](crate::BudgetLayer) tells of, no store.
    pub key_name: Option<Arc<str>>,
    /// Settled and forfeited in this window.
    pub spent: Money,
    /// Granted to calls in flight.
    pub held: Money,
    /// When the window ends, if it does; of a rolling one, when the first of what is spent comes back.
    pub resets_at: Option<Timestamp>,
}

impl Standing {
    /// The standing of `budget`, of whose pot the account is, in a window that ends then.
    #[must_use]
    pub fn new(budget: Budget, account: &Account, ends_at: Option<Timestamp>) -> Self {
        let resets_at = match budget.pot.window {
            Window::Rolling(_) => account.first_back(budget.pot.window),
            _ => ends_at,
        };
        Standing { budget, key_name: None, spent: account.spent, held: account.held, resets_at }
    }

    /// For a call of the key with this scope of its own, and this name.
    pub(crate) fn for_key(mut self, key: Option<(Scope, Arc<str>)>) -> Self {
        self.key_name = name_of(&self.budget.pot, key);
        self
    }

    /// How much of the limit is spent, in hundredths, rounded down: 100 says that nothing is left.
    #[must_use]
    pub fn percent_spent(&self) -> u64 {
        let (spent, limit) = (i128::from(self.spent.nanos()), i128::from(self.budget.limit.nanos()));
        if limit <= 0 {
            return 100;
        }
        u64::try_from((spent * 100 / limit).max(0)).unwrap_or(u64::MAX)
    }

    /// As an ask is decided by.
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

/// What the key is called, if the pot is its own.
fn name_of(pot: &Pot, key: Option<(Scope, Arc<str>)>) -> Option<Arc<str>> {
    key.filter(|(own, _)| *own == pot.scope).map(|(_, name)| name)
}
