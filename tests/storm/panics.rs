//! Custom stores that panic: the call fails, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::key::{KeyDigest, KeyRecord};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::outcome::End;
use tollgate::domain::principal::Principal;
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::key::KeyStore;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError};

use crate::calls::{Ask, Leaves};
use crate::site::{Site, mint};

/// Which requests panic.
#[derive(Clone, Default)]
struct Panics {
    keys: Arc<AtomicBool>,
    asks: Arc<AtomicBool>,
    settles: Arc<AtomicBool>,
}

struct Panicking<S>(S, Panics);

impl<S> Panicking<S> {
    fn asked(&self) {
        assert!(!self.1.asks.load(Ordering::SeqCst), "a store that panics when it is asked");
    }

    fn told(&self) {
        assert!(!self.1.settles.load(Ordering::SeqCst), "a store that panics when it is told");
    }
}

#[async_trait]
impl KeyStore for Panicking<MemoryKeys> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        assert!(!self.1.keys.load(Ordering::SeqCst), "a store of keys that panics");
        self.0.find(digest).await
    }
}

#[async_trait]
impl BudgetStore for Panicking<MemoryBudgets> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let verdict = self.0.reserve(ask, at).await;
        // The worst case: the panic comes after the request was done.
        self.asked();
        verdict
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let verdict = self.0.extend(ask, at).await;
        self.asked();
        verdict
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.told();
        self.0.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

#[async_trait]
impl RateLimitStore for Panicking<MemoryLimits> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<rate_limit::Verdict, StoreError> {
        self.0.acquire(ask, at).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        self.told();
        self.0.settle(permit, used, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        self.0.standing(limits, at).await
    }
}

struct House {
    site: Site,
    budgets: MemoryBudgets,
    record: KeyRecord,
    ask: Ask,
}

fn house(panics: &Panics) -> House {
    let (keys, budgets) = (MemoryKeys::new(), MemoryBudgets::new());
    let amount = "9".parse().expect("an amount");
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, amount).limit(Measure::Parallel, 4));
    let layer = BudgetLayer::new(Panicking(budgets.clone(), panics.clone()));
    let site = Site::new(Panicking(keys, panics.clone()), Panicking(MemoryLimits::new(), panics.clone()), layer);
    let ask = Ask {
        model: "claude-storm".into(),
        key,
        is_stream: true,
        max_tokens: 50,
        script: "sim:deltas=3".into(),
        begins: 0,
        leaves: Leaves::Never,
    };
    House { site, budgets, record, ask }
}

impl House {
    /// Makes a call. Returns whether it ended without a panic.
    async fn calls(&self) -> bool {
        let mut task = JoinSet::new();
        task.spawn(self.ask.clone().run(self.site.gateway.clone()));
        task.join_next().await.expect("one").is_ok()
    }

    async fn held(&self) -> Money {
        let standings = self.budgets.standing(&self.record.principal.budgets, At::Store).await;
        standings.expect("memory")[0].held
    }
}

#[tokio::test]
async fn a_store_that_panics_when_it_is_asked_fails_its_call_which_is_closed_recorded_and_holds_nothing() {
    let panics = Panics::default();
    let house = house(&panics);
    for flag in [&panics.keys, &panics.asks] {
        flag.store(true, Ordering::SeqCst);
        assert!(!house.calls().await, "a panic goes where panics go");
        flag.store(false, Ordering::SeqCst);
    }
    assert!(house.calls().await, "the next call is served");
    house.site.settled().await;
    let ends: Vec<_> = house.site.closed.lock().iter().map(|outcome| outcome.end).collect();
    assert_eq!(ends, [End::Failed, End::Failed, End::Complete]);
    assert_eq!(house.held().await, Money::ZERO);
    assert_eq!(house.site.records.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_when_it_is_told_takes_no_process_down_and_is_told_again() {
    let panics = Panics::default();
    let house = house(&panics);
    panics.settles.store(true, Ordering::SeqCst);
    // The panic comes at the close of a call that was served.
    assert!(house.calls().await);
    // The panic comes while another one unwinds, where it would abort the process.
    panics.asks.store(true, Ordering::SeqCst);
    assert!(!house.calls().await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((house.site.closed.lock().len(), house.site.records.lock().len()), (2, 2));
    assert!(house.held().await > Money::ZERO, "what is not settled stays held");
    panics.settles.store(false, Ordering::SeqCst);
    house.site.settled().await;
    assert_eq!(house.held().await, Money::ZERO, "what was spent is told until the store has heard");
}
