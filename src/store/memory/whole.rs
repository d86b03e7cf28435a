use async_trait::async_trait;
use jiff::Timestamp;

use super::{MemoryBudgets, MemoryKeys, MemoryLimits};
use crate::domain::clock::Clock;
use crate::store::admission::{AdmissionStore, Admit, Admitted, Denial, Verdict};
use crate::store::budget;
use crate::store::forward::by_parts;
use crate::store::{At, StoreError};

/// Keys, limits and budgets in memory that can be asked in one step. Clones and parts share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    keys: MemoryKeys,
    limits: MemoryLimits,
    budgets: MemoryBudgets,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Combines existing parts into one store.
    #[must_use]
    pub fn of(keys: MemoryKeys, limits: MemoryLimits, budgets: MemoryBudgets) -> Self {
        MemoryStore { keys, limits, budgets }
    }

    /// Uses this clock instead of the system clock. Existing clones and parts keep theirs.
    #[must_use]
    pub fn clock(self, clock: impl Clock + Clone) -> Self {
        MemoryStore { keys: self.keys, limits: self.limits.clock(clock.clone()), budgets: self.budgets.clock(clock) }
    }

    /// The keys of this store.
    #[must_use]
    pub fn keys(&self) -> MemoryKeys {
        self.keys.clone()
    }

    /// The limits of this store.
    #[must_use]
    pub fn limits(&self) -> MemoryLimits {
        self.limits.clone()
    }

    /// The budgets of this store.
    #[must_use]
    pub fn budgets(&self) -> MemoryBudgets {
        self.budgets.clone()
    }
}

#[async_trait]
impl AdmissionStore for MemoryStore {
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<Verdict, StoreError> {
        // Three locks, always in this order: the answer of one part still holds when the others have answered.
        Ok(match &ask.key {
            Some(key) => self.keys.look(|keys| self.decide(ask, at, |now| key.is_good(keys.of_id(key.id), now))),
            None => self.decide(ask, at, |_| true),
        })
    }
}

impl MemoryStore {
    fn decide(&self, ask: &Admit<'_>, at: At, is_good: impl FnOnce(Timestamp) -> bool) -> Verdict {
        self.limits.decide(at, |limits, now| {
            if !is_good(now) {
                return Verdict::Deny(Denial::Key);
            }
            let checked = match ask.limits.as_ref().map(|ask| limits.check(ask, now)).transpose() {
                Ok(checked) => checked,
                Err(denial) => return Verdict::Deny(Denial::Limit(denial)),
            };
            let grant = match ask.budgets.as_ref().map(|ask| self.budgets.decide(at, |state, now| state.ask(ask, now)))
            {
                Some(budget::Verdict::Deny(denial)) => {
                    let limits = ask.limits.as_ref().map(|ask| limits.untaken(ask, now)).unwrap_or_default();
                    return Verdict::Deny(Denial::Budget { denial, limits });
                }
                Some(budget::Verdict::Allow(grant)) => Some(grant),
                None => None,
            };
            let allowed = ask.limits.as_ref().zip(checked).map(|(ask, checked)| limits.take(ask, checked, now));
            Verdict::Allow(Admitted { allowed, grant })
        })
    }
}

by_parts!(MemoryStore);
