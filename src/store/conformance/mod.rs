//! The rules of every store trait, as a test suite that runs over your store.
//!
//! Use it in the tests of your own store. Pass a function that makes an empty store, and the suite runs every rule over
//! a new one. The stores of this crate pass it. Their own tests also cover what only a file or a process can show: a
//! kill, a full disk, a second process.
//!
//! The suite passes the time itself and never sleeps. The one exception is a rule about the store's own clock, which
//! asks again and again for a fifth of a second until the clock has moved. Rules about concurrency spawn two thousand
//! tasks, so run the suite on a runtime with several threads.
//!
//! Some sets of rules apply only to some stores, and are separate functions:
//!
//! - [`budgets_shared`], [`limits_shared`] and [`admission_shared`] use two handles on one database, like two gateways.
//!   The other rules use only one handle. A store that decides by what its own process knows, or under a lock of its
//!   own, passes those, and yet spends twice as much as there is. Run these sets for every store that is further away
//!   than memory.
//! - [`budgets_that_grow`] requires [`extend`](BudgetStore::extend). [`budgets`] accepts a store that leaves `extend`
//!   to the trait's default, so it would not notice a wrapper that forgets to forward it. Run this set if holds are to
//!   grow.
//! - [`budgets_asked_late`] and [`limits_asked_late`] are for stores that a question can reach after its settlement.
//!
//! The suite panics at the first rule that is broken, with the name of the rule and the values that break it. Otherwise
//! it returns the names of all rules that hold. If a random history fails, the panic names its seed. Run that seed
//! again alone, with as many steps as you like: [`budget_histories`], [`limit_histories`].
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::store::conformance;
//! use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
//! # let runtime = tokio::runtime::Runtime::new().expect("a runtime");
//! # runtime.block_on(async {
//!
//! let rules = conformance::keys(async || MemoryKeys::new()).await;
//! assert!(rules.contains(&"a_rotated_secret_opens_nothing"));
//! conformance::limits(async || MemoryLimits::new()).await;
//! // The seed that failed, and a history ten times as long:
//! conformance::budget_histories(async || MemoryBudgets::new(), 7..8, 1_000).await;
//! # }) }
//! ```

mod admission;
mod budgets;
mod by_admit;
mod keys;
mod limits;
mod random;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::admission::AdmissionStore;
use super::budget::BudgetStore;
use super::key::KeyRegistry;
use super::rate_limit::RateLimitStore;
use super::{At, StoreError};

/// The seeds of the histories in one run of the suite.
const SEEDS: Range<u64> = 0..64;
/// The steps of each history.
const STEPS: usize = 100;
/// The number of tasks in a rule about concurrency.
const TASKS: u64 = 2_000;

/// Runs every rule of a [`KeyRegistry`] over empty stores from `make`. Returns the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn keys<S: KeyRegistry>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    keys::all(&make).await
}

/// Runs every rule of a [`BudgetStore`] over empty stores from `make`. Returns the names of the rules. The rules of
/// growing holds run only if the store's holds can grow; [`budgets_that_grow`] requires that they can.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::all(&make).await
}

/// Runs the rules for a [`BudgetStore`] that two gateways share, over pairs of handles on one empty database from
/// `make`: what one handle holds, settles or forfeits counts at once for the other. Returns the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets_shared<S: BudgetStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    budgets::shared(&make).await
}

/// Runs the rules of [`extend`](BudgetStore::extend), which a store may leave to the trait's default. For stores that
/// implement it, and for whatever wraps one of them. Returns the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name, and when a hold of the store does not grow.
pub async fn budgets_that_grow<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::that_grow(&make).await
}

/// Runs the rules for a [`BudgetStore`] whose questions may arrive after their settlement, because there is a network
/// or an unordered queue in between. Such a store must not grant them, so it has to remember what was settled, and to
/// check that for every call. Returns the names of the rules.
///
/// A store in memory answers in its caller's own thread, so no question is left once its caller has gone on.
/// `MemoryBudgets` does without the check, and would not pass.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets_asked_late<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::asked_late(&make).await
}

/// Runs the rules for a [`RateLimitStore`] whose questions may arrive after their settlement. Such a store must not
/// permit them. Returns the names of the rules.
///
/// Neither store of this crate could be asked so late, and neither would pass: one has nothing in between, and the
/// other a queue that keeps the order.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits_asked_late<S: RateLimitStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    limits::asked_late(&make).await
}

/// Runs every rule of a [`RateLimitStore`] over empty stores from `make`. Returns the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits<S: RateLimitStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    limits::all(&make).await
}

/// Runs the rules for a [`RateLimitStore`] that two gateways share, over pairs of handles on one empty database from
/// `make`: what one handle counts or gives back counts at once for the other. Returns the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits_shared<S: RateLimitStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    limits::shared(&make).await
}

/// Runs the rules of an [`AdmissionStore`] beyond those of its parts, over empty stores from `make`, each with its
/// keys. Returns the names of the rules.
///
/// Two of them are the rules of the parts, asked through `admit`; a failure carries the part's name for the rule. If a
/// rule holds in [`budgets`] or [`limits`] but not here, then `admit` breaks it.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn admission<S: AdmissionStore, K: KeyRegistry>(make: impl AsyncFn() -> (S, K)) -> Vec<&'static str> {
    admission::all(&make).await
}

/// Runs the rules of [`budgets_shared`] and [`limits_shared`] through `admit`. Returns their names.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn admission_shared<S: AdmissionStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    by_admit::shared(&make).await
}

/// Runs one random history of `steps` steps for each seed. Each step is compared with a ledger that adds everything up
/// anew.
///
/// # Panics
/// When the store and the ledger differ, with the seed and the step.
pub async fn budget_histories<S: BudgetStore>(make: impl AsyncFn() -> S, seeds: Range<u64>, steps: usize) {
    budgets::history::run(&make, seeds, steps).await;
}

/// Runs one random history of `steps` steps for each seed. Each step is compared with the rule of the bucket.
///
/// # Panics
/// When the store and the rule differ, with the seed and the step.
pub async fn limit_histories<S: RateLimitStore>(make: impl AsyncFn() -> S, seeds: Range<u64>, steps: usize) {
    limits::history::run(&make, seeds, steps).await;
}

/// Runs rules one after another, each over stores of its own, and returns their names.
macro_rules! run {
    ($make:expr, $($rule:ident)*) => {{
        $($rule($make, $crate::store::conformance::Rule(stringify!($rule))).await;)*
        vec![$(stringify!($rule)),*]
    }};
}
use run;

/// The name of a rule, for its failure messages.
#[derive(Debug, Clone, Copy)]
struct Rule(&'static str);

impl Rule {
    fn same<T: PartialEq + Debug>(self, what: &str, got: &T, want: &T) {
        assert!(got == want, "{}: {what}: got {got:?}, expected {want:?}", self.0);
    }

    fn holds(self, what: &str, truth: bool) {
        assert!(truth, "{}: expected: {what}", self.0);
    }

    fn answer<T>(self, answer: Result<T, StoreError>) -> T {
        let Rule(name) = self;
        match answer {
            Ok(answer) => answer,
            Err(error) => panic!("{name}: {error}: {:?}", std::error::Error::source(&error)),
        }
    }
}

/// So many seconds after 9:00 UTC on Tuesday, 24 November 2026.
fn at(seconds: i64) -> At {
    At::Fixed(time(seconds))
}

fn time(seconds: i64) -> Timestamp {
    const NINE: i64 = 1_795_510_800;
    Timestamp::from_second(NINE.saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

/// Holds tasks back until all of them are there, so that they start together.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    async fn pass(&self) {
        while !self.0.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

/// Names that a careless store confuses with one another, or with something else.
const NAMES: [&str; 10] = ["a", "A", "", " ", "a ", "a'; DROP TABLE keys; --", "%", "ä", "🦀", "{a}:\n\t\"\\"];

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn the_suite_begins_at_nine() {
        assert_eq!(time(0).to_string(), "2026-11-24T09:00:00Z");
    }
}
