use std::borrow::Cow;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Call;
use super::cut::Cut;
use super::edit::Edits;
use super::nested::Slot;
use super::scopes::LookedAt;
use super::sent::Sent;
use super::standings::Standings;
use super::written::Live;
use crate::domain::content::Keep;
use crate::domain::money::Money;
use crate::domain::outcome::{Attempt, AttemptEnd, Decision, End, Outcome, charge, charge_guessed, count};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::usage::Usage;
use crate::store::budget::Reservation;

pub(super) type Hook = Box<dyn FnOnce(&Arc<Outcome>) + Send>;

/// The mutable state of a call, behind one short lock that is never held while foreign code runs.
pub(super) struct State {
    /// Parties that have not ended: the client's body, and each attempt.
    open: usize,
    /// Attempts in the order in which they began; a slot stays `None` until its attempt ends.
    pub(super) attempts: Vec<Option<Attempt>>,
    /// Attempts that a nested attempt has replaced.
    taken_over: Vec<Slot>,
    pub(super) sent: Sent,
    pub(super) edits: Edits,
    /// For each name the last value counts. The flag marks headers for successful answers only.
    pub(super) answer_headers: Vec<(HeaderName, HeaderValue, bool)>,
    pub(super) standings: Standings,
    pub(super) client: ClientSide,
    /// How the call was cut, if it was.
    pub(super) cut: Option<(Cut, Rejection)>,
    pub(super) decisions: Vec<Decision>,
    /// The outermost control that let the call pass without recognizing its path.
    pub(super) unplaced: Option<&'static str>,
    pub(super) granted: Option<Money>,
    pub(super) clamped: Option<u64>,
    pub(super) holds: Holds,
    /// A budget that refuses pays for the call.
    pub(super) is_bounded: bool,
    /// The cost so far of an attempt in progress, if anyone follows it.
    pub(super) so_far: Option<(usize, Money)>,
    /// The time that the head of the answer waited for upstreams.
    pub(super) upstream_took: Duration,
    /// The attempts in progress, if the call has a journal.
    pub(super) live: Vec<Live>,
    /// Whether every provider request begins an attempt first.
    pub(super) metered: bool,
    /// Which of the caller's own budgets and limits were checked.
    pub(super) looked_at: LookedAt,
    /// The hold, until the intent is written.
    pub(super) reservation: Option<Arc<Reservation>>,
    pub(super) warnings: Option<Arc<str>>,
    /// The limit on what is kept of the content, if set; `content` is what is actually kept, if anything.
    pub(super) keep: Option<Keep>,
    pub(super) content: Option<Keep>,
    hooks: Vec<Hook>,
    counted: Option<TaskTrackerToken>,
    outcome: Option<Arc<Outcome>>,
}

/// What the last party of a call must still do.
pub(super) struct Closing {
    pub(super) hooks: Vec<Hook>,
    pub(super) outcome: Arc<Outcome>,
    /// Counts the call as open until the hooks have run.
    pub(super) counted: Option<TaskTrackerToken>,
}

/// How the grant relates to what the call may cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Holds {
    /// It covers the cost.
    #[default]
    Bound,
    /// It is about the cost.
    Guess,
    /// Nothing is known: the cost has no bound.
    Nothing,
}

/// What the client has received.
#[derive(Default)]
pub(super) struct ClientSide {
    pub(super) status: Option<StatusCode>,
    pub(super) rejection: Option<RejectionKind>,
    pub(super) reason: Option<Cow<'static, str>>,
    pub(super) head_after: Option<Duration>,
    /// The part of `head_after` that was ours.
    pub(super) own: Option<Duration>,
    pub(super) first_byte_after: Option<Duration>,
    pub(super) bytes_out: u64,
    pub(super) end: Option<ClientEnd>,
    /// The client is told of a failure in a body that ends in order.
    pub(super) is_told: bool,
}

/// How the client's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEnd {
    Complete,
    Abandoned,
    Failed,
}

impl State {
    pub(super) fn new(counted: TaskTrackerToken) -> Self {
        State {
            open: 0,
            attempts: Vec::new(),
            taken_over: Vec::new(),
            sent: Sent::default(),
            edits: Edits::default(),
            answer_headers: Vec::new(),
            standings: Standings::default(),
            client: ClientSide::default(),
            cut: None,
            decisions: Vec::new(),
            unplaced: None,
            granted: None,
            clamped: None,
            holds: Holds::default(),
            is_bounded: false,
            so_far: None,
            upstream_took: Duration::ZERO,
            live: Vec::new(),
            metered: false,
            looked_at: LookedAt::default(),
            reservation: None,
            warnings: None,
            keep: None,
            content: None,
            hooks: Vec::new(),
            counted: Some(counted),
            outcome: None,
        }
    }

    pub(super) fn warn(&mut self, warnings: Option<&str>) {
        const NAME: HeaderName = HeaderName::from_static("x-tollgate-warnings");
        self.answer_headers.retain(|(name, ..)| *name != NAME);
        let value = warnings.and_then(|warnings| HeaderValue::from_str(warnings).ok());
        self.answer_headers.extend(value.map(|value| (NAME, value, false)));
        self.warnings = warnings.map(Into::into);
    }

    /// Whether a nested attempt has replaced this one.
    pub(super) fn is_taken_over(&self, slot: Slot) -> bool {
        self.taken_over.contains(&slot)
    }

    /// Marks this attempt as replaced: nothing is recorded of it.
    fn hand_over(&mut self, slot: Slot) {
        self.taken_over.push(slot);
        self.live.retain(|live| live.slot != slot);
    }

    /// Keeps the hook for the close. If the call has closed, returns the hook with the outcome.
    pub(super) fn register(&mut self, hook: Hook) -> Option<(Hook, Arc<Outcome>)> {
        match &self.outcome {
            None => {
                self.hooks.push(hook);
                None
            }
            Some(outcome) => Some((hook, outcome.clone())),
        }
    }
}

impl Call {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock can only come from an allocation, and leaves the data intact.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self) {
        self.state().open += 1;
    }

    /// Counts one more attempt as a party, and returns its slot. It takes the slot of the attempt within which it
    /// begins, if that one is in progress and has not been replaced.
    pub(super) fn join_as_attempt(&self) -> Slot {
        let mut state = self.state();
        state.open += 1;
        // A layer of the host's may try again what failed.
        state.client.is_told = false;
        let goes_on = |slot: &Slot| matches!(state.attempts.get(slot.at()), Some(None)) && !state.is_taken_over(*slot);
        if let Some(slot) = self.slot.filter(goes_on) {
            state.hand_over(slot);
            return slot.next();
        }
        // Nearly every call needs exactly one.
        state.attempts.reserve_exact(1);
        state.attempts.push(None);
        Slot::new(state.attempts.len() - 1)
    }

    /// The gateway answers this call itself and asks no provider: the enclosing attempt, as behind a layer that meters,
    /// does not count.
    pub(crate) fn asks_nobody(&self) {
        if let Some(slot) = self.slot {
            self.state().hand_over(slot);
        }
    }

    /// Whether the last attempt has ended completely.
    pub(crate) fn last_attempt_is_whole(&self) -> bool {
        matches!(self.state().attempts.last(), Some(Some(attempt)) if attempt.end == AttemptEnd::Complete)
    }

    /// Whether the request of the last attempt was never sent.
    pub(crate) fn last_attempt_is_unsent(&self) -> bool {
        matches!(self.state().attempts.last(), Some(Some(attempt)) if attempt.end == AttemptEnd::Unsent)
    }

    /// Whether the last attempt broke off, even if its bytes ended in order.
    pub(crate) fn last_attempt_is_broken(&self) -> bool {
        let state = self.state();
        state.client.is_told || matches!(state.attempts.last(), Some(Some(it)) if it.end == AttemptEnd::Broken)
    }

    /// A party has ended. The last one makes the outcome and takes the hooks, which its caller runs outside of the
    /// lock.
    pub(super) fn leave(&self, last_words: impl FnOnce(&mut State)) -> Option<Closing> {
        let mut state = self.state();
        last_words(&mut state);
        state.open = state.open.saturating_sub(1);
        if state.open > 0 || state.outcome.is_some() {
            return None;
        }
        let outcome = Arc::new(self.outcome(&mut state));
        state.outcome = Some(outcome.clone());
        let closing = Closing { hooks: std::mem::take(&mut state.hooks), outcome, counted: state.counted.take() };
        Some(closing)
    }

    fn outcome(&self, state: &mut State) -> Outcome {
        let mut attempts = Vec::with_capacity(state.attempts.len());
        attempts.extend(state.attempts.drain(..).flatten());
        let usage = attempts.iter().filter_map(|a| a.usage).reduce(Usage::plus);
        let rejection = state.client.rejection;
        let mut end = end(&state.client, attempts.last());
        // The client may have received the complete answer, or a refusal, at the same moment.
        if let Some((_, why)) = state.cut.take()
            && end != End::Complete
            && rejection.is_none_or(|kind| kind == why.kind())
        {
            end = End::Cut;
            state.decisions.push(Decision::refuse("cut", why.shared_message()));
        }
        let mut outcome = Outcome {
            end,
            status: state.client.status,
            rejection,
            reason: state.client.reason.take(),
            decisions: std::mem::take(&mut state.decisions),
            warnings: state.warnings.take(),
            usage,
            cost: attempts.iter().filter_map(|a| a.cost).reduce(Money::saturating_add),
            granted: state.granted,
            charged: None,
            clamped: state.clamped,
            metered: state.metered,
            attempts,
            head_after: state.client.head_after,
            own: state.client.own,
            first_byte_after: state.client.first_byte_after,
            bytes_out: state.client.bytes_out,
            content: state.content,
            ..self.unclosed()
        };
        outcome.charged = outcome.granted.map(|granted| match state.holds {
            Holds::Bound => charge(granted, &outcome.attempts, outcome.is_unasked()),
            Holds::Guess => charge_guessed(granted, &outcome.attempts, outcome.is_unasked()),
            Holds::Nothing => count(&outcome.attempts),
        });
        outcome
    }

    /// Reports that the client is told of a failure of the answer, in a body that ends in order. The attempt, if
    /// nobody reads on, counts as broken.
    pub(crate) fn tells_of_failure(&self) {
        self.state().client.is_told = true;
    }

    pub(super) fn is_told_of_failure(&self) -> bool {
        self.state().client.is_told
    }

    /// The outcome of a call of which only the request and the caller are known.
    pub(super) fn unclosed(&self) -> Outcome {
        Outcome {
            id: self.shared.id,
            endpoint: self.endpoint(),
            principal: self.principal().cloned(),
            client: self.client(),
            model: self.head().map(|head| head.shared_model().clone()),
            end: End::Lost,
            status: None,
            rejection: None,
            reason: None,
            decisions: Vec::new(),
            warnings: None,
            usage: None,
            cost: None,
            granted: None,
            charged: None,
            clamped: None,
            attempts: Vec::new(),
            metered: false,
            opened_at: self.shared.opened_at,
            head_after: None,
            own: None,
            first_byte_after: None,
            took: self.elapsed(),
            bytes_in: self.head().map(|head| head.len() as u64),
            bytes_out: 0,
            content: None,
        }
    }
}

fn end(client: &ClientSide, last: Option<&Attempt>) -> End {
    match (client.rejection, client.end) {
        (Some(kind), _) if !kind.is_upstream() => End::Refused,
        (_, Some(ClientEnd::Abandoned) | None) => End::Abandoned,
        (Some(_), _) | (_, Some(ClientEnd::Failed)) => End::Failed,
        _ if client.is_told => End::Failed,
        _ => match last {
            // Abandoned behind a complete client body: a layer in between had what it wanted and dropped the rest.
            Some(attempt) if !matches!(attempt.end, AttemptEnd::Complete | AttemptEnd::Abandoned) => End::Failed,
            _ if client.status.is_some_and(|s| s.is_client_error() || s.is_server_error()) => End::Failed,
            _ => End::Complete,
        },
    }
}
