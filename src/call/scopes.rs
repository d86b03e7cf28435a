//! The budgets and limits that a call counts against: some concern only certain models or providers.

use std::borrow::Cow;

use super::Call;
use crate::domain::budget::Budget;
use crate::domain::dialect::Operation;
use crate::domain::limit::Limit;
use crate::domain::outcome::Outcome;
use crate::domain::principal::Principal;
use crate::domain::rejection::Rejection;
use crate::domain::scope::{Scope, ScopeKind};

/// A budget or limit with a scope.
pub(crate) trait Scoped: Clone {
    fn scope(&self) -> &Scope;
    /// Records that a layer has checked the caller's own ones.
    fn mark(looked_at: &mut LookedAt);
}

/// Which of a caller's own budgets and limits a layer has checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LookedAt {
    budgets: bool,
    limits: bool,
}

impl Scoped for Budget {
    fn scope(&self) -> &Scope {
        &self.pot.scope
    }

    fn mark(looked_at: &mut LookedAt) {
        looked_at.budgets = true;
    }
}

impl Scoped for Limit {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn mark(looked_at: &mut LookedAt) {
        looked_at.limits = true;
    }
}

impl Call {
    /// Which of the caller's own, and of those for everyone, this call counts against.
    ///
    /// # Errors
    /// `Misconfigured` if that depends on a provider, and no route has been chosen yet.
    pub(crate) fn counted<'a, T: Scoped>(
        &self,
        principal: &Principal,
        own: &'a [T],
        everyone: &[T],
    ) -> Result<Cow<'a, [T]>, Rejection> {
        T::mark(&mut self.state().looked_at);
        if everyone.is_empty() && own.iter().all(|one| !depends(one.scope())) {
            return Ok(Cow::Borrowed(own));
        }
        let everyone = everyone.iter().filter(|one| principal.is_in(one.scope()));
        let mut counted = Vec::with_capacity(own.len());
        for one in own.iter().chain(everyone) {
            if self.concerns(one.scope())? {
                counted.push(one.clone());
            }
        }
        Ok(Cow::Owned(counted))
    }

    /// Checks that layers have looked at all limits and budgets that the caller has.
    ///
    /// # Errors
    /// `Misconfigured`, since its calls would otherwise be free or unlimited.
    pub(crate) fn check_governed(&self) -> Result<(), Rejection> {
        let Some(principal) = self.principal() else { return Ok(()) };
        let LookedAt { budgets, limits } = self.state().looked_at;
        if !limits && !principal.limits.is_empty() {
            return Err(Rejection::misconfigured(
                "the caller has limits, but no layer enforces them: add a `RateLimitLayer` or an `AdmissionLayer`",
            ));
        }
        if !budgets && !principal.budgets.is_empty() && self.endpoint().operation == Operation::Generate {
            return Err(Rejection::misconfigured(
                "the caller has budgets, but no layer enforces them: add a `BudgetLayer` or an `AdmissionLayer`",
            ));
        }
        Ok(())
    }

    /// Whether the call concerns this scope: a model or provider must be one of its targets.
    fn concerns(&self, scope: &Scope) -> Result<bool, Rejection> {
        match scope.kind {
            ScopeKind::Provider => Ok(self.require_route()?.iter().any(|target| scope.names(&target.upstream))),
            ScopeKind::Model => {
                if self.other_models().is_some() {
                    return Ok(true);
                }
                let targets = self.route().unwrap_or_default().iter().map(|target| &target.model);
                Ok(self.model().into_iter().chain(targets).any(|model| scope.names(model)))
            }
            _ => Ok(true),
        }
    }
}

fn depends(scope: &Scope) -> bool {
    matches!(scope.kind, ScopeKind::Model | ScopeKind::Provider)
}

/// Whether an ended call counts against a scope. A model or provider counts only if it worked on the call, or if it is
/// the model that the client named, whatever replaced it. If several worked on it, each is charged for all of them.
pub(crate) fn has_used(outcome: &Outcome, scope: &Scope) -> bool {
    if !depends(scope) || outcome.attempts.is_empty() {
        return true;
    }
    let resolve = |model| outcome.principal.as_ref().map_or(model, |principal| principal.resolve(model));
    let asked_for = outcome.model.as_ref().map(resolve).is_some_and(|model| scope.names(model));
    // An attempt that could not be reached, or was refused, does not count for what another one did instead.
    outcome.attempts.iter().filter(|attempt| !attempt.came_to_nothing()).any(|attempt| {
        match (&attempt.target, scope.kind) {
            (None, _) => true,
            (Some(target), ScopeKind::Provider) => scope.names(&target.upstream),
            (Some(target), _) => asked_for || scope.names(&target.model),
        }
    })
}
