//! Calls whose budgets are all soft.

use super::ended::Ended;
use super::gate::BudgetGate;
use super::wanted::Wanted;
use crate::call::Call;
use crate::domain::ledger::Account;
use crate::domain::rejection::Rejection;
use crate::store::budget::{BudgetStore, Grant, Standing, Verdict};
use crate::store::{At, Chain, StoreError, in_time};

/// Said in the log, and in the call's record.
pub(super) const UNANSWERED: &str = "let through: all its budgets are soft, and their store cannot answer";

impl<B: BudgetStore + ?Sized> BudgetGate<B> {
    /// Where every budget is soft nothing refuses.
    ///
    /// # Errors
    /// `Misconfigured` where one of them would not be counted.
    pub(super) async fn count(&self, call: &Call, wanted: &Wanted<'_>) -> Result<(), Rejection> {
        let (ask, asked) = (self.reserve(call, wanted), self.asked(call, wanted));
        match in_time((*self.store).reserve(&ask, At::Store)).await {
            Ok(Verdict::Allow(grant)) => return self.granted(call, wanted, grant, asked.answered()),
            Ok(Verdict::Deny(_)) => {}
            Err(error) => self.uncounted(call, wanted, asked.answered(), &error),
        }
        Ok(())
    }

    /// Nor does a store that cannot answer, which is told of what was spent all the same: it may have heard the question, and
    /// must not be told that nothing came of it.
    pub(crate) fn uncounted(&self, call: &Call, wanted: &Wanted<'_>, ended: Option<Ended<B>>, error: &StoreError) {
        tracing::warn!(call = %call.id(), error = %Chain(error), "{UNANSWERED}");
        let unknown = wanted.budgets.iter().map(|budget| Standing::new(budget.clone(), &Account::default(), None));
        let answer = self.reserve(call, wanted).answer(&unknown.collect::<Vec<_>>(), call.now());
        if let Verdict::Allow(grant) = answer {
            // How they stand nobody knows. It is of all of them, and its output is not cut down, so that nothing can be wrong.
            let _ = self.granted(call, wanted, Grant { standings: Vec::new(), ..grant }, ended);
        }
    }
}
