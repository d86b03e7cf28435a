//! Which budgets and limits a call counts against: not all are about every call.

use std::borrow::Cow;

use super::Call;
use crate::domain::budget::Budget;
use crate::domain::dialect::Operation;
use crate::domain::limit::Limit;
use crate::domain::outcome::Outcome;
use crate::domain::principal::Principal;
use crate::domain::rejection::Rejection;
use crate::domain::scope::{Scope, ScopeKind};

/// What is kept under a scope.
pub(crate) trait Scoped: Clone {
    fn scope(&self) -> &Scope;
    /// Somebody has looked at what the caller has of these.
    fn mark(looked_at: &mut LookedAt);
}

/// What of a caller's own some layer has looked at.
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
    /// Of a caller's own, and of those for everyone, what this call counts against.
    ///
    /// # Errors
    /// `Misconfigured` where it depends on a provider, and none was chosen yet.
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

    /// Whether all that the caller brings along to be governed by was looked at.
    ///
    /// # Errors
    /// `Misconfigured`: its calls would be free, or without end.
    pub(crate) fn check_governed(&self) -> Result<(), Rejection> {
        let Some(principal) = self.principal() else { return Ok(()) };
        let LookedAt { budgets, limits } = self.state().looked_at;
        if !limits && !principal.limits.is_empty() {
            return Err(Rejection::misconfigured(
                "the caller has limits, and nobody counts against them: add a `RateLimitLayer`, or an `AdmissionLayer`",
            ));
        }
        if !budgets && !principal.budgets.is_empty() && self.endpoint().operation == Operation::Generate {
            return Err(Rejection::misconfigured(
                "the caller has budgets, and nobody pays from them: add a `BudgetLayer`, or an `AdmissionLayer`",
            ));
        }
        Ok(())
    }

    /// Whether any of its targets, if it depends on them, is meant.
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

/// Whether a call that has ended so has to do with a scope that it was counted against: with a model or a provider only
/// if that worked on it, or the model is the one that the client named, whatever stood in for it. Where several did, each is
/// charged for all of them.
pub(crate) fn has_used(outcome: &Outcome, scope: &Scope) -> bool {
    if !depends(scope) || outcome.attempts.is_empty() {
        return true;
    }
    let resolve = |model| outcome.principal.as_ref().map_or(model, |principal| principal.resolve(model));
    let asked_for = outcome.model.as_ref().map(resolve).is_some_and(|model| scope.names(model));
    // One that could not be reached, or refused, has nothing to do with what another was asked for in its place.
    outcome.attempts.iter().filter(|attempt| !attempt.came_to_nothing()).any(|attempt| {
        match (&attempt.target, scope.kind) {
            (None, _) => true,
            (Some(target), ScopeKind::Provider) => scope.names(&target.upstream),
            (Some(target), _) => asked_for || scope.names(&target.model),
        }
    })
}
