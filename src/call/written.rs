//! What is written down of a call while it goes on, where it has a journal.

use std::sync::Arc;
use std::time::Duration;

use super::Call;
use super::settle::unavailable;
use super::state::Holds;
use crate::dialect::meter::Reading;
use crate::domain::audit::AuditRecord;
use crate::domain::money::Money;
use crate::domain::outcome::{Attempt, AttemptEnd, Outcome, Quality, charge, charge_guessed, count};
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;
use crate::store::StoreError;
use crate::store::budget::Reservation;
use crate::store::journal::{Intent, Seen, Trail, Witness};

/// For how long a call may go on unseen before its process is found to have ended: two seconds until it is looked at again,
/// and what a machine under load may add to that.
const UNSEEN: Duration = Duration::from_secs(5);

/// An attempt that goes on.
pub(super) struct Live {
    pub(super) slot: usize,
    began: Duration,
    target: Option<Arc<Target>>,
    reading: Reading,
}

/// How much of a stream may come before it is said.
const EVENTS: u64 = 64;

impl Live {
    pub(super) fn new(slot: usize, began: Duration, target: Option<Arc<Target>>) -> Self {
        Live { slot, began, target, reading: Reading::default() }
    }
}

/// What an attempt has said of itself, as its meter remembers it.
#[derive(Debug, Default)]
pub(super) struct Said {
    reading: Reading,
}

impl Said {
    /// Whether this says more than was said, so that it is worth a lock.
    pub(super) fn is_news(&mut self, reading: &Reading) -> bool {
        let is_news = reading.usage != self.reading.usage || reading.events >= self.reading.events + EVENTS;
        if is_news {
            self.reading = *reading;
        }
        is_news
    }
}

impl Call {
    /// Has the call written down in a journal. `false` if it is in another already.
    pub(crate) fn set_trail(&self, trail: Arc<Trail>) -> bool {
        self.shared.trail.set(trail).is_ok()
    }

    pub(crate) fn trail(&self) -> Option<&Arc<Trail>> {
        self.shared.trail.get()
    }

    /// What is held for it, for its intent.
    pub(crate) fn set_reservation(&self, reservation: impl FnOnce() -> Arc<Reservation>) {
        if self.trail().is_some() {
            self.state().reservation = Some(reservation());
        }
    }

    /// Waits until it is written down that the call is about to be sent, where it has a journal. Whoever lets a call
    /// through last asks; once is enough.
    ///
    /// # Errors
    /// `StoreUnavailable` where that could not be done.
    pub(crate) async fn intend(&self) -> Result<(), Rejection> {
        let Some(trail) = self.trail() else { return Ok(()) };
        match trail.intend(|| Arc::new(self.clone())).await {
            true => Ok(()),
            false => Err(unavailable(&StoreError::unavailable("the journal was not written in time"))),
        }
    }

    pub(super) fn live_attempt(&self, slot: usize, reading: &Reading) {
        if let Some(live) = &mut self.state().live
            && live.slot == slot
        {
            live.reading = *reading;
        }
    }

    /// The account of the call if nothing more were heard of it.
    fn if_lost(&self) -> Outcome {
        let mut outcome = self.unclosed();
        let (held, live) = {
            let state = self.state();
            outcome.decisions = state.decisions.clone();
            outcome.warnings = state.warnings.clone();
            (outcome.granted, outcome.clamped) = (state.granted, state.clamped);
            outcome.attempts = state.attempts.iter().flatten().cloned().collect();
            let live = state.live.as_ref().map(|live| (live.began, live.target.clone(), live.reading));
            (state.holds, live)
        };
        let nothing = Reading::default();
        let (at_most, usage, target) = match live {
            Some((began, target, reading)) => {
                let took = self.elapsed().saturating_sub(began).saturating_add(UNSEEN);
                (self.to(target.clone()).at_most(&reading, took), reading.usage, target)
            }
            // About to be sent, and nobody knows where to: the dearest of those that it may be sent to.
            None => {
                let targets = self.route().unwrap_or_default();
                let most = |target: &Arc<Target>| self.toward(target.clone()).at_most(&nothing, UNSEEN);
                let dearest = targets.iter().map(most).try_fold(Money::ZERO, |most, one| Some(most.max(one?)));
                (if targets.is_empty() { self.at_most(&nothing, UNSEEN) } else { dearest }, None, None)
            }
        };
        outcome.attempts.push(Attempt {
            target: target.map(|target| Target::clone(&target)),
            at_most,
            usage,
            cost: usage.and_then(|usage| self.cost(&usage)),
            ..Attempt::begun(AttemptEnd::NoAnswer)
        });
        outcome.usage =
            outcome.attempts.iter().filter_map(|attempt| attempt.usage).reduce(crate::domain::usage::Usage::plus);
        let attempts = &outcome.attempts;
        outcome.charged = outcome.granted.map(|granted| match held {
            Holds::Bound => charge(granted, attempts, None),
            Holds::Guess => charge_guessed(granted, attempts, None),
            Holds::Nothing => count(attempts),
        });
        outcome
    }

    fn to(&self, target: Option<Arc<Target>>) -> Call {
        Call { shared: self.shared.clone(), target, slot: None }
    }
}

impl Witness for Call {
    fn intent(&self) -> Intent {
        let mut outcome = self.if_lost();
        // It has none yet.
        outcome.attempts.clear();
        let mut record = AuditRecord::new(&outcome);
        record.quality = outcome.granted.map(|granted| quality(granted, outcome.charged));
        let reservation = self.state().reservation.take();
        Intent { record, reservation: reservation.map(Arc::unwrap_or_clone) }
    }

    fn seen(&self) -> Seen {
        let outcome = self.if_lost();
        let quality = outcome.granted.map(|granted| quality(granted, outcome.charged));
        Seen { id: self.id(), usage: outcome.usage, charged: outcome.charged, quality }
    }
}

fn quality(granted: Money, charged: Option<Money>) -> Quality {
    if charged == Some(granted) { Quality::Forfeit } else { Quality::Estimated }
}
