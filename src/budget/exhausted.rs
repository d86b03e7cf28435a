use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::domain::budget::Pot;
use crate::domain::money::Money;
use crate::store::budget::Standing;

/// Hears of each pot that refuses.
pub(super) type OnExhausted = Arc<dyn Fn(&Standing) + Send + Sync>;

/// How many pots are remembered. Beyond, some are told of again.
const MOST: usize = 10_000;

/// Tells of a pot that refuses, once until it resets or its limit is another.
#[derive(Default)]
pub(super) struct Exhausted {
    tell: Option<OnExhausted>,
    told: Mutex<HashMap<Pot, Told>>,
}

struct Told {
    limit: Money,
    resets_at: Option<Timestamp>,
}

impl Exhausted {
    pub(super) fn by(tell: OnExhausted) -> Self {
        Exhausted { tell: Some(tell), told: Mutex::default() }
    }

    /// A call was refused, and not for what is only held.
    pub(super) fn see(&self, standing: &Standing, now: Timestamp) {
        if !self.is_news(standing, now) {
            return;
        }
        let Standing { budget, spent, .. } = standing;
        let (pot, limit) = (&budget.pot, budget.limit);
        tracing::warn!(
            "calls are refused by the {} budget of {}: ${spent} of ${limit} is spent",
            pot.window,
            pot.scope.by_id()
        );
        let Some(tell) = &self.tell else { return };
        // It is the host's, and the client has an answer to get.
        if catch_unwind(AssertUnwindSafe(|| tell(standing))).is_err() {
            tracing::error!("who was told of a budget that refuses panicked");
        }
    }

    fn is_news(&self, standing: &Standing, now: Timestamp) -> bool {
        let (pot, limit, resets_at) = (&standing.budget.pot, standing.budget.limit, standing.resets_at);
        let is_over = |told: &Told| told.resets_at.is_some_and(|at| at <= now);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(pot) {
            Some(known) if known.limit == limit && !is_over(known) => false,
            Some(known) => {
                *known = Told { limit, resets_at };
                true
            }
            None => {
                if told.len() >= MOST {
                    told.retain(|_, known| !is_over(known));
                }
                if told.len() >= MOST {
                    told.clear();
                }
                told.insert(pot.clone(), Told { limit, resets_at });
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
