use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;

use crate::call::{Alive, Asked, Call, Fact, Held, unavailable};
use crate::dialect::{self, LimitState};
use crate::domain::dialect::Operation;
use crate::domain::estimate;
use crate::domain::limit::{Limit, Measure};
use crate::domain::outcome::{Attempt, AttemptEnd, Decision, Outcome};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;
use crate::store::rate_limit::{Acquire, Allowed, Denial, Permit, RateLimitStore, Standing, Used, Verdict};
use crate::store::{At, StoreError};

/// How long the slots of a gateway that has fallen silent stay taken.
const LEASE: Duration = Duration::from_secs(8);

/// The policy of a [`RateLimitLayer`](super::RateLimitLayer).
pub struct RateLimitGate<R: ?Sized> {
    store: Arc<R>,
    alive: Arc<Alive>,
    /// What every caller in its scope counts against too.
    everyone: Arc<[Limit]>,
    expected_output: u64,
}

impl<R: RateLimitStore> RateLimitGate<R> {
    pub(crate) fn new(store: R) -> Self {
        let (store, alive) = (Arc::new(store), Arc::new(Alive::new(LEASE)));
        RateLimitGate { store, alive, everyone: Arc::default(), expected_output: 512 }
    }

    pub(crate) fn expected_output(mut self, tokens: u64) -> Self {
        self.expected_output = tokens;
        self
    }

    pub(super) fn for_everyone(mut self, limit: Limit) -> Self {
        self.everyone = self.everyone.iter().cloned().chain([limit]).collect();
        self
    }

    /// The same gate, whatever its store.
    pub(crate) fn erased(self) -> RateLimitGate<dyn RateLimitStore> {
        let RateLimitGate { store, alive, everyone, expected_output } = self;
        RateLimitGate { store, alive, everyone, expected_output }
    }
}

impl<R: RateLimitStore + ?Sized> RateLimitGate<R> {
    pub(crate) fn store(&self) -> Arc<R> {
        self.store.clone()
    }

    pub(crate) fn everyone(&self) -> Arc<[Limit]> {
        self.everyone.clone()
    }

    /// What [`Gate::admit`] does, without its box.
    pub(crate) async fn pass(&self, call: &Call) -> Result<(), Rejection> {
        if !call.endpoint().has_head() {
            call.pass_unplaced("RateLimitLayer");
            return Ok(());
        }
        let principal = call.require_principal()?;
        call.check_model()?;
        let limits = call.counted(principal, &principal.limits, &self.everyone)?;
        if limits.is_empty() {
            return Ok(());
        }
        let verdict = self.acquire(call, &limits).await;
        call.note(match &verdict {
            Ok(()) => Decision::allow("rate_limit", "within every limit"),
            Err(rejection) => Decision::refuse("rate_limit", rejection.shared_message()),
        });
        verdict
    }

    /// What the call is likely to take; nothing where no tokens are produced, or none are counted.
    fn tokens(&self, call: &Call, limits: &[Limit]) -> Result<u64, Rejection> {
        let generates = call.endpoint().operation == Operation::Generate;
        if !generates || !limits.iter().any(|limit| limit.measure == Measure::Tokens) {
            return Ok(0);
        }
        let head = call.require_head()?;
        let model = call.model().map_or(head.model(), |model| model);
        let output = call.max_tokens().unwrap_or(u64::MAX).min(self.expected_output);
        let output = output.saturating_mul(head.choices());
        Ok(estimate::likely_input(head.inputs(), model).saturating_add(output))
    }

    async fn acquire(&self, call: &Call, limits: &[Limit]) -> Result<(), Rejection> {
        let estimated = self.tokens(call, limits)?;
        let ask = Acquire::new(call.id(), self.alive.session(), limits).tokens(estimated);
        let asked = Asked::new(call, self.nothing(call));
        // Past the pointer's own implementation, which would put the future in a box of its own.
        match (*self.store).acquire(&ask, At::Store).await {
            Ok(Verdict::Allow(Allowed { permit, standings })) => {
                show(call, &standings);
                let (ended, settlements) = (asked.answered(), call.settlements().clone());
                call.on_close(move |outcome| {
                    if let Some(ended) = ended {
                        settlements.settle(outcome.id, Ended { permit, used: used(outcome, estimated), ..ended });
                    }
                });
                Ok(())
            }
            Ok(Verdict::Deny(denial)) => {
                drop(asked.answered());
                show(call, &denial.standings);
                Err(refusal(&denial, limits))
            }
            Err(error) => {
                if !error.may_have_applied() {
                    drop(asked.answered());
                }
                Err(unavailable(&error))
            }
        }
    }

    /// Of whatever is counted under the call's id, and with the session kept alive until the store knows.
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

/// What has come of a call that was counted.
struct Ended<R: ?Sized> {
    store: Arc<R>,
    permit: Permit,
    used: Used,
    _held: Held,
}

impl<R: RateLimitStore + ?Sized> Fact for Ended<R> {
    const WHAT: &'static str = "a rate limit";

    async fn tell(&self) -> Result<(), StoreError> {
        (*self.store).settle(&self.permit, self.used, At::Store).await
    }
}

fn used(outcome: &Outcome, estimated: u64) -> Used {
    let failed = |attempt: &Attempt| matches!(attempt.end, AttemptEnd::Unsent | AttemptEnd::ErrorStatus);
    if let Some(usage) = outcome.usage {
        let tokens = usage.total_input().saturating_add(usage.output);
        // What was said until somebody hung up does not count all that was produced.
        let is_final = outcome.attempts.iter().all(|attempt| attempt.usage_is_final || failed(attempt));
        return Used::Tokens(if is_final { tokens } else { tokens.max(estimated) });
    }
    match outcome.attempts.iter().all(failed) {
        _ if outcome.attempts.is_empty() && outcome.rejection.is_some() => Used::Nothing,
        true if !outcome.attempts.is_empty() => Used::Tokens(0),
        _ => Used::AsEstimated,
    }
}

/// Of several limits of one measure, clients are shown the one that has the least left.
fn show(call: &Call, standings: &[Standing]) {
    let now = call.now();
    for measure in [Measure::Requests, Measure::Tokens] {
        let of_it = standings.iter().filter(|standing| standing.limit.measure == measure);
        let Some(standing) = of_it.min_by_key(|standing| standing.left) else { continue };
        let state = LimitState {
            measure,
            most: standing.limit.most,
            left: standing.left,
            full_after: standing.full_after,
            now,
        };
        call.set_answer_headers(dialect::limit_headers(call.dialect(), state));
    }
}

fn refusal(denial: &Denial, limits: &[Limit]) -> Rejection {
    let limit = limits.get(denial.index).map(ToString::to_string).unwrap_or_default();
    match denial.retry_after {
        Some(after) => {
            Rejection::new(RejectionKind::RateLimited, format!("the limit of {limit} is reached")).retry_after(after)
        }
        None => Rejection::new(
            RejectionKind::RateLimited,
            format!("this request is larger than the limit of {limit}, and will not fit later either"),
        )
        .no_retry(),
    }
}

impl<R: ?Sized> Clone for RateLimitGate<R> {
    fn clone(&self) -> Self {
        let (store, alive, everyone) = (self.store.clone(), self.alive.clone(), self.everyone.clone());
        RateLimitGate { store, alive, everyone, expected_output: self.expected_output }
    }
}

impl<R: ?Sized> fmt::Debug for RateLimitGate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitGate").field("expected_output", &self.expected_output).finish_non_exhaustive()
    }
}
