use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::request::Parts;

use crate::budget::{self, BudgetGate, OverBudget};
use crate::call::{Asked, Call, unavailable};
use crate::domain::outcome::Decision;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;
use crate::rate_limit::{self, RateLimitGate};
use crate::store::admission::{AdmissionStore, Admit, Admitted, Denial, Verdict};
use crate::store::{At, Chain, StoreError, in_time};

/// The policy of an [`AdmissionLayer`](super::AdmissionLayer).
#[derive(Clone)]
pub struct AdmissionGate {
    store: Arc<dyn AdmissionStore>,
    limits: RateLimitGate<dyn AdmissionStore>,
    budgets: BudgetGate<dyn AdmissionStore>,
}

impl AdmissionGate {
    pub(super) fn new<S: AdmissionStore>(limits: RateLimitGate<S>, budgets: BudgetGate<S>) -> Self {
        let limits = limits.seen_as::<dyn AdmissionStore>(|store| store);
        let budgets = budgets.seen_as::<dyn AdmissionStore>(|store| store);
        AdmissionGate { store: budgets.store(), limits, budgets }
    }

    /// Sets `over` unless it was set before.
    pub(crate) fn unless_chosen(mut self, over: OverBudget) -> Self {
        self.budgets = self.budgets.unless_chosen(over);
        self
    }

    pub(crate) fn limits(&self) -> &RateLimitGate<dyn AdmissionStore> {
        &self.limits
    }

    pub(crate) fn budgets(&self) -> &BudgetGate<dyn AdmissionStore> {
        &self.budgets
    }

    /// Like [`Gate::admit`], without a box.
    pub(crate) async fn pass(&self, headers: &HeaderMap, call: &Call) -> Result<(), Rejection> {
        let wanted = Wanted { limits: self.limits.wanted(call)?, budgets: self.budgets.wanted(headers, call)? };
        if wanted.limits.is_none() && wanted.budgets.is_none() && call.presented_key().is_none() {
            return Ok(());
        }
        let answer = match (self.budgets.queues(), &wanted.budgets) {
            (Some(queues), Some(budgets)) => {
                let held = |answer: &Answer| match answer {
                    Ok(Err(Refused::Denied(Denial::Budget { denial, .. }))) => denial.held().cloned(),
                    _ => None,
                };
                queues.ask(&budgets.budgets, || self.ask(call, &wanted), held).await
            }
            _ => self.ask(call, &wanted).await,
        };
        match (answer, &wanted) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(Refused::Rejected(rejection))), _) => Err(rejection),
            (Ok(Err(Refused::Denied(denial))), _) => Err(self.denied(call, &wanted, denial)),
            // A store that cannot answer must not block calls for which nothing is limited. The key was valid when it
            // was last checked.
            (Err(error), Wanted { limits: None, budgets: None }) => {
                let why = "allowed: this call has no limits or budgets, and the store cannot answer";
                tracing::warn!(call = %call.id(), error = %Chain(&error), "{why}");
                call.note(Decision::allow("admission", why));
                Ok(())
            }
            (Err(error), Wanted { budgets: Some(_), .. }) => Err(self.budgets.unreadable(call, &error)),
            (Err(error), _) => {
                let rejection = unavailable(&error);
                call.note(Decision::refuse("admission", rejection.shared_message()));
                Err(rejection)
            }
        }
    }

    fn denied(&self, call: &Call, wanted: &Wanted<'_>, denial: Denial) -> Rejection {
        match (denial, &wanted.limits, &wanted.budgets) {
            (Denial::Limit(denial), Some(limits), _) => self.limits.denied(call, limits, &denial),
            (Denial::Budget { denial, limits }, _, Some(budgets)) => {
                call.show_limits(&limits);
                self.budgets.denied(call, budgets, &denial)
            }
            _ => {
                let rejection = Rejection::new(RejectionKind::Unauthenticated, "this API key is no longer valid");
                call.note(Decision::refuse("auth", rejection.shared_message()));
                rejection
            }
        }
    }

    async fn ask(&self, call: &Call, wanted: &Wanted<'_>) -> Answer {
        let limits = wanted.limits.as_ref().map(|wanted| self.limits.acquire(call, wanted));
        let budgets = wanted.budgets.as_ref().map(|wanted| self.budgets.reserve(call, wanted));
        let counted = wanted.limits.as_ref().map(|_| self.limits.asked(call));
        let paid = wanted.budgets.as_ref().map(|wanted| self.budgets.asked(call, wanted));
        let ask = Admit { key: call.presented_key(), limits, budgets };
        // Calls the store behind the pointer; the pointer's own implementation would box the future once more.
        let answer = in_time((*self.store).admit(&ask, At::Store)).await;
        if let (Err(error), Wanted { limits: None, budgets: Some(budgets) }) = (&answer, wanted)
            && budgets.is_soft()
        {
            self.budgets.uncounted(call, budgets, paid.and_then(Asked::answered), error);
            return Ok(Ok(()));
        }
        let counted = counted.and_then(|asked| asked.heard(&answer));
        let paid = paid.and_then(|asked| asked.heard(&answer));
        let Admitted { allowed, grant } = match answer? {
            Verdict::Allow(admitted) => admitted,
            Verdict::Deny(denial) => return Ok(Err(Refused::Denied(denial))),
        };
        if let (Some(wanted), Some(allowed)) = (&wanted.limits, allowed) {
            self.limits.allowed(call, wanted, allowed, counted);
        }
        if let (Some(wanted), Some(grant)) = (&wanted.budgets, grant) {
            return Ok(self.budgets.granted(call, wanted, grant, paid).map_err(Refused::Rejected));
        }
        Ok(Ok(()))
    }
}

/// What a call asks of its limits and budgets.
struct Wanted<'c> {
    limits: Option<rate_limit::Wanted<'c>>,
    budgets: Option<budget::Wanted<'c>>,
}

/// Admitted or refused; an error if the store cannot answer.
type Answer = Result<Result<(), Refused>, StoreError>;

/// Why a call is refused.
enum Refused {
    /// By the store.
    Denied(Denial),
    /// The grant is unusable.
    Rejected(Rejection),
}

#[async_trait]
impl Gate for AdmissionGate {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(&parts.headers, call).await?;
        call.intend().await
    }
}

impl fmt::Debug for AdmissionGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionGate").field("limits", &self.limits).field("budgets", &self.budgets).finish()
    }
}
