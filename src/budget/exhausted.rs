use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::domain::budget::Pot;
use crate::domain::money::Money;
use crate::domain::principal::Principal;
use crate::store::budget::Standing;

/// Hears of each pot that refuses.
pub(super) type OnExhausted = Arc<dyn Fn(&Standing) + Send + Sync>;

/// How many pots are remembered. Beyond, some are told of again.
const MOST: usize = 10_000;

/// Tells of a pot that refuses, under each of its limits once until it begins anew, and once more when nearly all is spent.
#[derive(Default)]
pub(super) struct Exhausted {
    tell: Option<OnExhausted>,
    told: Mutex<HashMap<(Pot, Money), Told>>,
}

struct Told {
    /// In which window.
    since: Timestamp,
    is_spent: bool,
}

impl Exhausted {
    pub(super) fn by(tell: OnExhausted) -> Self {
        Exhausted { tell: Some(tell), told: Mutex::default() }
    }

    /// A call of this caller's was refused that it could have paid for, and not for what is only held.
    pub(super) fn see(&self, standing: &Standing, caller: Option<&Arc<Principal>>, is_spent: bool, now: Timestamp) {
        if !self.is_news(standing, is_spent, now) {
            return;
        }
        let standing = standing.clone().for_key(caller.map(|caller| caller.own()));
        let Standing { budget, key_name, spent, .. } = &standing;
        let (pot, limit) = (&budget.pot, budget.limit);
        tracing::warn!(
            "calls are refused by the {} budget of {}: ${spent} of ${limit} is spent",
            pot.window,
            pot.scope.by_name(key_name.as_deref())
        );
        let Some(tell) = &self.tell else { return };
        // It is the host's, and the client has an answer to get.
        if catch_unwind(AssertUnwindSafe(|| tell(&standing))).is_err() {
            tracing::error!("who was told of a budget that refuses panicked");
        }
    }

    fn is_news(&self, standing: &Standing, is_spent: bool, now: Timestamp) -> bool {
        let (pot, limit) = (&standing.budget.pot, standing.budget.limit);
        let since = pot.window.told_since(now);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST {
            told.retain(|(pot, _), known| known.since == pot.window.told_since(now));
        }
        if told.len() >= MOST {
            told.clear();
        }
        match told.entry((pot.clone(), limit)) {
            Entry::Occupied(known) if known.get().since == since && (known.get().is_spent || !is_spent) => false,
            entry => {
                entry.insert_entry(Told { since, is_spent });
                true
            }
        }
    }
}

impl fmt::Debug for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exhausted").finish_non_exhaustive()
    }
}
