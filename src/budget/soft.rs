//! Calls whose budgets are all soft.

use super::ended::Ended;
use super::gate::BudgetGate;
use super::wanted::Wanted;
use crate::call::Call;
use crate::domain::ledger::Account;
use crate::domain::rejection::Rejection;
use crate::store::budget::{BudgetStore, Grant, Standing, Verdict};
use crate::store::{At, Chain, StoreError, in_time};

/// Appears in the log and in the call's record.
pub(super) const UNANSWERED: &str = "allowed: all its budgets are soft, and their store cannot answer";

impl<B: BudgetStore + ?Sized> BudgetGate<B> {
    /// Admits a call whose budgets are all soft: no budget refuses it.
    ///
    /// # Errors
    /// `Misconfigured` if one of the budgets would not be counted.
    pub(super) async fn count(&self, call: &Call, wanted: &Wanted<'_>) -> Result<(), Rejection> {
        let (ask, asked) = (self.reserve(call, wanted), self.asked(call, wanted));
        match in_time((*self.store).reserve(&ask, At::Store)).await {
            Ok(Verdict::Allow(grant)) => return self.granted(call, wanted, grant, asked.answered()),
            Ok(Verdict::Deny(_)) => {}
            Err(error) => self.uncounted(call, wanted, asked.answered(), &error),
        }
        Ok(())
    }

    /// Admits the call although the store cannot answer. The settlement still tells the store what was spent: it may
    /// have heard the question, and must not hear that nothing came of it.
    pub(crate) fn uncounted(&self, call: &Call, wanted: &Wanted<'_>, ended: Option<Ended<B>>, error: &StoreError) {
        tracing::warn!(call = %call.id(), error = %Chain(error), "{UNANSWERED}");
        let unknown = wanted.budgets.iter().map(|budget| Standing::new(budget.clone(), &Account::default(), None));
        let answer = self.reserve(call, wanted).answer(&unknown.collect::<Vec<_>>(), call.now());
        if let Verdict::Allow(grant) = answer {
            // The standings are unknown. The grant covers all pots and clamps nothing, so `granted` cannot fail.
            let _ = self.granted(call, wanted, Grant { standings: Vec::new(), ..grant }, ended);
        }
    }
}
