//! What a journal records of a call while it is in progress.

use std::sync::Arc;
use std::time::Duration;

use super::Call;
use super::nested::Slot;
use super::settle::unavailable;
use super::state::Holds;
use crate::dialect::meter::Reading;
use crate::domain::audit::{AttemptRecord, AuditRecord, micros};
use crate::domain::money::Money;
use crate::domain::outcome::{Attempt, AttemptEnd, Outcome, Quality, charge, charge_guessed, count};
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;
use crate::domain::usage::Usage;
use crate::store::StoreError;
use crate::store::budget::Reservation;
use crate::store::journal::{Intent, Seen, Trail, Witness};

/// How long a call may have continued unseen before its process is known to have ended: the two seconds between two
/// looks, and the delay that a machine under load may add.
const UNSEEN: Duration = Duration::from_secs(5);

/// An attempt in progress.
pub(super) struct Live {
    pub(super) slot: Slot,
    began: Duration,
    target: Option<Arc<Target>>,
    reading: Reading,
}

/// How many events of a stream make a reading news.
const EVENTS: u64 = 64;
/// How much of a stream, in events or stated tokens, may come until it is written to the journal: after a crash, the
/// journal knows nothing else of the two seconds between two of its looks.
const WRITTEN: u64 = 256;

impl Live {
    pub(super) fn new(slot: Slot, began: Duration, target: Option<Arc<Target>>) -> Self {
        Live { slot, began, target, reading: Reading::default() }
    }
}

/// What an attempt has reported, as its meter remembers it.
#[derive(Debug, Default)]
pub(super) struct Said {
    reading: Reading,
    /// How much had come when it was last written.
    written: u64,
}

impl Said {
    /// Whether a final usage has already been stated.
    pub(super) fn was_final(&self) -> bool {
        self.reading.usage_is_final
    }

    /// Whether this reading says enough more than the last one.
    pub(super) fn is_news(&mut self, reading: &Reading) -> bool {
        let is_news = reading.usage != self.reading.usage || reading.events >= self.reading.events + EVENTS;
        if is_news {
            self.reading = *reading;
        }
        is_news
    }

    /// Whether enough has come since the last write to write again.
    pub(super) fn is_to_be_written(&mut self) -> bool {
        let said = self.reading.usage.map_or(0, |usage| usage.output).max(self.reading.events);
        let is_due = said >= self.written.saturating_add(WRITTEN);
        if is_due {
            self.written = said;
        }
        is_due
    }
}

impl Call {
    /// Writes the call to a journal. `false` if it already has one.
    pub(crate) fn set_trail(&self, trail: Arc<Trail>) -> bool {
        self.shared.trail.set(trail).is_ok()
    }

    pub(crate) fn trail(&self) -> Option<&Arc<Trail>> {
        self.shared.trail.get()
    }

    /// Keeps the hold, for the intent.
    pub(crate) fn set_reservation(&self, reservation: impl FnOnce() -> Arc<Reservation>) {
        if self.trail().is_some() {
            self.state().reservation = Some(reservation());
        }
    }

    /// Waits until the intent, that the call is about to be sent, is written, if the call has a journal. The last gate
    /// calls this; once is enough.
    ///
    /// # Errors
    /// `StoreUnavailable` if it could not be written.
    pub(crate) async fn intend(&self) -> Result<(), Rejection> {
        let Some(trail) = self.trail() else { return Ok(()) };
        match trail.intend(|| Arc::new(self.clone())).await {
            true => Ok(()),
            false => Err(unavailable(&StoreError::unavailable("the journal was not written in time"))),
        }
    }

    pub(super) fn live_attempt(&self, slot: Slot, reading: &Reading) {
        if let Some(live) = self.state().live.iter_mut().find(|live| live.slot == slot) {
            live.reading = *reading;
        }
    }

    /// The outcome of the call if nothing more were heard of it, and it continued for this long.
    fn if_lost(&self, unseen: Duration) -> Outcome {
        let mut outcome = self.unclosed();
        let (held, live, is_answered) = {
            let state = self.state();
            outcome.decisions = state.decisions.clone();
            outcome.warnings = state.warnings.clone();
            outcome.content = state.content;
            (outcome.granted, outcome.clamped) = (state.granted, state.clamped);
            outcome.attempts = state.attempts.iter().flatten().cloned().collect();
            let live = state.live.iter().map(|live| (live.began, live.target.clone(), live.reading));
            (state.holds, live.collect::<Vec<_>>(), state.client.head_after.is_some())
        };
        let charged = |outcome: &Outcome| {
            outcome.granted.map(|granted| match held {
                Holds::Bound => charge(granted, &outcome.attempts, false),
                Holds::Guess => charge_guessed(granted, &outcome.attempts, false),
                Holds::Nothing => count(&outcome.attempts),
            })
        };
        let ended = if outcome.attempts.is_empty() { Some(Money::ZERO) } else { charged(&outcome) };
        for (began, target, reading) in &live {
            let took = self.elapsed().saturating_sub(*began);
            let worked = self.worked(*began).saturating_add(unseen);
            let attempt = self.to(target.clone()).cut_off(reading, worked);
            outcome.attempts.push(Attempt { took, ..attempt });
        }
        let sent = outcome.attempts.len();
        if live.is_empty() && (outcome.attempts.is_empty() || !is_answered) {
            // One more attempt may be about to start, at an unknown target: assume the most expensive one.
            let took = unseen;
            let attempt = |target: &Arc<Target>| self.toward(target.clone()).cut_off(&Reading::default(), took);
            let attempts = self.route().unwrap_or_default().iter().map(attempt);
            let dearest = attempts.max_by_key(|attempt| attempt.at_most.unwrap_or(Money::MAX));
            outcome.attempts.push(dearest.unwrap_or_else(|| self.cut_off(&Reading::default(), took)));
        }
        outcome.usage = outcome.attempts.iter().filter_map(|attempt| attempt.usage).reduce(Usage::plus);
        outcome.charged = charged(&outcome).map(|charged| match (held, outcome.granted, ended) {
            // Together they are bounded by the grant, except for what is known to have cost more.
            (Holds::Bound, Some(granted), Some(ended)) => charged.min(granted).max(ended),
            _ => charged,
        });
        outcome.attempts.truncate(sent);
        outcome.cost = outcome.attempts.iter().filter_map(|attempt| attempt.cost).reduce(Money::saturating_add);
        outcome
    }

    /// An attempt that has reported this much, and of which nothing more was heard.
    fn cut_off(&self, reading: &Reading, took: Duration) -> Attempt {
        let usage = reading.usage;
        Attempt {
            target: self.target().map(|target| Target::clone(target)),
            answered: reading.model.map(|model| self.shared_name(model.as_str())),
            price_version: self.card().map(|card| card.price_version.clone()),
            at_most: self.at_most(reading, took),
            usage,
            cost: usage.and_then(|usage| self.cost(&usage)),
            ..Attempt::begun(AttemptEnd::NoAnswer)
        }
    }

    fn to(&self, target: Option<Arc<Target>>) -> Call {
        Call { shared: self.shared.clone(), target, slot: None, edited: None }
    }
}

impl Witness for Call {
    fn intent(&self) -> Intent {
        let mut outcome = self.if_lost(UNSEEN);
        // There are no attempts yet.
        outcome.attempts.clear();
        let mut record = AuditRecord::new(&outcome);
        record.quality = outcome.granted.map(|granted| quality(granted, outcome.charged));
        let reservation = self.state().reservation.take();
        Intent { record, pots: reservation.map_or_else(Vec::new, |held| Arc::unwrap_or_clone(held).pots) }
    }

    fn seen(&self) -> Seen {
        // An inner service that is not metered may have worked on it all the time.
        let is_metered = {
            let state = self.state();
            state.metered || !state.attempts.is_empty()
        };
        let outcome =
            self.if_lost(if is_metered { UNSEEN } else { self.worked(Duration::ZERO).saturating_add(UNSEEN) });
        Seen {
            id: self.id(),
            usage: outcome.usage,
            cost: outcome.cost,
            charged: outcome.charged,
            quality: outcome.granted.map(|granted| quality(granted, outcome.charged)),
            attempts: outcome.attempts.iter().map(AttemptRecord::new).collect(),
            took_us: micros(outcome.took),
        }
    }
}

fn quality(granted: Money, charged: Option<Money>) -> Quality {
    if charged == Some(granted) { Quality::Forfeit } else { Quality::Estimated }
}

#[cfg(test)]
mod tests {
    use super::{Reading, Said};
    use crate::domain::usage::Usage;

    #[test]
    fn it_is_written_down_after_each_256_events_or_tokens_that_are_stated() {
        let mut said = Said::default();
        let mut is_due = |events, output| {
            said.reading = Reading { events, usage: Some(Usage { output, ..Usage::default() }), ..Reading::default() };
            said.is_to_be_written()
        };
        let steps = [(255, 0), (256, 1), (257, 1), (300, 512), (301, 767), (302, 768)];
        assert_eq!(steps.map(|(events, output)| is_due(events, output)), [false, true, false, true, false, true]);
    }
}
