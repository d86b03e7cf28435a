use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Call;
use crate::dialect::meter::Reading;
use crate::domain::catalog::{ModelCard, Terms};
use crate::domain::estimate::{Seen, billed, ceiling_so_far};
use crate::domain::money::Money;
use crate::domain::outcome::charge_guessed;
use crate::domain::usage::Usage;

impl Call {
    /// The card of the model that this handle's target serves.
    pub(crate) fn card(&self) -> Option<&ModelCard> {
        let model = self.target.as_ref().map(|target| &target.model).or_else(|| self.model())?;
        self.shared.catalog.find(model)
    }

    /// What this usage costs, if the model has a price.
    pub(crate) fn cost(&self, usage: &Usage) -> Option<Money> {
        let card = self.card()?;
        let Some(head) = self.head() else { return card.cost(usage, Terms::default()) };
        let asked = self.dialect();
        let target = self.target().map_or(asked, |target| target.dialect);
        // No translation asks for a tier, a speed or a region; what served it the answer says.
        let terms = if target == asked { head.inputs().terms } else { Terms::default() };
        card.cost(&billed(head.inputs(), card, asked, target, *usage), terms)
    }

    /// From now on attempts say what they have cost as soon as they know.
    pub(crate) fn follow_cost(&self) {
        self.shared.follows_cost.store(true, Ordering::Relaxed);
    }

    pub(super) fn follows_cost(&self) -> bool {
        self.shared.follows_cost.load(Ordering::Relaxed)
    }

    /// What all attempts have cost by what their providers have said so far; `None` where one that goes on has said nothing,
    /// or has no price.
    pub(crate) fn cost_so_far(&self) -> Option<Money> {
        let state = self.state();
        let mut sum: Option<Money> = None;
        for (slot, attempt) in state.attempts.iter().enumerate() {
            let cost = match (attempt, state.so_far) {
                (Some(attempt), _) => attempt.cost,
                (None, Some((of, cost))) if of == slot => Some(cost),
                (None, _) => return None,
            };
            sum = cost.map(|cost| sum.unwrap_or(Money::ZERO).saturating_add(cost)).or(sum);
        }
        sum
    }

    /// What the attempts that have ended will be charged.
    pub(crate) fn charged_so_far(&self) -> Money {
        let state = self.state();
        let ended: Vec<_> = state.attempts.iter().flatten().cloned().collect();
        match (ended.is_empty(), state.granted) {
            (false, Some(granted)) => charge_guessed(granted, &ended, false),
            _ => Money::ZERO,
        }
    }

    /// The most that an answer can have cost that said so much and took so long, if it has a bound.
    pub(crate) fn at_most(&self, reading: &Reading, took: Duration) -> Option<Money> {
        let (head, card) = (self.head()?, self.card()?);
        let mut seen = Seen::nothing_for(took);
        (seen.usage, seen.events) = (reading.usage, reading.events);
        (seen.choices, seen.max_output) = (head.choices(), Some(self.max_tokens().unwrap_or(card.max_output)));
        ceiling_so_far(head.inputs(), card, &seen).ok()
    }
}
