use std::slice;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Call;
use crate::dialect::head::Head;
use crate::dialect::meter::Reading;
use crate::domain::catalog::{ModelCard, Terms};
use crate::domain::estimate::{Seen, billed, ceiling_so_far};
use crate::domain::money::Money;
use crate::domain::outcome::charge_guessed;
use crate::domain::usage::Usage;

impl Call {
    /// The card of the model that this handle's target serves. If the inner service reads the route itself, the model
    /// is not known; then the most expensive one, if all have a price.
    pub(crate) fn card(&self) -> Option<&ModelCard> {
        let dearer = |one: &ModelCard, other: &ModelCard| {
            (one.prices.output, one.prices.input) > (other.prices.output, other.prices.input)
        };
        self.cards().reduce(|one, other| Some(if dearer(other?, one?) { other? } else { one? })).flatten()
    }

    /// The cards of all models that may serve this handle.
    fn cards(&self) -> impl Iterator<Item = Option<&ModelCard>> {
        let targets = self.target.as_ref().map_or(self.route().unwrap_or_default(), slice::from_ref);
        let asked = self.model().filter(|_| targets.is_empty());
        targets.iter().map(|target| &target.model).chain(asked).map(|model| self.shared.catalog.find(model))
    }

    /// The highest cost by any of these cards.
    fn dearest(&self, cost: impl Fn(&ModelCard) -> Option<Money>) -> Option<Money> {
        self.cards().map(|card| cost(card?)).reduce(|one, other| Some(one?.max(other?))).flatten()
    }

    /// The cost of this usage, if the model has a price.
    pub(crate) fn cost(&self, usage: &Usage) -> Option<Money> {
        self.dearest(|card| self.cost_by(card, usage))
    }

    fn cost_by(&self, card: &ModelCard, usage: &Usage) -> Option<Money> {
        let Some(head) = self.head() else { return card.cost(usage, Terms::default()) };
        let asked = self.dialect();
        let target = self.target().map_or(asked, |target| target.dialect);
        // A translated request asks for no tier, speed or region; the answer states what was used.
        let terms = if target == asked { head.inputs().terms } else { Terms::default() };
        card.cost(&billed(head.inputs(), card, asked, target, *usage), terms)
    }

    /// From now on, attempts report their cost as soon as it is known.
    pub(crate) fn follow_cost(&self) {
        self.shared.follows_cost.store(true, Ordering::Relaxed);
    }

    pub(super) fn follows_cost(&self) -> bool {
        self.shared.follows_cost.load(Ordering::Relaxed)
    }

    /// The cost of all attempts so far, as stated by their providers; `None` if an attempt in progress has stated
    /// nothing, or has no price.
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

    /// The most that an answer with this reading can have cost after this time, if there is a bound.
    pub(crate) fn at_most(&self, reading: &Reading, took: Duration) -> Option<Money> {
        let head = self.head()?;
        self.dearest(|card| ceiling_so_far(head.inputs(), card, &self.seen(card, reading, took)).ok())
    }

    /// The most output tokens of such an answer; if the model's speed is not known, as many as were seen.
    pub(crate) fn output_at_most(&self, reading: &Reading, took: Duration) -> u64 {
        let output = |card: Option<&ModelCard>| card.and_then(|card| self.seen(card, reading, took).output(card));
        let came = reading.events.max(reading.usage.map_or(0, |usage| usage.output));
        self.cards().filter_map(output).fold(came, u64::max)
    }

    fn seen(&self, card: &ModelCard, reading: &Reading, took: Duration) -> Seen {
        let mut seen = Seen::nothing_for(took);
        (seen.usage, seen.events) = (reading.usage, reading.events);
        seen.choices = self.head().map_or(1, Head::choices);
        seen.max_output = Some(self.max_tokens().unwrap_or(card.max_output));
        seen
    }
}
