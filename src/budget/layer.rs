use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

use super::BudgetGate;
use crate::call::CallService;
use crate::domain::budget::Budget;
use crate::gate::{GateLayer, GateService};
use crate::store::budget::{BudgetStore, Crossing, Standing};

/// Holds and settles the money of calls. See the [module](crate::budget).
pub struct BudgetLayer<B> {
    gate: BudgetGate<B>,
}

/// What becomes of a call that may cost more than is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverBudget {
    /// Its output is cut down to what is left, as long as that is a useful answer.
    Clamp {
        /// The fewest output tokens that are worth it; a call that asked for fewer gets those.
        floor: u64,
        /// A call gets at most one part in `share` of what is left, so that the first of many agents does not starve
        /// the rest.
        share: u32,
    },
    /// It is refused.
    Reject,
}

impl Default for OverBudget {
    /// At least 1,024 tokens, at most a quarter of what is left.
    fn default() -> Self {
        OverBudget::Clamp { floor: 1_024, share: 4 }
    }
}

/// How the input tokens of a call are bounded before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Estimator {
    /// Of a conversation that goes on, what the provider billed for its beginning, and what is new as the most that it can
    /// be; all others are proven. Known again is what this gateway has seen since it started, of the same caller, upstream,
    /// model and betas.
    #[default]
    Observed,
    /// All as the most that it can be: [`proven_input`](crate::domain::estimate::proven_input).
    Proven,
    /// By a count of its tokens, and a twentieth more: [`counted_input`](crate::domain::estimate::counted_input). As good as
    /// [whoever counts](crate::ingest::IngestLayer::count_by), and no bound; proven where nobody has counted.
    Counted,
    /// A guess, and a sixth more: [`likely_input`](crate::domain::estimate::likely_input). Cheap, and no bound: a call may
    /// cost more than it was granted. A stream that says so while it goes on is granted more, or ends where its budgets do;
    /// by what is known only at the end, a limit is overspent.
    Likely,
}

impl<B: BudgetStore> BudgetLayer<B> {
    /// Keeps budgets in `store`.
    pub fn new(store: B) -> Self {
        BudgetLayer { gate: BudgetGate::new(store) }
    }

    /// What becomes of a call that may cost more than is left. Unless chosen, a [`GatewayLayer`](crate::GatewayLayer)
    /// clamps, and a stack by hand rejects: a clamp is an edit, and whoever sends the request by hand must apply it
    /// ([`Call::edited`](crate::Call::edited), as [`Dispatch`](crate::gateway::Dispatch) does).
    #[must_use]
    pub fn over_budget(mut self, over: OverBudget) -> Self {
        self.gate = self.gate.over_budget(over);
        self
    }

    /// Every caller in its scope pays from this pot too: the members of a team, whoever is sorted under a tag, everyone, or
    /// whoever asks for a model or a provider.
    #[must_use]
    pub fn for_everyone(mut self, budget: Budget) -> Self {
        self.gate = self.gate.for_everyone(budget);
        self
    }

    /// Refuses callers whom no budget pays for, or only soft ones: a key that was minted without one is a mistake, and not
    /// free. Unless said, they are not asked about.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.gate = self.gate.required();
        self
    }

    /// Tells every caller in dollars how the pots stand that are everyone's: those of a model, of a provider, and of all.
    /// Unless said, `GET /v1/key` says of these only whether anything is left and when they begin anew, and
    /// `x-tollgate-budget-remaining-usd` leaves them out. One that refuses says how it stands in any case.
    #[must_use]
    pub fn show_shared(mut self) -> Self {
        self.gate = self.gate.show_shared();
        self
    }

    /// How input is bounded.
    #[must_use]
    pub fn estimator(mut self, estimator: Estimator) -> Self {
        self.gate = self.gate.estimator(estimator);
        self
    }

    /// How long a call may wait for money that is held, and not spent: zero unless set, an hour at most. Those that wait
    /// for one pot are served in the order in which they came, and who comes later comes behind them, unless 256 wait;
    /// meanwhile they count as calls in flight.
    #[must_use]
    pub fn wait(mut self, most: Duration) -> Self {
        self.gate = self.gate.wait(most);
        self
    }

    /// Whom to ask for more, for the sentence of a refusal: "it is spent: …; ask #llm-platform for more".
    #[must_use]
    pub fn contact(mut self, contact: impl Into<Arc<str>>) -> Self {
        self.gate = self.gate.contact(contact.into());
        self
    }

    /// Hears of every [threshold](crate::domain::ledger::THRESHOLDS) of every pot that is reached, once at most in its window,
    /// whichever gateway reached it; the log says it too. Called where a call is settled: it must not block.
    #[must_use]
    pub fn on_threshold(mut self, tell: impl Fn(&Crossing) + Send + Sync + 'static) -> Self {
        self.gate = self.gate.on_threshold(Arc::new(tell));
        self
    }

    /// Hears of a budget that refuses, because what is left of it, if anything, is too little for a call that all of it would pay
    /// for: with the first such call of this gateway, once more when nearly all is spent, and again in the next window (of a
    /// rolling one, after its length at most) or under another limit. The log says it too. Called where a call is refused: it
    /// must not block.
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
