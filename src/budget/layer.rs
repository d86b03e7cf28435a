use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

use super::BudgetGate;
use crate::call::CallService;
use crate::domain::budget::Budget;
use crate::gate::{GateLayer, GateService};
use crate::store::budget::{BudgetStore, Crossing, Standing};

/// Holds money before a call and settles it afterwards. See the [module](crate::budget).
pub struct BudgetLayer<B> {
    gate: BudgetGate<B>,
}

/// What happens to a call that may cost more than is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverBudget {
    /// Limit its output to what its budgets can hold for it, as long as the answer is still useful.
    Clamp {
        /// The fewest output tokens that are useful. A call that asked for fewer gets what it asked for.
        floor: u64,
        /// A call gets at most one part in `share` of what is left, or what it costs with `floor` output tokens if that
        /// is more, so that the first of many agents does not starve the others.
        share: u32,
    },
    /// Refuse the call.
    Reject,
}

impl Default for OverBudget {
    /// Clamps to at most a quarter of what is left, but not below 1,024 output tokens unless the call asked for fewer.
    fn default() -> Self {
        OverBudget::Clamp { floor: 1_024, share: 4 }
    }
}

/// How the input tokens of a call are bounded before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Estimator {
    /// Uses what the provider billed for the beginning of a continued conversation, and bounds only the new part by its
    /// bytes. All other requests are bounded as in [`Proven`](Estimator::Proven).
    ///
    /// A gateway recognizes only conversations that it has seen since it started, with the same caller, upstream, model
    /// and betas.
    #[default]
    Observed,
    /// Bounds the whole input by its bytes: [`proven_input`](crate::domain::estimate::proven_input).
    Proven,
    /// Uses a token count plus one twentieth: [`counted_input`](crate::domain::estimate::counted_input).
    ///
    /// It is as good as the [counter](crate::ingest::IngestLayer::count_by), and no strict bound. Requests without a
    /// count are bounded as in [`Proven`](Estimator::Proven).
    Counted,
    /// Uses a guess plus one sixth: [`likely_input`](crate::domain::estimate::likely_input).
    ///
    /// It is cheap and no strict bound: a call may cost more than it was granted. A stream that shows this while it
    /// runs is granted more, or ends where its budgets do. Costs that are known only at the end can overspend a limit.
    Likely,
}

impl<B: BudgetStore> BudgetLayer<B> {
    /// Creates a layer that keeps budgets in `store`.
    pub fn new(store: B) -> Self {
        BudgetLayer { gate: BudgetGate::new(store) }
    }

    /// Sets what happens to a call that may cost more than is left.
    ///
    /// By default a [`GatewayLayer`](crate::GatewayLayer) clamps, and a hand-built stack rejects. A clamp is an edit,
    /// so a hand-built stack that clamps must apply it when it sends the request
    /// ([`Call::edited`](crate::Call::edited), as [`Dispatch`](crate::gateway::Dispatch) does).
    #[must_use]
    pub fn over_budget(mut self, over: OverBudget) -> Self {
        self.gate = self.gate.over_budget(over);
        self
    }

    /// Adds a budget that every caller in its scope pays from, besides the caller's own budgets: the members of a team,
    /// callers with a tag, everyone, or whoever asks for a model or a provider.
    #[must_use]
    pub fn for_everyone(mut self, budget: Budget) -> Self {
        self.gate = self.gate.for_everyone(budget);
        self
    }

    /// Refuses callers that have no budget, or only soft ones, so that a key minted without a budget by mistake is not
    /// free. By default calls without budgets pass.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.gate = self.gate.required();
        self
    }

    /// Shows every caller the amounts of shared pots: those of a model, of a provider, and of everyone.
    ///
    /// By default `GET /v1/key` shows only whether such a pot has anything left and when it resets, and
    /// `x-tollgate-budget-remaining-usd` leaves these pots out. A refusal always states the amounts of the pot that
    /// refused.
    #[must_use]
    pub fn show_shared(mut self) -> Self {
        self.gate = self.gate.show_shared();
        self
    }

    /// Sets how input tokens are bounded.
    #[must_use]
    pub fn estimator(mut self, estimator: Estimator) -> Self {
        self.gate = self.gate.estimator(estimator);
        self
    }

    /// Sets how long a call may wait for money that other calls hold. The default is zero, the maximum one hour.
    ///
    /// Calls that wait for the same pot are served in the order of their arrival, and new calls queue behind them. If
    /// 256 calls wait for a pot already, a new call asks the store at once and does not wait. Waiting calls count as
    /// calls in flight.
    #[must_use]
    pub fn wait(mut self, most: Duration) -> Self {
        self.gate = self.gate.wait(most);
        self
    }

    /// Sets whom to ask for more; refusals include it: "it is spent: …; ask #llm-platform for more".
    #[must_use]
    pub fn contact(mut self, contact: impl Into<Arc<str>>) -> Self {
        self.gate = self.gate.contact(contact.into());
        self
    }

    /// Adds a callback for each [threshold](crate::domain::ledger::THRESHOLDS) that a pot reaches.
    ///
    /// It runs at most once for each threshold in each window of a pot, whichever gateway reached it, and the log
    /// reports the threshold too. It is called while a call is settled, so it must not block.
    #[must_use]
    pub fn on_threshold(mut self, tell: impl Fn(&Crossing) + Send + Sync + 'static) -> Self {
        self.gate = self.gate.on_threshold(Arc::new(tell));
        self
    }

    /// Adds a callback for a budget that refuses a call because too little of it is left. It is not called if the call
    /// is larger than the whole limit, or if the call is refused only because other calls hold the money.
    ///
    /// It runs for the first such call of this gateway, once more when nearly all of the budget is spent, and again in
    /// the next window (for a rolling window, after its length at most) or under another limit. The log reports it too.
    /// It is called while a call is refused, so it must not block.
    #[must_use]
    pub fn on_exhausted(mut self, tell: impl Fn(&Standing) + Send + Sync + 'static) -> Self {
        self.gate = self.gate.on_exhausted(Arc::new(tell));
        self
    }

    pub(crate) fn into_gate(self) -> BudgetGate<B> {
        self.gate
    }
}

impl<B: BudgetStore, S> Layer<S> for BudgetLayer<B> {
    type Service = CallService<GateService<BudgetGate<B>, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        GateLayer::ours(self.gate.clone().unless_chosen(OverBudget::Reject)).layer(inner)
    }
}

impl<B> Clone for BudgetLayer<B> {
    fn clone(&self) -> Self {
        BudgetLayer { gate: self.gate.clone() }
    }
}

impl<B> fmt::Debug for BudgetLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer").field("gate", &self.gate).finish()
    }
}
