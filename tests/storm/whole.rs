//! Limits and budgets of one store that is asked in one step, with the same checks and the same failures.

use async_trait::async_trait;
use tollgate::domain::budget::Budget;
use tollgate::domain::limit::Limit;
use tollgate::domain::money::Money;
use tollgate::store::admission::{AdmissionStore, Admit, Admitted, Verdict};
use tollgate::store::budget::{self, BudgetStore, Crossing, Reservation, Reserve};
use tollgate::store::memory::{MemoryKeys, MemoryLimits, MemoryStore};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError};

use crate::watched::{Watched, now};
use crate::weather::{Fault, Weathered};

#[derive(Clone)]
pub(crate) struct Whole {
    keys: MemoryKeys,
    limits: MemoryLimits,
    weathered: Weathered<MemoryLimits>,
    budgets: Watched,
}

impl Whole {
    pub(crate) fn new(keys: &MemoryKeys, limits: &MemoryLimits, budgets: &Watched) -> Self {
        let weathered = Weathered { store: limits.clone(), weather: budgets.weather.clone() };
        Whole { keys: keys.clone(), limits: limits.clone(), weathered, budgets: budgets.clone() }
    }
}

#[async_trait]
impl AdmissionStore for Whole {
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<Verdict, StoreError> {
        let weather = &self.budgets.weather;
        weather.pause().await;
        let fault = weather.fault();
        if fault == Some(Fault::Lost) {
            return Err(Fault::Lost.error());
        }
        let verdict = self.budgets.step(|budgets, ledger| {
            let store = MemoryStore::of(self.keys.clone(), self.limits.clone(), budgets.clone());
            let verdict = now(store.admit(ask, at))?;
            if let (Some(asked), Verdict::Allow(Admitted { grant: Some(grant), .. })) = (&ask.budgets, &verdict) {
                ledger.reserved(asked, &budget::Verdict::Allow(grant.clone()));
            }
            Ok::<_, StoreError>(verdict)
        })?;
        weather.pause().await;
        if fault == Some(Fault::Unheard) {
            return Err(Fault::Unheard.error());
        }
        if let Verdict::Allow(Admitted { grant: Some(grant), .. }) = &verdict {
            self.budgets.ledger().tell(&grant.reservation);
        }
        Ok(verdict)
    }
}

#[async_trait]
impl BudgetStore for Whole {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.budgets.reserve(ask, at).await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.budgets.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.budgets.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.budgets.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        self.budgets.standing(budgets, at).await
    }
}

#[async_trait]
impl RateLimitStore for Whole {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        self.weathered.acquire(ask, at).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        self.weathered.settle(permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.weathered.heartbeat(session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        self.weathered.standing(limits, at).await
    }
}
