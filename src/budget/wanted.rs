use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use super::bound::Bound;
use super::observed::Observations;
use super::{Estimator, OverBudget};
use crate::call::{Call, Holds};
use crate::domain::budget::{Budget, Pot};
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::rejection::Rejection;
use crate::store::budget::Reservation;

/// How input is bounded, and the observations to use.
#[derive(Clone, Copy)]
pub(super) struct Estimate<'o> {
    pub(super) by: Estimator,
    pub(super) observations: &'o Observations,
    /// The betas of the request.
    pub(super) betas: u64,
}

/// What a call will ask of its budgets.
pub(crate) struct Wanted<'c> {
    /// Every budget that the call is paid from.
    pub(crate) budgets: Cow<'c, [Budget]>,
    pub(super) wish: Wish,
    pub(super) betas: u64,
    /// `None` if every budget is soft: then nothing is clamped, and an unbounded cost is no reason to refuse.
    bound: Option<Bound<'c>>,
}

impl<'c> Wanted<'c> {
    pub(super) fn of(
        headers: &HeaderMap,
        call: &'c Call,
        budgets: Cow<'c, [Budget]>,
        estimate: Estimate<'_>,
        over: OverBudget,
    ) -> Result<Self, Rejection> {
        let bound = call.require_head().and_then(|head| Bound::of(call, head, headers, estimate));
        if budgets.iter().all(|budget| budget.soft) {
            let most = bound.and_then(|bound| bound.wish(OverBudget::Reject));
            let want = most.map_or(Money::ZERO, |wish| wish.want);
            let wish = Wish { min: Money::ZERO, want, share: 1 };
            return Ok(Wanted { budgets, wish, betas: estimate.betas, bound: None });
        }
        let bound = bound?;
        let wish = bound.wish(over)?;
        Ok(Wanted { budgets, wish, betas: estimate.betas, bound: Some(bound) })
    }

    /// Whether no budget refuses anything.
    pub(crate) fn is_soft(&self) -> bool {
        self.bound.is_none()
    }

    /// The limits that refuse nothing. Thresholds are those of a pot's lowest limit, which may be soft below a hard one.
    pub(super) fn soft_limits(&self) -> Vec<(Pot, Money)> {
        let is_hard = |pot: &Pot, limit: Money| {
            self.budgets.iter().any(|budget| !budget.soft && budget.pot == *pot && budget.limit <= limit)
        };
        let soft = self.budgets.iter().filter(|budget| budget.soft && !is_hard(&budget.pot, budget.limit));
        soft.map(|budget| (budget.pot.clone(), budget.limit)).collect()
    }

    /// How the grant relates to the possible cost. Only soft budgets admit calls whose cost is unbounded.
    pub(super) fn holds(&self, estimator: Estimator) -> Holds {
        match estimator {
            _ if self.bound.is_none() && self.wish.want == Money::ZERO => Holds::Nothing,
            Estimator::Observed | Estimator::Proven => Holds::Bound,
            Estimator::Counted | Estimator::Likely => Holds::Guess,
        }
    }

    /// The guessed input tokens by model, if the grant is a guess and a budget may refuse.
    pub(super) fn guess(&self, estimator: Estimator) -> Option<Vec<(Arc<str>, u64)>> {
        let bound = self.bound.as_ref()?;
        matches!(self.holds(estimator), Holds::Guess).then(|| bound.inputs())
    }

    /// The output tokens that were counted on, if a budget may refuse.
    pub(super) fn counted(&self) -> Option<u64> {
        self.bound.as_ref()?.counted()
    }

    /// The most output tokens that the hold pays for, or `None` if it pays for everything that was asked.
    ///
    /// # Errors
    /// `Misconfigured` if a pot does not take part in the hold: for an id that is live, a store returns its first grant
    /// again.
    pub(super) fn cap(&self, held: &Reservation) -> Result<Option<u64>, Rejection> {
        if let Some((_, budget)) =
            self.budgets.iter().enumerate().find(|(index, budget)| !held.names(*index, &budget.pot))
        {
            return Err(Rejection::misconfigured(format!(
                "the {} budget of {} is not charged: another `BudgetLayer` on the same store has already reserved money for \
                 this call; put all budgets into one `BudgetLayer`",
                budget.pot.window,
                budget.pot.scope.by_name(None)
            )));
        }
        self.bound.as_ref().map_or(Ok(None), |bound| bound.cap(held.granted, self.wish))
    }
}
