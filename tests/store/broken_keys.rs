//! The conformance suite finds key registries and admission stores that are broken in one way each.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tollgate::domain::budget::Budget;
use tollgate::domain::content::Keep;
use tollgate::domain::key::{KeyDigest, KeyRecord};
use tollgate::domain::limit::Limit;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::store::admission::{self, AdmissionStore, Admit};
use tollgate::store::budget::{self, BudgetStore, Reservation, Reserve};
use tollgate::store::key::{KeyRegistry, KeyStore, Put};
use tollgate::store::memory::{MemoryKeys, MemoryStore};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

use crate::broken::said;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Reports itself empty if its last key is revoked.
    CountsGoodKeys,
    /// Lists keys in the order in which they were written.
    ListsUnsorted,
    /// Begins the next page with the last key of the one before.
    RepeatsTheLast,
    /// Lists those who may call.
    HidesDeadKeys,
    /// Reports a name that is taken as an old version.
    CallsAllOutdated,
    /// Does not store how much content is kept of a key's calls.
    ForgetsContent,
    ForgetsSoftness,
    /// Grants everything that is left.
    TakesAll,
    /// Checks only the first two limits.
    LooksAtTwo,
    /// Blames the first limit for every denial.
    NamesTheFirst,
}

use Fault::*;

struct Keys {
    inner: MemoryKeys,
    fault: Fault,
    last: Mutex<Option<KeyRecord>>,
}

impl Keys {
    fn read(&self, record: Option<Arc<KeyRecord>>) -> Option<Arc<KeyRecord>> {
        let mut record = KeyRecord::clone(&*record?);
        let mut principal = Principal::clone(&record.principal);
        match self.fault {
            ForgetsContent if principal.content != Some(Keep::Nothing) => principal.content = None,
            ForgetsSoftness => principal.budgets.iter_mut().for_each(|budget| budget.soft = false),
            _ => {}
        }
        record.principal = Arc::new(principal);
        Some(Arc::new(record))
    }
}

#[async_trait]
impl KeyStore for Keys {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.read(self.inner.find(digest).await?))
    }
}

#[async_trait]
impl KeyRegistry for Keys {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.read(self.inner.named(name).await?))
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.read(self.inner.with_id(id).await?))
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        let is_off = self.last.lock().expect("whole").as_ref().is_some_and(|last| last.disabled);
        Ok(self.inner.is_empty().await? || (self.fault == CountsGoodKeys && is_off))
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let mut all = self.inner.list(None, usize::MAX).await?;
        all.retain(|record| match (self.fault, after) {
            (RepeatsTheLast, Some(after)) => &*record.principal.name >= after,
            (HidesDeadKeys, _) if record.disabled => false,
            (_, after) => after.is_none_or(|after| &*record.principal.name > after),
        });
        if self.fault == ListsUnsorted {
            all.sort_by_key(|record| record.id);
        }
        all.truncate(most);
        Ok(all)
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        *self.last.lock().expect("whole") = Some(record.clone());
        let put = self.inner.put(record).await?;
        Ok(if self.fault == CallsAllOutdated && put == Put::Taken { Put::Outdated } else { put })
    }
}

#[test]
fn a_broken_registry_fails_by_the_rule_that_it_breaks() {
    for (fault, rule) in [
        (CountsGoodKeys, "a_store_is_empty_until_a_key_is_written_and_never_after"),
        (ListsUnsorted, "keys_are_listed_by_name_page_by_page"),
        (RepeatsTheLast, "keys_are_listed_by_name_page_by_page"),
        (CallsAllOutdated, "names_and_digests_are_unique"),
        (HidesDeadKeys, "a_list_has_every_key_as_it_is_now"),
        (ForgetsContent, "everything_survives_the_round_trip"),
        (ForgetsSoftness, "everything_survives_the_round_trip"),
    ] {
        let said = said(move |runtime| {
            let make = async || Keys { inner: MemoryKeys::new(), fault, last: Mutex::default() };
            runtime.block_on(conformance::keys(make));
        });
        assert!(said.starts_with(rule), "{fault:?}: {said}");
    }
}

/// An admission store whose parts work, and that is broken in `admit`.
struct Whole(MemoryStore, Fault);

#[async_trait]
impl AdmissionStore for Whole {
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<admission::Verdict, StoreError> {
        let mut ask = *ask;
        match (self.1, &mut ask) {
            (TakesAll, Admit { budgets: Some(budgets), .. }) => budgets.wish.share = 1,
            // The other rules use fewer limits than this.
            (LooksAtTwo, Admit { limits: Some(limits), budgets: None, .. }) => {
                limits.limits = &limits.limits[..limits.limits.len().min(2)];
            }
            _ => {}
        }
        let mut verdict = self.0.admit(&ask, at).await?;
        if let (NamesTheFirst, admission::Verdict::Deny(admission::Denial::Limit(denial))) = (self.1, &mut verdict) {
            denial.index = 0;
        }
        Ok(verdict)
    }
}

#[async_trait]
impl BudgetStore for Whole {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
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
        BudgetStore::settle(&self.0, reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        BudgetStore::heartbeat(&self.0, session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        BudgetStore::standing(&self.0, budgets, at).await
    }
}

#[async_trait]
impl RateLimitStore for Whole {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        self.0.acquire(ask, at).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        RateLimitStore::settle(&self.0, permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        RateLimitStore::heartbeat(&self.0, session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        RateLimitStore::standing(&self.0, limits, at).await
    }
}

#[test]
fn a_store_that_admits_otherwise_than_its_parts_fails_by_their_rules() {
    for (fault, rule) in [
        (NamesTheFirst, "a_refusal_by_a_limit_holds_no_money"),
        (TakesAll, "a_grant_takes_at_most_its_share"),
        (LooksAtTwo, "a_refused_ask_counts_nowhere"),
    ] {
        let said = said(move |runtime| {
            let make = async || {
                let store = MemoryStore::new();
                let keys = store.keys();
                (Whole(store, fault), keys)
            };
            runtime.block_on(conformance::admission(make));
        });
        assert!(said.starts_with(rule), "{fault:?}: {said}");
    }
}
