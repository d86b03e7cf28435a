use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;

use crate::call::{Alive, Asked, Call, Fact, Held, Kind, unavailable};
use crate::domain::dialect::{Dialect, Operation};
use crate::domain::estimate;
use crate::domain::limit::{Limit, Measure};
use crate::domain::outcome::{Attempt, AttemptEnd, Decision, Outcome};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;
use crate::store::rate_limit::{Acquire, Allowed, Denial, Permit, RateLimitStore, Standing, Used, Verdict};
use crate::store::{At, StoreError, in_time};

/// How long the slots of a gateway stay taken after its last heartbeat.
const LEASE: Duration = Duration::from_secs(8);

/// The policy of a [`RateLimitLayer`](super::RateLimitLayer).
pub struct RateLimitGate<R: ?Sized> {
    store: Arc<R>,
    alive: Arc<Alive>,
    /// Limits that every caller in their scope counts against, besides the caller's own.
    everyone: Arc<[Limit]>,
    expected_output: u64,
    /// Whom a client may ask for a higher limit.
    contact: Option<Arc<str>>,
}

impl<R: RateLimitStore> RateLimitGate<R> {
    pub(crate) fn new(store: R) -> Self {
        let (store, alive) = (Arc::new(store), Arc::new(Alive::new(LEASE)));
        RateLimitGate { store, alive, everyone: Arc::default(), expected_output: 512, contact: None }
    }

    pub(crate) fn expected_output(mut self, tokens: u64) -> Self {
        self.expected_output = tokens;
        self
    }

    pub(super) fn contact(mut self, contact: Arc<str>) -> Self {
        self.contact = Some(contact);
        self
    }

    pub(super) fn for_everyone(mut self, limit: Limit) -> Self {
        self.everyone = self.everyone.iter().cloned().chain([limit]).collect();
        self
    }

    /// The same gate with the type of its store erased.
    pub(crate) fn erased(self) -> RateLimitGate<dyn RateLimitStore> {
        self.seen_as::<dyn RateLimitStore>(|store| store)
    }

    /// The same gate, with its store seen as another type.
    pub(crate) fn seen_as<T: ?Sized>(self, see: impl FnOnce(Arc<R>) -> Arc<T>) -> RateLimitGate<T> {
        let RateLimitGate { store, alive, everyone, expected_output, contact } = self;
        RateLimitGate { store: see(store), alive, everyone, expected_output, contact }
    }
}

impl<R: RateLimitStore + ?Sized> RateLimitGate<R> {
    pub(crate) fn store(&self) -> Arc<R> {
        self.store.clone()
    }

    pub(crate) fn everyone(&self) -> Arc<[Limit]> {
        self.everyone.clone()
    }

    /// Like [`Gate::admit`], without a box.
    pub(crate) async fn pass(&self, call: &Call) -> Result<(), Rejection> {
        let Some(wanted) = self.wanted(call)? else { return Ok(()) };
        let (ask, asked) = (self.acquire(call, &wanted), self.asked(call));
        // Calls the store behind the pointer; the pointer's own implementation would box the future once more.
        let answer = in_time((*self.store).acquire(&ask, At::Store)).await;
        let ended = asked.heard(&answer);
        match answer {
            Ok(Verdict::Allow(allowed)) => {
                self.allowed(call, &wanted, allowed, ended);
                Ok(())
            }
            Ok(Verdict::Deny(denial)) => Err(self.denied(call, &wanted, &denial)),
            Err(error) => Err(note(call, unavailable(&error))),
        }
    }

    /// What the call counts against, or `None` if nothing is counted.
    pub(crate) fn wanted<'c>(&self, call: &'c Call) -> Result<Option<Wanted<'c>>, Rejection> {
        if !call.endpoint().has_head() {
            call.pass_unplaced("RateLimitLayer")?;
            return Ok(None);
        }
        let principal = call.require_principal()?;
        call.check_model()?;
        let limits = call.counted(principal, &principal.limits, &self.everyone)?;
        if limits.is_empty() {
            return Ok(None);
        }
        let (input, output) = self.tokens(call, &limits)?;
        Ok(Some(Wanted { limits, input, tokens: input.saturating_add(output) }))
    }

    /// The question as the store gets it.
    pub(crate) fn acquire<'w>(&self, call: &Call, wanted: &'w Wanted<'_>) -> Acquire<'w> {
        Acquire::new(call.id(), self.alive.session(), &wanted.limits).tokens(wanted.tokens)
    }

    /// Marks a question to the store as in progress.
    pub(crate) fn asked<'c>(&self, call: &'c Call) -> Asked<'c, Ended<R>> {
        Asked::new(call, self.nothing(call))
    }

    /// Lets the call go on. From here on its close settles.
    pub(crate) fn allowed(&self, call: &Call, wanted: &Wanted<'_>, allowed: Allowed, ended: Option<Ended<R>>) {
        let Allowed { permit, standings } = allowed;
        call.show_counted(&permit, standings);
        let (input, estimated, settlements) = (wanted.input, wanted.tokens, call.settlements().clone());
        call.on_close(move |outcome| {
            // Requests are counted without a meter.
            if estimated > 0 {
                settlements.check_metered(outcome);
            }
            if let Some(ended) = ended {
                settlements.settle(outcome.id, Ended { permit, used: used(outcome, input, estimated), ..ended });
            }
        });
        call.note(Decision::allow("rate_limit", "within every limit"));
    }

    /// Refuses the call.
    pub(crate) fn denied(&self, call: &Call, wanted: &Wanted<'_>, denial: &Denial) -> Rejection {
        call.show_limits(&denial.standings);
        note(call, refusal(denial, &wanted.limits, self.contact.as_deref()))
    }

    /// The call's likely input and output tokens; zero if it produces none, or if no limit counts tokens.
    fn tokens(&self, call: &Call, limits: &[Limit]) -> Result<(u64, u64), Rejection> {
        let generates = call.endpoint().operation == Operation::Generate;
        if !generates || !limits.iter().any(|limit| limit.measure == Measure::Tokens) {
            return Ok((0, 0));
        }
        let head = call.require_head()?;
        let model = call.model().map_or(head.model(), |model| model);
        let output = call.max_tokens().unwrap_or(u64::MAX).min(self.expected_output);
        let output = output.saturating_mul(head.choices());
        let input = call.counted_input().unwrap_or_else(|| estimate::likely_input(head.inputs(), model));
        Ok((input, output))
    }

    /// Settles for nothing whatever is counted under the call's id, and keeps the session alive until the store has
    /// heard.
    fn nothing(&self, call: &Call) -> Ended<R> {
        let (store, session) = (self.store.clone(), self.alive.session());
        let held = self.alive.hold(call.settlements(), move || {
            let store = store.clone();
            async move { (*store).heartbeat(session, At::Store).await }
        });
        let permit = Permit { id: call.id(), taken: Vec::new() };
        Ended { store: self.store.clone(), permit, used: Used::Nothing, _held: held }
    }
}

#[async_trait]
impl<R: RateLimitStore> Gate for RateLimitGate<R> {
    async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(call).await
    }
}

/// What a call will count against.
pub(crate) struct Wanted<'c> {
    limits: Cow<'c, [Limit]>,
    /// The likely input tokens.
    input: u64,
    /// The likely input and output tokens.
    tokens: u64,
}

/// Records the refusal among the decisions about the call.
fn note(call: &Call, rejection: Rejection) -> Rejection {
    call.note(Decision::refuse("rate_limit", rejection.shared_message()));
    rejection
}

/// The end of a call that was counted, to be told to its store.
pub(crate) struct Ended<R: ?Sized> {
    store: Arc<R>,
    permit: Permit,
    used: Used,
    _held: Held,
}

impl<R: RateLimitStore + ?Sized> Fact for Ended<R> {
    const KIND: Kind = Kind::RateLimit;

    fn is_nothing(&self) -> bool {
        self.permit.taken.is_empty()
    }

    // A store ignores a settlement of a call that it does not know, so it may come at any time.
    fn memory(&self) -> Duration {
        Duration::MAX
    }

    async fn tell(&self) -> Result<(), StoreError> {
        (*self.store).settle(&self.permit, self.used, At::Store).await
    }
}

fn used(outcome: &Outcome, input: u64, estimated: u64) -> Used {
    let failed = |attempt: &Attempt| matches!(attempt.end, AttemptEnd::Unsent | AttemptEnd::ErrorStatus);
    let tokens = outcome.attempts.iter().map(|attempt| tokens(attempt, input, outcome.endpoint.dialect));
    let tokens = tokens.fold(0, u64::saturating_add);
    if outcome.usage.is_some() || tokens > 0 {
        // If an answer broke off, its stated usage does not cover everything that was produced.
        let is_final = outcome.attempts.iter().all(|attempt| attempt.usage_is_final || failed(attempt));
        return Used::Tokens(if is_final { tokens } else { tokens.max(estimated) });
    }
    match outcome.attempts.iter().all(failed) {
        // A call that the gateway answered itself counts as one request.
        _ if outcome.is_unasked() && outcome.status.is_some_and(|status| status.is_success()) => Used::Tokens(0),
        _ if outcome.is_unasked() => Used::Nothing,
        true if !outcome.attempts.is_empty() => Used::Tokens(0),
        _ => Used::AsEstimated,
    }
}

/// The tokens that an attempt used, as stated by its provider.
///
/// If the answer was abandoned, the output is the most that it can have been by then: hanging up must not give anyone a
/// higher rate. Tokens that Anthropic's API read from its cache do not count, as in Anthropic's own limits; OpenAI's
/// do.
fn tokens(attempt: &Attempt, input: u64, spoken: Dialect) -> u64 {
    let usage = attempt.usage.unwrap_or_default();
    let dialect = attempt.target.as_ref().map_or(spoken, |target| target.dialect);
    let free = if dialect == Dialect::Anthropic { usage.cache_read } else { 0 };
    let taken_in = usage.total_input().saturating_sub(free);
    let was_left = attempt.end == AttemptEnd::Abandoned && attempt.status.is_some_and(|status| status.is_success());
    match attempt.output_at_most.filter(|_| was_left) {
        // Some servers with Anthropic's API start by stating an input of 0.
        Some(output) if usage.total_input() == 0 => input.saturating_add(output),
        Some(output) => taken_in.saturating_add(output),
        None => taken_in.saturating_add(usage.output),
    }
}

/// The refusal: names the limit, what is used, when there is room again, and whom to ask.
fn refusal(denial: &Denial, limits: &[Limit], contact: Option<&str>) -> Rejection {
    let limit = limits.get(denial.index).map(ToString::to_string).unwrap_or_default();
    let ask = contact.map(|contact| format!("; ask {contact} for more")).unwrap_or_default();
    match denial.retry_after {
        Some(after) => {
            let gone = denial.standings.get(denial.index).map(|standing| gone(standing, after)).unwrap_or_default();
            let message = format!("the limit of {limit} is reached{gone}{ask}");
            Rejection::new(RejectionKind::RateLimited, message).retry_after(after)
        }
        None => Rejection::new(
            RejectionKind::RateLimited,
            format!("this request is larger than the whole limit of {limit}, so waiting does not help{ask}"),
        )
        .no_retry(),
    }
}

fn gone(standing: &Standing, after: Duration) -> String {
    let used = standing.limit.most.saturating_sub(standing.left);
    let seconds = |time: Duration| time.as_nanos().div_ceil(1_000_000_000);
    match standing.limit.measure {
        Measure::Parallel => format!(": {used} running"),
        Measure::Requests | Measure::Tokens => format!(
            ": {used} used; there is room for this request in {} s, and all of the limit is free again in {} s",
            seconds(after),
            seconds(standing.full_after)
        ),
    }
}

impl<R: ?Sized> Clone for RateLimitGate<R> {
    fn clone(&self) -> Self {
        let (store, alive, everyone) = (self.store.clone(), self.alive.clone(), self.everyone.clone());
        let (expected_output, contact) = (self.expected_output, self.contact.clone());
        RateLimitGate { store, alive, everyone, expected_output, contact }
    }
}

impl<R: ?Sized> fmt::Debug for RateLimitGate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitGate").field("expected_output", &self.expected_output).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::Usage;

    #[test]
    fn an_answer_that_was_left_counts_its_input_though_its_provider_had_not_said_how_much_that_is() {
        let left = |input| Attempt {
            status: Some(http::StatusCode::OK),
            usage: Some(Usage { input, output: 1, ..Usage::default() }),
            output_at_most: Some(5),
            ..Attempt::begun(AttemptEnd::Abandoned)
        };
        assert_eq!([0, 30].map(|input| tokens(&left(input), 40, Dialect::Anthropic)), [45, 35]);
    }
}
