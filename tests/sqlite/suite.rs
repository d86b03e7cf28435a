//! The conformance suite for the SQLite stores.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate::store::admission::AdmissionStore;
use tollgate::store::budget::BudgetStore;
use tollgate::store::conformance;
use tollgate::store::key::KeyRegistry;
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::store::sqlite::Sqlite;

use crate::{Dir, open};

/// Makes a new file for each store.
struct Files(Dir, AtomicU64);

impl Files {
    fn new(name: &str) -> Self {
        Files(Dir::new(name), AtomicU64::new(0))
    }

    fn path(&self) -> PathBuf {
        self.0.0.join(format!("{}.db", self.1.fetch_add(1, Ordering::Relaxed)))
    }

    async fn next(&self) -> Sqlite {
        open(&self.path()).await
    }

    /// Opens the same file twice, each with its own writer, like two processes.
    async fn two(&self) -> (Sqlite, Sqlite) {
        let path = self.path();
        (open(&path).await, open(&path).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_sqlite_pass_the_suite() {
    let files = Files::new("suite-keys");
    let rules = conformance::keys(async || files.next().await.keys()).await;
    assert!(rules.len() > 10, "{rules:?}");
    conformance::keys(async || Box::new(files.next().await.keys()) as Box<dyn KeyRegistry>).await;
    conformance::keys(async || Arc::new(files.next().await.keys()) as Arc<dyn KeyRegistry>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_in_sqlite_pass_the_suite() {
    let files = Files::new("suite-budgets");
    let rules = conformance::budgets(async || files.next().await.budgets()).await;
    assert!(rules.len() > 20, "{rules:?}");
    conformance::budgets_that_grow(async || files.next().await.budgets()).await;
    // The file remembers what was settled, so a request that arrives late is recognized.
    conformance::budgets_asked_late(async || files.next().await.budgets()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_in_sqlite_pass_the_suite_behind_pointers() {
    let files = Files::new("suite-budgets-pointers");
    // Test `Box` and `Arc` at once, since each file takes time.
    let pointed = async || Box::new(Arc::new(files.next().await.budgets()) as Arc<dyn BudgetStore>);
    let rules = conformance::budgets(pointed).await;
    assert!(rules.len() > 20, "{rules:?}");
    conformance::budget_histories(pointed, 64..72, 100).await;
    conformance::budgets_that_grow(async || Box::new(files.next().await.budgets()) as Box<dyn BudgetStore>).await;
    conformance::budgets_that_grow(async || Arc::new(files.next().await.budgets()) as Arc<dyn BudgetStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_one_file_pass_the_suite() {
    let files = Files::new("suite-shared");
    let budgets = async || {
        let (here, there) = files.two().await;
        (here.budgets(), there.budgets())
    };
    let limits = async || {
        let (here, there) = files.two().await;
        (here.limits(), there.limits())
    };
    let admission = async || {
        let (here, there) = files.two().await;
        (here.admission(), there.admission())
    };
    let rules = conformance::budgets_shared(budgets).await;
    assert!(rules.contains(&"a_hold_that_two_settle_is_settled_once"), "{rules:?}");
    let rules = conformance::limits_shared(limits).await;
    assert!(rules.contains(&"a_permit_that_two_settle_is_settled_once"), "{rules:?}");
    let rules = conformance::admission_shared(admission).await;
    assert!(rules.len() > 8, "{rules:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_in_sqlite_pass_the_suite() {
    let files = Files::new("suite-limits");
    let rules = conformance::limits(async || files.next().await.limits()).await;
    assert!(rules.len() > 20, "{rules:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_in_sqlite_pass_the_suite_behind_pointers() {
    let files = Files::new("suite-limits-pointers");
    let pointed = async || Box::new(Arc::new(files.next().await.limits()) as Arc<dyn RateLimitStore>);
    let rules = conformance::limits(pointed).await;
    assert!(rules.len() > 20, "{rules:?}");
    conformance::limit_histories(pointed, 64..72, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_in_sqlite_passes_the_suite() {
    let files = Files::new("suite-admission");
    let make = async || {
        let sqlite = files.next().await;
        (sqlite.admission(), sqlite.keys())
    };
    let rules = conformance::admission(make).await;
    assert!(rules.contains(&"a_refusal_by_a_budget_counts_nowhere"), "{rules:?}");
    conformance::budgets_that_grow(async || files.next().await.admission()).await;
    let pointed = async || {
        let sqlite = files.next().await;
        (Box::new(Arc::new(sqlite.admission()) as Arc<dyn AdmissionStore>), sqlite.keys())
    };
    assert_eq!(conformance::admission(pointed).await, rules);
}

/// The ranges of seeds for histories of 200 steps each. Four ranges run in parallel, since each step is a transaction
/// or two and waits for the disk. `TOLLGATE_HISTORIES` sets a larger number.
fn histories(usual: u64) -> [Range<u64>; 4] {
    let many = std::env::var("TOLLGATE_HISTORIES").ok().and_then(|many| many.parse().ok()).unwrap_or(usual);
    [0, 1, 2, 3].map(|part| 1_000 + many * part / 4..1_000 + many * (part + 1) / 4)
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_budgets_in_sqlite_add_up() {
    let files = Files::new("histories-budgets");
    let [a, b, c, d] =
        histories(256).map(|seeds| conformance::budget_histories(async || files.next().await.budgets(), seeds, 200));
    tokio::join!(a, b, c, d);
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_limits_in_sqlite_follow_the_bucket() {
    let files = Files::new("histories-limits");
    let [a, b, c, d] =
        histories(256).map(|seeds| conformance::limit_histories(async || files.next().await.limits(), seeds, 200));
    tokio::join!(a, b, c, d);
}
