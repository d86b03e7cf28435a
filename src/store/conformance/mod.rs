//! What every store promises, as a suite that runs over yours.
//!
//! Reach for it in the tests of a store of your own: give it a function that makes an empty store, and it runs every
//! rule over a new one. The stores of this crate pass it, and their own tests ask beside it what only a file or a process
//! can be asked: what survives a kill, a full disk, a second process. It names the time itself and never sleeps, but for one
//! rule about the store's own clock, which asks again and again for a fifth of a second until that has moved; it spawns two
//! thousand tasks where a rule is about many at once, so give it a runtime with several threads.
//!
//! Some sets of rules are asked of some stores and not of others, and are demanded by name. [`budgets_shared`],
//! [`limits_shared`] and [`admission_shared`]: two handles on one database, as two gateways have them. No other rule has more
//! than one, so that a store that decides by what its own process knows, or under a lock of its own, passes all of those and
//! spends twice as much as there is; ask for these of every store that is further away than memory. [`budgets_that_grow`]: what a
//! store leaves to a default of its trait is no fault to [`budgets`], so that a wrapper that forgets to hand
//! [`extend`](BudgetStore::extend) on would pass it unseen; ask for this set too wherever holds are to grow.
//! [`budgets_asked_late`] and [`limits_asked_late`]: for stores that a question can reach after its settlement.
//!
//! It panics at the first rule that is broken, with the rule's name and the values that break it, and otherwise gives
//! the names of all that hold. The random histories of a failure are run again, alone and as long as you like, by the
//! seed that it names: [`budget_histories`], [`limit_histories`].
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

/// The histories of one run of the suite.
const SEEDS: Range<u64> = 0..64;
/// The steps of each.
const STEPS: usize = 100;
/// How many there are where a rule is about many at once.
const TASKS: u64 = 2_000;

/// Every rule of a [`KeyRegistry`], over stores that `make` makes empty. Gives the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn keys<S: KeyRegistry>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    keys::all(&make).await
}

/// Every rule of a [`BudgetStore`], over stores that `make` makes empty. Gives the names of the rules: those of holds that
/// grow are among them where the store's do, and [`budgets_that_grow`] demands that they are.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::all(&make).await
}

/// What a [`BudgetStore`] keeps where two gateways share it, over pairs of handles on one database that `make` makes empty: what
/// one of them holds, settles or forfeits is so for the other at once. Gives the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets_shared<S: BudgetStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    budgets::shared(&make).await
}

/// The rules of [`extend`](BudgetStore::extend), which a store may leave to its default: for those that do not, and for
/// whatever stands before one of them.
///
/// # Panics
/// When a rule does not hold, with its name, and when nothing of the store's ever grows.
pub async fn budgets_that_grow<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::that_grow(&make).await
}

/// What a [`BudgetStore`] must not grant where a question may come after its settlement, since there is a network or a
/// queue without an order in between. To know, a store has to remember what was settled, and to look there at every call. A
/// store in memory answers in its caller's own thread: nothing of a question is left once its caller has gone on, so that
/// `MemoryBudgets` does without, and would not pass this.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn budgets_asked_late<S: BudgetStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    budgets::asked_late(&make).await
}

/// What a [`RateLimitStore`] must not permit where a question may come after its settlement. Of ours neither could be asked
/// so late, and neither would pass: one has nothing in between, and the other a queue that keeps the order.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits_asked_late<S: RateLimitStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    limits::asked_late(&make).await
}

/// Every rule of a [`RateLimitStore`], over stores that `make` makes empty. Gives the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits<S: RateLimitStore>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    limits::all(&make).await
}

/// What a [`RateLimitStore`] keeps where two gateways share it, over pairs of handles on one database that `make` makes empty:
/// what one of them counts or gives back is counted or given back for the other at once. Gives the names of the rules.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn limits_shared<S: RateLimitStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    limits::shared(&make).await
}

/// Every rule of an [`AdmissionStore`] beside those of its parts, over stores that `make` makes empty, each with its keys.
/// Gives the names of the rules.
///
/// Two of them are the rules of the parts, asked by way of `admit`, and fail under the part's name for a rule: one that
/// holds in [`budgets`] or [`limits`] and not here is broken by `admit`.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn admission<S: AdmissionStore, K: KeyRegistry>(make: impl AsyncFn() -> (S, K)) -> Vec<&'static str> {
    admission::all(&make).await
}

/// The rules of [`budgets_shared`] and of [`limits_shared`], asked by way of `admit`. Gives their names.
///
/// # Panics
/// When a rule does not hold, with its name.
pub async fn admission_shared<S: AdmissionStore>(make: impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    by_admit::shared(&make).await
}

/// One history of so many random steps a seed, each step compared with a ledger that adds everything up anew.
///
/// # Panics
/// When the store and the ledger differ, with the seed and the step.
pub async fn budget_histories<S: BudgetStore>(make: impl AsyncFn() -> S, seeds: Range<u64>, steps: usize) {
    budgets::history::run(&make, seeds, steps).await;
}

/// One history of so many random steps a seed, each step compared with the rule of the bucket.
///
/// # Panics
/// When the store and the rule differ, with the seed and the step.
pub async fn limit_histories<S: RateLimitStore>(make: impl AsyncFn() -> S, seeds: Range<u64>, steps: usize) {
    limits::history::run(&make, seeds, steps).await;
}

/// Runs rules one after another, each over stores of its own, and gives their names.
macro_rules! run {
    ($make:expr, $($rule:ident)*) => {{
        $($rule($make, $crate::store::conformance::Rule(stringify!($rule))).await;)*
        vec![$(stringify!($rule)),*]
    }};
}
use run;

/// A rule's name, for whoever it fails.
#[derive(Debug, Clone, Copy)]
struct Rule(&'static str);

impl Rule {
    fn same<T: PartialEq + Debug>(self, what: &str, got: &T, want: &T) {
        assert!(got == want, "{}: {what}: got {got:?}, and not {want:?}", self.0);
    }

    fn holds(self, what: &str, truth: bool) {
        assert!(truth, "{}: not so: {what}", self.0);
    }

    fn answer<T>(self, answer: Result<T, StoreError>) -> T {
        let Rule(name) = self;
        match answer {
            Ok(answer) => answer,
            Err(error) => panic!("{name}: {error}: {:?}", std::error::Error::source(&error)),
        }
    }
}

/// So many seconds after nine in the morning of Tuesday the 24th of November 2026, UTC.
fn at(seconds: i64) -> At {
    At::Fixed(time(seconds))
}

fn time(seconds: i64) -> Timestamp {
    const NINE: i64 = 1_795_510_800;
    Timestamp::from_second(NINE.saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

/// Holds tasks back until all of them are there, so that they come at one time and not one by one.
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

/// Names that a careless store takes for one another, or for something else.
const NAMES: [&str; 10] = ["a", "A", "", " ", "a ", "a'; DROP TABLE keys; --", "%", "ä", "🦀", "{a}:\n\t\"\\"];

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn the_suite_begins_at_nine() {
        assert_eq!(time(0).to_string(), "2026-11-24T09:00:00Z");
    }
}
