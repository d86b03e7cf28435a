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

/// The callback for each pot that refuses.
pub(super) type OnExhausted = Arc<dyn Fn(&Standing) + Send + Sync>;

/// The most pots that are remembered. Beyond that, some are reported again.
const MOST: usize = 10_000;

/// Reports a pot that refuses: once for each of its limits and windows, and once more when nearly all of it is spent.
#[derive(Default)]
pub(super) struct Exhausted {
    tell: Vec<OnExhausted>,
    told: Mutex<HashMap<(Pot, Money), Told>>,
}

struct Told {
    /// The start of the window.
    since: Timestamp,
    is_spent: bool,
}

impl Exhausted {
    /// The same with one more callback.
    pub(super) fn and(&self, tell: OnExhausted) -> Self {
        Exhausted { tell: self.tell.iter().cloned().chain([tell]).collect(), told: Mutex::default() }
    }

    /// Called when a pot refused a call that its whole limit would pay for, and not only because other calls hold the
    /// money.
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
        for tell in &self.tell {
            // The callback is the host's, and the client still needs an answer.
            if catch_unwind(AssertUnwindSafe(|| tell(&standing))).is_err() {
                tracing::error!("an `on_exhausted` callback panicked");
            }
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
