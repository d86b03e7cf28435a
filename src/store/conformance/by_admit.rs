//! Runs the rules of both parts through `admit`: a store that is asked for one thing at a time is a store of that
//! thing.

use async_trait::async_trait;

use super::{Rule, budgets, limits};
use crate::domain::budget::Budget;
use crate::domain::limit::Limit;
use crate::domain::money::Money;
use crate::store::admission::{AdmissionStore, Admit, Admitted, Denial, Verdict};
use crate::store::budget::{self, BudgetStore, Crossing, Memory, Reservation, Reserve};
use crate::store::key::KeyRegistry;
use crate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use crate::store::{At, Session, StoreError};

/// The seeds for the histories of each part, with as many steps as elsewhere; only the way of asking differs.
const SEEDS: std::ops::Range<u64> = 200..208;

pub(super) async fn to_admit_by_budgets_alone_is_to_reserve<S: AdmissionStore, K: KeyRegistry>(
    make: &impl AsyncFn() -> (S, K),
    _: Rule,
) {
    let make = async || ByAdmit::of(make().await);
    budgets::one_by_one(&make).await;
    budgets::history::run(&make, SEEDS, super::STEPS).await;
}

pub(super) async fn to_admit_by_limits_alone_is_to_acquire<S: AdmissionStore, K: KeyRegistry>(
    make: &impl AsyncFn() -> (S, K),
    _: Rule,
) {
    let make = async || ByAdmit::of(make().await);
    limits::one_by_one(&make).await;
    limits::history::run(&make, SEEDS, super::STEPS).await;
}

pub(super) async fn shared<S: AdmissionStore>(make: &impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    let make = async || {
        let (here, there) = make().await;
        (ByAdmit::of((here, ())), ByAdmit::of((there, ())))
    };
    let mut rules = budgets::shared(&make).await;
    rules.extend(limits::shared(&make).await);
    rules
}

/// Asks through `admit`, and settles as usual.
struct ByAdmit<S, K> {
    store: S,
    /// What is made together may have to live together.
    _keys: K,
}

impl<S, K> ByAdmit<S, K> {
    fn of((store, _keys): (S, K)) -> Self {
        ByAdmit { store, _keys }
    }
}

fn other(what: &impl std::fmt::Debug) -> StoreError {
    StoreError::broken(format!("what was asked alone is answered with {what:?}"))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AdmissionStore, K: Send + Sync + 'static> BudgetStore for ByAdmit<S, K> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        match self.store.admit(&Admit { key: None, limits: None, budgets: Some(*ask) }, at).await? {
            Verdict::Allow(Admitted { allowed: None, grant: Some(grant) }) => Ok(budget::Verdict::Allow(grant)),
            Verdict::Deny(Denial::Budget { denial, limits }) if limits.is_empty() => Ok(budget::Verdict::Deny(denial)),
            verdict => Err(other(&verdict)),
        }
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.store.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        BudgetStore::settle(&self.store, reservation, actual, at).await
    }

    fn memory(&self) -> Memory {
        self.store.memory()
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        BudgetStore::heartbeat(&self.store, session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        BudgetStore::standing(&self.store, budgets, at).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AdmissionStore, K: Send + Sync + 'static> RateLimitStore for ByAdmit<S, K> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        match self.store.admit(&Admit { key: None, limits: Some(*ask), budgets: None }, at).await? {
            Verdict::Allow(Admitted { allowed: Some(allowed), grant: None }) => Ok(rate_limit::Verdict::Allow(allowed)),
            Verdict::Deny(Denial::Limit(denial)) => Ok(rate_limit::Verdict::Deny(denial)),
            verdict => Err(other(&verdict)),
        }
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        RateLimitStore::settle(&self.store, permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        RateLimitStore::heartbeat(&self.store, session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        RateLimitStore::standing(&self.store, limits, at).await
    }
}
