use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::closer::close;
use super::cut::Cut;
use super::nested::Slot;
use super::written::{Live, Said};
use super::{Call, Drain, Settlements};
use crate::dialect::meter::Reading;
use crate::domain::dialect::Dialect;
use crate::domain::outcome::{Attempt, AttemptEnd};
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;
use crate::domain::usage::Usage;

/// An attempt in progress. Whoever meters the answer holds it until the last byte. Dropped without an explicit end, the
/// attempt counts as abandoned.
pub struct AttemptGuard {
    call: Option<Call>,
    slot: Slot,
    began: Duration,
    head_after: Option<Duration>,
    status: Option<StatusCode>,
    upstream_request_id: Option<String>,
    error: Option<Arc<str>>,
    reading: Reading,
    /// What was reported so far, if a journal or a watch follows the attempt.
    said: Option<Said>,
}

impl AttemptGuard {
    pub(super) fn begin(mut call: Call) -> Self {
        // The request keeps the body; an answer may take long.
        call.edited = None;
        let (began, slot) = (call.elapsed(), call.join_as_attempt());
        let is_written = call.trail().is_some();
        if is_written {
            call.state().live.push(Live::new(slot, began, call.target().cloned()));
        }
        AttemptGuard {
            began,
            slot,
            said: (is_written || call.watch().is_some()).then(Said::default),
            call: Some(call),
            head_after: None,
            status: None,
            upstream_request_id: None,
            error: None,
            reading: Reading::default(),
        }
    }

    /// The dialect that this attempt's upstream speaks.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.call.as_ref().map(|call| call.target().map_or(call.dialect(), |t| t.dialect))
    }

    /// Whether we, not the client, asked for the usage chunk of this attempt's stream.
    #[must_use]
    pub fn withholds_usage(&self) -> bool {
        self.call.as_ref().is_some_and(Call::withholds_usage)
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether a nested attempt has replaced this one, so that this one is not recorded.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.state().is_taken_over(self.slot))
    }

    /// A new attempt in place of this one, if the nested attempt that replaced it, and all later ones, came to nothing:
    /// then the answer came from elsewhere, through the path of this attempt.
    pub(crate) fn anew(&self) -> Option<AttemptGuard> {
        let mut call = self.call.clone()?;
        let came_to_nothing = |attempt: &Option<Attempt>| attempt.as_ref().is_some_and(Attempt::came_to_nothing);
        let came_to_nothing = call.state().attempts.get(self.slot.at()..)?.iter().all(came_to_nothing);
        call.slot = None;
        came_to_nothing.then(|| {
            let mut again = AttemptGuard::begin(call);
            again.began = self.began;
            again
        })
    }

    /// Whether the attempt has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.call.is_some()
    }

    /// The drain that reads this answer on after its client has left, if one applies, and the settlements that track
    /// that work.
    pub(crate) fn drain(&self) -> Option<(Drain, Settlements)> {
        let call = self.call.as_ref().filter(|call| !call.is_cut(Cut::HungUp))?;
        let upstream = call.target().map(|target| &*target.upstream);
        let drain = call.shared.drain.as_ref().filter(|drain| drain.reads(upstream))?;
        Some((drain.clone(), call.settlements().clone()))
    }

    /// Records the head of the answer.
    pub fn head(&mut self, status: StatusCode, upstream_request_id: Option<String>) {
        self.status = Some(status);
        self.upstream_request_id = upstream_request_id;
        let Some(call) = &self.call else { return };
        let took = call.elapsed().saturating_sub(self.began);
        self.head_after = Some(took);
        call.waited_upstream(took);
    }

    /// Records what the answer has stated so far; the latest reading replaces earlier ones.
    ///
    /// Call it now and then during a long answer: after a crash, a journal knows only what was recorded.
    pub fn read(&mut self, reading: Reading) {
        if !reading.ended {
            self.note(&reading);
        }
        self.reading = reading;
    }

    /// Records the provider's name for its error.
    pub(crate) fn failed_by(&mut self, error: Option<Arc<str>>) {
        self.error = error;
    }

    /// Whether the cost must be reported before the attempt ends.
    pub(crate) fn is_followed(&self) -> bool {
        self.call.as_ref().is_some_and(Call::follows_cost)
    }

    /// Whether readings must be reported before the attempt ends.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.said.is_some()
    }

    /// Reports the current reading. Returns the reason if the stream must end here.
    pub(crate) fn heard(&mut self, reading: &Reading) -> Option<Rejection> {
        // Some servers state in every chunk what others state only at the end.
        let is_last_word = reading.usage_is_final && !self.said.as_ref()?.was_final();
        let is_news = self.note(reading);
        let call = self.call.as_ref()?;
        // After the final usage the whole cost is known, and ending the stream saves nothing.
        let watch = call.watch().filter(|_| !reading.ended && !is_last_word)?;
        if is_news {
            watch.clone().look(call, reading, call.worked(self.began));
        }
        watch.over()
    }

    /// Stores the reading for those who ask about the call, and has it written to the journal when enough has come.
    /// Returns whether the reading is news.
    fn note(&mut self, reading: &Reading) -> bool {
        let (Some(said), Some(call)) = (&mut self.said, &self.call) else { return false };
        let is_news = said.is_news(reading);
        if is_news {
            call.live_attempt(self.slot, reading);
            if let Some(trail) = call.trail()
                && said.is_to_be_written()
            {
                trail.look(call.id());
            }
        }
        is_news
    }

    /// Cuts the call here, for this reason.
    pub(crate) fn cut(&self, why: &Rejection) {
        if let Some(call) = &self.call {
            call.cut_by_itself(why);
        }
    }

    /// Reports the usage of this attempt so far.
    pub(crate) fn used(&self, usage: &Usage) {
        if let Some(call) = &self.call
            && let Some(cost) = call.cost(usage)
        {
            call.state().so_far = Some((self.slot.at(), cost));
        }
    }

    /// Ends the attempt. Only the first end counts.
    pub fn end(&mut self, end: AttemptEnd) {
        let is_taken_over = self.is_taken_over();
        let Some(call) = self.call.take() else { return };
        if is_taken_over {
            return close(call.leave(|_| {}));
        }
        let is_unanswered = matches!(end, AttemptEnd::NoAnswer | AttemptEnd::Abandoned) && self.status.is_none();
        let end = match end {
            _ if is_unanswered && call.state().sent.give_up(self.slot) => AttemptEnd::Unsent,
            AttemptEnd::Abandoned if call.is_told_of_failure() => AttemptEnd::Broken,
            end => end,
        };
        let usage = self.reading.usage;
        let is_over = self.reading.ended && matches!(end, AttemptEnd::Complete | AttemptEnd::Broken);
        let usage_is_final = self.reading.usage_is_final && is_over && !self.reading.failed;
        let took = call.elapsed().saturating_sub(self.began);
        if self.head_after.is_none() {
            call.waited_upstream(took);
        }
        // What was not sent, or was refused, is not billed.
        let is_known = usage_is_final || matches!(end, AttemptEnd::Unsent | AttemptEnd::ErrorStatus) && usage.is_none();
        let worked = if is_known { took } else { call.worked(self.began) };
        let attempt = Attempt {
            cost: usage.and_then(|usage| call.cost(&usage)),
            price_version: call.card().map(|card| card.price_version.clone()),
            at_most: if is_known { None } else { call.at_most(&self.reading, worked) },
            output_at_most: if is_known { None } else { Some(call.output_at_most(&self.reading, worked)) },
            target: call.target().map(|t: &Arc<Target>| Target::clone(t)),
            answered: self.reading.model.map(|model| call.shared_name(model.as_str())),
            end,
            status: self.status,
            usage,
            usage_is_final,
            error: self.error.take(),
            upstream_request_id: self.upstream_request_id.take(),
            head_after: self.head_after,
            took,
        };
        let slot = self.slot;
        close(call.leave(|state| {
            state.live.retain(|live| live.slot != slot);
            if let Some(place) = state.attempts.get_mut(slot.at()) {
                *place = Some(attempt);
            }
        }));
    }
}

impl Call {
    /// Begins an attempt at this handle's target. The call stays open until the guard is gone.
    ///
    /// An attempt that begins within another, on the handle in the other's request, replaces the outer one, because
    /// both see the same answer.
    #[must_use]
    pub fn begin_attempt(&self) -> AttemptGuard {
        AttemptGuard::begin(self.clone())
    }

    /// Like [`begin_attempt`](Self::begin_attempt), and marks this handle, so that the sender of its request can report
    /// whether it was sent.
    pub(crate) fn begin_attempt_of(&mut self) -> AttemptGuard {
        let guard = self.begin_attempt();
        self.slot = Some(guard.slot());
        guard
    }

    /// The name of a model as a shared string; nearly always it is the target's.
    pub(super) fn shared_name(&self, name: &str) -> Arc<str> {
        match self.target() {
            Some(target) if *target.model == *name => target.model.clone(),
            _ => name.into(),
        }
    }

    /// Adds time that the head of the answer waited for an upstream.
    pub(crate) fn waited_upstream(&self, took: Duration) {
        let mut state = self.state();
        state.upstream_took = state.upstream_took.saturating_add(took);
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        self.end(AttemptEnd::Abandoned);
    }
}

impl fmt::Debug for AttemptGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptGuard").field("slot", &self.slot).field("status", &self.status).finish_non_exhaustive()
    }
}
