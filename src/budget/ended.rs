use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::gate::OnThreshold;
use super::queue::Queues;
use crate::call::{Fact, Held, Kind};
use crate::domain::budget::Pot;
use crate::domain::money::Money;
use crate::domain::outcome::Outcome;
use crate::domain::principal::Principal;
use crate::store::budget::{BudgetStore, Crossing, Reservation};
use crate::store::journal::Trail;
use crate::store::{At, StoreError};

/// What has come of a call that money was held for.
pub(crate) struct Ended<B: ?Sized> {
    pub(super) store: Arc<B>,
    pub(super) reservation: Reservation,
    pub(super) actual: Money,
    /// It is only a question that nothing came of.
    pub(super) is_nothing: bool,
    /// Where calls wait for what it held, and the pots that it may have been held in, whoever pays in the end.
    pub(super) wakes: Option<(Arc<Queues>, Vec<Pot>)>,
    pub(super) on_threshold: Option<OnThreshold>,
    pub(super) caller: Option<Arc<Principal>>,
    /// Where the call is written down: what a store has heard is there, whenever the process ends.
    pub(super) trail: Option<Arc<Trail>>,
    pub(super) _held: Held,
}

impl<B: BudgetStore + ?Sized> Fact for Ended<B> {
    const KIND: Kind = Kind::Budget;

    fn is_nothing(&self) -> bool {
        self.is_nothing
    }

    fn memory(&self) -> Duration {
        self.store.memory().settled
    }

    fn given_up(&self) {
        if let (Some(trail), false) = (&self.trail, self.is_nothing) {
            trail.given_up(self.reservation.id);
        }
    }

    async fn tell(&self) -> Result<(), StoreError> {
        let news = (*self.store).settle(&self.reservation, self.actual, At::Store).await?;
        if let Some(trail) = &self.trail {
            trail.heard(self.reservation.id);
        }
        if let Some((queues, pots)) = &self.wakes {
            queues.settled(pots);
        }
        for crossing in news {
            self.announce(&crossing.by_key(self.caller.as_ref().map(|caller| caller.own())));
        }
        Ok(())
    }
}

impl<B: ?Sized> Ended<B> {
    fn announce(&self, crossing: &Crossing) {
        let Crossing { pot, key_name, limit, percent, spent, .. } = crossing;
        let scope = pot.scope.by_name(key_name.as_deref());
        tracing::warn!(percent, "${spent} of ${limit} is spent of the {} budget of {scope}", pot.window);
        let Some(tell) = &self.on_threshold else { return };
        // It is the host's, and the settlement has happened.
        if catch_unwind(AssertUnwindSafe(|| tell(crossing))).is_err() {
            tracing::error!(percent, "who was told of a threshold panicked");
        }
    }
}

/// What is held rests on assumptions, which the limits name; where one of them did not hold, whoever answers for the budget is told.
pub(super) fn warn_of_overrun(outcome: &Outcome, charged: Money) {
    let Some(granted) = outcome.granted.filter(|granted| charged > *granted) else { return };
    let (id, model) = (outcome.id, outcome.model.as_deref().unwrap_or_default());
    tracing::warn!(call = %id, model, %granted, %charged, "more was charged for a call than was held for it");
}
