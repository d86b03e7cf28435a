use std::fmt;

use tower::Layer;

use super::AdmissionGate;
use crate::budget::{BudgetLayer, OverBudget};
use crate::call::CallService;
use crate::gate::{GateLayer, GateService};
use crate::rate_limit::RateLimitLayer;
use crate::store::admission::AdmissionStore;

/// Checks limits and budgets with one request to one store. See the [module](crate::admission).
pub struct AdmissionLayer<S> {
    limits: RateLimitLayer<S>,
    budgets: BudgetLayer<S>,
}

impl<S: AdmissionStore + Clone> AdmissionLayer<S> {
    /// Creates a layer over `store`. A clone of `store` must be the same store.
    pub fn new(store: S) -> Self {
        AdmissionLayer { limits: RateLimitLayer::new(store.clone()), budgets: BudgetLayer::new(store) }
    }

    /// Configures the rate limits, with the methods of [`RateLimitLayer`].
    #[must_use]
    pub fn limits(self, change: impl FnOnce(RateLimitLayer<S>) -> RateLimitLayer<S>) -> Self {
        AdmissionLayer { limits: change(self.limits), ..self }
    }

    /// Configures the budgets, with the methods of [`BudgetLayer`].
    #[must_use]
    pub fn budgets(self, change: impl FnOnce(BudgetLayer<S>) -> BudgetLayer<S>) -> Self {
        AdmissionLayer { budgets: change(self.budgets), ..self }
    }

    pub(crate) fn into_gate(self) -> AdmissionGate {
        AdmissionGate::new(self.limits.into_gate(), self.budgets.into_gate())
    }
}

impl<S: AdmissionStore + Clone, I> Layer<I> for AdmissionLayer<S> {
    type Service = CallService<GateService<AdmissionGate, I>>;

    fn layer(&self, inner: I) -> Self::Service {
        GateLayer::ours(self.clone().into_gate().unless_chosen(OverBudget::Reject)).layer(inner)
    }
}

impl<S> Clone for AdmissionLayer<S> {
    fn clone(&self) -> Self {
        AdmissionLayer { limits: self.limits.clone(), budgets: self.budgets.clone() }
    }
}

impl<S> fmt::Debug for AdmissionLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionLayer").field("limits", &self.limits).field("budgets", &self.budgets).finish()
    }
}
