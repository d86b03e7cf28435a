//! Requests to a store that arrive after their client has gone: the far end does not know that nobody waits.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::budget::{self, BudgetStore, Reservation, Reserve};
use tollgate::store::memory::{MemoryKeys, MemoryLimits};
use tollgate::store::sqlite::Sqlite;
use tollgate::store::{At, Session, StoreError};

use crate::calls::{Ask, Leaves};
use crate::site::{Site, mint};
use crate::support::dir::Dir;

/// A store behind a slow network. Requests arrive when the test says so, whether or not anybody still waits.
struct Far<S> {
    store: Arc<S>,
    line: Line,
}

#[derive(Clone, Default)]
struct Line {
    arrives: Arc<tokio::sync::Notify>,
    on_its_way: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Line {
    fn send(&self, question: impl Future<Output = ()> + Send + 'static) {
        let arrives = self.arrives.clone();
        let task = Handle::current().spawn(async move {
            arrives.notified().await;
            question.await;
        });
        self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Lets the requests that are on their way arrive.
    async fn arrive(&self) {
        let tasks = std::mem::take(&mut *self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(tasks.len(), 1, "one question was asked");
        for task in tasks {
            self.arrives.notify_one();
            task.await.expect("no panic");
        }
    }
}

#[async_trait]
impl<S: BudgetStore> BudgetStore for Far<S> {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        let (store, id, session, budgets, wish) =
            (self.store.clone(), ask.id, ask.session, ask.budgets.to_vec(), ask.wish);
        self.line.send(async move {
            // Nobody waits for the answer.
            let _ = store.reserve(&Reserve::new(id, session, &budgets, wish), at).await;
        });
        std::future::pending().await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<budget::Verdict, StoreError> {
        self.store.extend(ask, at).await
    }

    async fn settle(
        &self,
        reservation: &Reservation,
        actual: Money,
        at: At,
    ) -> Result<Vec<budget::Crossing>, StoreError> {
        self.store.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.store.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<budget::Standing>, StoreError> {
        self.store.standing(budgets, at).await
    }
}

/// Makes a call, and leaves while the store is asked.
async fn leave(site: &Site, key: &str) {
    let ask = Ask {
        model: "claude-storm".into(),
        key: key.to_owned(),
        is_stream: false,
        max_tokens: 50,
        script: String::new(),
        begins: 0,
        leaves: Leaves::AtPoll(1),
    };
    ask.run(site.gateway.clone()).await;
    site.only().await;
}

async fn budgets<B: BudgetStore>(store: B) {
    let keys = MemoryKeys::new();
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "9".parse().expect("an amount")));
    let (store, line) = (Arc::new(store), Line::default());
    let far = Far { store: store.clone(), line: line.clone() };
    let site = Site::with(keys, RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(far), |layer| layer);
    leave(&site, &key).await;
    line.arrive().await;
    let standing = store.standing(&record.principal.budgets, At::Store).await.expect("readable");
    assert_eq!((standing[0].spent, standing[0].held), (Money::ZERO, Money::ZERO));
}

async fn sqlite<T>(name: &str, test: impl AsyncFnOnce(Sqlite) -> T) -> T {
    let dir = Dir::new(name);
    let sqlite = Sqlite::options().without_fsync().open(dir.join("late.db")).await.expect("a new file");
    sqlite.migrate().await.expect("tables");
    let said = test(sqlite.clone()).await;
    sqlite.close().await.expect("closed");
    said
}

#[tokio::test]
async fn money_that_is_asked_for_after_its_call_has_gone_is_not_held_in_a_file() {
    sqlite("budgets", async |sqlite| budgets(sqlite.budgets()).await).await;
}
