//! Stores that accept a request and never answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::key::{KeyDigest, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::admission::{self, AdmissionStore, Admit};
use tollgate::store::budget::{self, BudgetStore, Crossing, Reservation, Reserve};
use tollgate::store::key::KeyStore;
use tollgate::store::memory::{MemoryBudgets, MemoryStore};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session, StoreError};
use tollgate::{AdmissionLayer, BudgetLayer, GatewayLayer, KeyAuthLayer, RateLimitLayer};

use crate::world::{Answer, MESSAGES, World, get, post};

#[derive(Clone, Copy)]
pub(crate) struct Hung;

#[async_trait]
impl KeyStore for Hung {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        pending().await
    }
}

#[async_trait]
impl BudgetStore for Hung {
    async fn reserve(&self, _: &Reserve<'_>, _: At) -> Result<budget::Verdict, StoreError> {
        pending().await
    }

    async fn settle(&self, _: &Reservation, _: Money, _: At) -> Result<Vec<Crossing>, StoreError> {
        Ok(Vec::new())
    }

    async fn heartbeat(&self, _: Session, _: At) -> Result<(), StoreError> {
        pending().await
    }

    async fn standing(&self, _: &[Budget], _: At) -> Result<Vec<budget::Standing>, StoreError> {
        pending().await
    }
}

#[async_trait]
impl RateLimitStore for Hung {
    async fn acquire(&self, _: &Acquire<'_>, _: At) -> Result<rate_limit::Verdict, StoreError> {
        pending().await
    }

    async fn settle(&self, _: &Permit, _: Used, _: At) -> Result<(), StoreError> {
        Ok(())
    }

    async fn heartbeat(&self, _: Session, _: At) -> Result<(), StoreError> {
        pending().await
    }

    async fn standing(&self, _: &[Limit], _: At) -> Result<Vec<rate_limit::Standing>, StoreError> {
        pending().await
    }
}

#[async_trait]
impl AdmissionStore for Hung {
    async fn admit(&self, _: &Admit<'_>, _: At) -> Result<admission::Verdict, StoreError> {
        pending().await
    }
}

fn body() -> Value {
    json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

fn day() -> Budget {
    Budget::new(Scope::team("search"), Window::Day, "1".parse().expect("an amount"))
}

/// Returns the answer, and after how many seconds it came.
async fn ask(world: &World, key: &VirtualKey) -> (Answer, u64) {
    let began = Instant::now();
    let answer = world.ask(post(MESSAGES, key, &body())).await;
    (answer, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_one_that_cannot_answer() {
    let refused = |(answer, after): (Answer, u64)| (answer.status.as_u16(), answer.error().1, after);
    let overloaded = (529, "overloaded_error".to_owned(), 5);
    let unreadable = (429, "billing_error".to_owned(), 5);

    let world = World::with(|layer| layer.budget(BudgetLayer::new(Hung)));
    let paying = world.mint(Principal::new("ada").budget_of(day())).await;
    assert_eq!(refused(ask(&world, &paying).await), unreadable);
    let soft = world.mint(Principal::new("bob").budget_of(day().soft())).await;
    let (answer, after) = ask(&world, &soft).await;
    assert_eq!((answer.status.as_u16(), after), (200, 5), "nobody is refused for what refuses nothing");

    // Each path answers in the dialect of its clients.
    for (path, status) in [("/v1/key", 429), ("/api/oauth/usage", 529)] {
        let began = Instant::now();
        let answer = world.ask(get(path, &paying)).await;
        assert_eq!((answer.status.as_u16(), began.elapsed().as_secs()), (status, 5), "{path}");
    }

    let world = World::with(|layer| layer.rate_limit(RateLimitLayer::new(Hung)));
    let limited = world.mint(Principal::new("ada").limit(Measure::Requests, 5)).await;
    assert_eq!(refused(ask(&world, &limited).await), overloaded);

    let world = World::new();
    let pepper = world.pepper.clone();
    let admitting = World::bare(|layer: GatewayLayer| {
        layer.auth(KeyAuthLayer::new(world.keys.clone(), pepper)).admission(AdmissionLayer::new(Hung))
    });
    let paying = world.mint(Principal::new("ada").budget_of(day())).await;
    assert_eq!(refused(ask(&admitting, &paying).await), unreadable);
    assert!(admitting.provider.received().is_empty());
    let soft = world.mint(Principal::new("bob").budget_of(day().soft())).await;
    let (answer, after) = ask(&admitting, &soft).await;
    assert_eq!((answer.status.as_u16(), after), (200, 5));

    let hung = World::bare(|layer| layer.auth(KeyAuthLayer::new(Hung, world.pepper.clone())));
    assert_eq!(refused(ask(&hung, &paying).await), overloaded);
    assert!(hung.provider.received().is_empty());
    // With two peppers, a key is looked up under each, which makes two requests.
    let peppers =
        Pepper::new(b"canary-pepper-another-32-bytes-..").expect("long enough").and_before(world.pepper.clone());
    let hung = World::bare(|layer| layer.auth(KeyAuthLayer::new(Hung, peppers)));
    assert_eq!(refused(ask(&hung, &paying).await), (529, "overloaded_error".to_owned(), 10));
}

/// A store that does what is requested, but whose answers are lost.
#[derive(Clone)]
struct Lossy(MemoryStore);

#[async_trait]
impl BudgetStore for Lossy {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.0.reserve(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
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
impl RateLimitStore for Lossy {
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

#[async_trait]
impl AdmissionStore for Lossy {
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<admission::Verdict, StoreError> {
        self.0.admit(ask, at).await?;
        Err(StoreError::uncertain("the answer was lost"))
    }
}

#[tokio::test]
async fn what_is_let_through_although_an_answer_was_lost_is_charged_all_the_same() {
    let (world, store) = (World::new(), MemoryStore::new());
    let admission = AdmissionLayer::new(Lossy(store.clone()));
    let (keys, pepper) = (world.keys.clone(), world.pepper.clone());
    let lossy = World::with(|_| GatewayLayer::new().auth(KeyAuthLayer::new(keys, pepper)).admission(admission));
    let soft = world.mint(Principal::new("bob").budget_of(day().soft())).await;
    let answer = lossy.ask(post(MESSAGES, &soft, &body())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let standing = BudgetStore::standing(&store, &[day()], At::Store).await.expect("memory").remove(0);
    assert!(standing.spent > Money::ZERO && standing.held == Money::ZERO, "{standing:?}");
}

/// A store that accepts no settlement until the flag is set.
#[derive(Clone)]
struct Deaf(MemoryBudgets, Arc<AtomicBool>);

#[async_trait]
impl BudgetStore for Deaf {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.0.reserve(ask, at).await
    }

    async fn settle(&self, held: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        match self.1.load(Ordering::SeqCst) {
            true => self.0.settle(held, actual, at).await,
            false => pending().await,
        }
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.0.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        self.0.standing(budgets, at).await
    }
}

#[test]
fn a_gateway_that_outlives_its_runtime_settles_on_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (budgets, hears) = (MemoryBudgets::new(), Arc::new(AtomicBool::new(false)));
    let deaf = Deaf(budgets.clone(), hears.clone());
    let world = World::with(|layer| layer.budget(BudgetLayer::new(deaf)));
    let paying = runtime().block_on(world.mint(Principal::new("ada").budget_of(day())));
    let call = async || assert_eq!(world.ask(post(MESSAGES, &paying, &body())).await.status.as_u16(), 200);
    runtime().block_on(call());
    assert_eq!(world.settlements.waiting(), 1);

    hears.store(true, Ordering::SeqCst);
    runtime().block_on(async {
        call().await;
        world.settlements.drain().await;
        assert_eq!(world.settlements.waiting(), 0);
        let now = budgets.standing(&[day()], At::Store).await.expect("it answers").remove(0);
        assert_eq!(now.held, Money::ZERO);
        let charged: Vec<_> = world.records().await.iter().map(|record| record.charged.expect("money")).collect();
        assert_eq!((charged.len(), now.spent), (2, charged[0].saturating_add(charged[1])));
    });
}
