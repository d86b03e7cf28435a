//! Stores that a request can reach after its settlement. A store that remembers settlements passes the suite. The suite
//! finds a store that does not.

use std::collections::HashSet;
use std::sync::Mutex;

use async_trait::async_trait;
use tollgate::domain::budget::Budget;
use tollgate::domain::limit::Limit;
use tollgate::domain::money::Money;
use tollgate::store::budget::{self, BudgetStore, Reservation, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

use crate::broken::said;

/// A store that refuses every request for a settled id, as a store behind a network has to.
struct Remembers<S>(S, Mutex<HashSet<Uuid>>);

impl<S> Remembers<S> {
    fn new(inner: S) -> Self {
        Remembers(inner, Mutex::default())
    }

    fn refuses_settled(&self, id: Uuid) -> Result<(), StoreError> {
        match self.1.lock().expect("whole").contains(&id) {
            true => Err(StoreError::broken("it was settled")),
            false => Ok(()),
        }
    }

    fn remember(&self, id: Uuid) {
        self.1.lock().expect("whole").insert(id);
    }
}

#[async_trait]
impl BudgetStore for Remembers<MemoryBudgets> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.refuses_settled(ask.id)?;
        self.0.reserve(ask, at).await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.0.extend(ask, at).await
    }

    async fn settle(
        &self,
        reservation: &Reservation,
        actual: Money,
        at: At,
    ) -> Result<Vec<budget::Crossing>, StoreError> {
        self.remember(reservation.id);
        self.0.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

#[async_trait]
impl RateLimitStore for Remembers<MemoryLimits> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        self.refuses_settled(ask.id)?;
        self.0.acquire(ask, at).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        self.remember(permit.id);
        self.0.settle(permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        self.0.standing(limits, at).await
    }
}

#[tokio::test]
async fn a_store_that_remembers_what_was_settled_may_be_asked_late() {
    let rules = conformance::budgets_asked_late(async || Remembers::new(MemoryBudgets::new())).await;
    assert_eq!(rules.len(), 2, "{rules:?}");
    let rules = conformance::limits_asked_late(async || Remembers::new(MemoryLimits::new())).await;
    assert_eq!(rules.len(), 2, "{rules:?}");
}

#[test]
fn a_store_that_does_not_is_found_out() {
    let of_budgets = said(|runtime| {
        runtime.block_on(conformance::budgets_asked_late(async || MemoryBudgets::new()));
    });
    assert!(of_budgets.starts_with("what_was_settled_is_not_granted_again"), "{of_budgets}");
    let of_limits = said(|runtime| {
        runtime.block_on(conformance::limits_asked_late(async || MemoryLimits::new()));
    });
    assert!(of_limits.starts_with("what_was_settled_is_not_permitted_again"), "{of_limits}");
}
