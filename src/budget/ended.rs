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

/// The end of a call that held money, to be told to its store.
pub(crate) struct Ended<B: ?Sized> {
    pub(super) store: Arc<B>,
    pub(super) reservation: Reservation,
    pub(super) actual: Money,
    /// The store was only asked, and nothing came of it: this settles the question for zero.
    pub(super) is_nothing: bool,
    /// The queues of calls that wait for this money, and every pot that may have held it, whichever pots pay in the
    /// end.
    pub(super) wakes: Option<(Arc<Queues>, Vec<Pot>)>,
    pub(super) on_threshold: Arc<[OnThreshold]>,
    pub(super) caller: Option<Arc<Principal>>,
    /// The limits of pots that refuse nothing.
    pub(super) soft: Vec<(Pot, Money)>,
    /// The journal of the call. It notes what the store has heard, whenever the process ends.
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
        for mut crossing in news {
            crossing.soft = self.soft.iter().any(|(pot, limit)| *pot == crossing.pot && *limit == crossing.limit);
            self.announce(&crossing.by_key(self.caller.as_ref().map(|caller| caller.own())));
        }
        Ok(())
    }
}

impl<B: ?Sized> Ended<B> {
    fn announce(&self, crossing: &Crossing) {
        let Crossing { pot, key_name, soft, limit, percent, spent, .. } = crossing;
        let (soft, scope) = (if *soft { "soft " } else { "" }, pot.scope.by_name(key_name.as_deref()));
        tracing::warn!(
            percent,
            "the {soft}{} budget of {scope} reached a threshold: ${spent} of ${limit} is spent",
            pot.window
        );
        for tell in &*self.on_threshold {
            // The callback is the host's, and the settlement has already happened.
            if catch_unwind(AssertUnwindSafe(|| tell(crossing))).is_err() {
                tracing::error!(percent, "an `on_threshold` callback panicked");
            }
        }
    }
}

/// Warns if more was charged than held. A hold rests on assumptions, which the limits page names; the operator of the
/// budget must hear when one of them did not hold.
pub(super) fn warn_of_overrun(outcome: &Outcome, charged: Money) {
    let Some(granted) = outcome.granted.filter(|granted| charged > *granted) else { return };
    let (id, model) = (outcome.id, outcome.model.as_deref().unwrap_or_default());
    tracing::warn!(call = %id, model, %granted, %charged, "a call was charged more than was held for it");
}
