//! How long a store remembers: as long as it promises.

use std::slice::from_ref;
use std::time::Duration;

use super::{Desk, HOUR, LEASE, ask, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::scope::Scope;
use crate::store::budget::BudgetStore;
use crate::store::conformance::Rule;

/// A longer promise is not tested beyond this.
const MOST: u64 = 400 * 24 * 60 * 60;
/// The number of steps in which the time passes.
const PARTS: i64 = 100;

pub(super) async fn what_was_settled_is_known_for_as_long_as_is_promised<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, pot) = (Desk::open(make, rule).await, total());
    let promised = seconds(desk.store.memory().settled);
    rule.holds(&format!("the store promises at least an hour; got {promised} s"), promised >= HOUR);
    let grant = desk.granted(&ask(session(), from_ref(&pot), 60), 0).await;
    desk.settle(&grant.reservation, 20, 0).await;
    let spent = 20 + passes(&desk, &pot, 0, promised - 1).await;
    desk.settle(&grant.reservation, 50, promised - 1).await;
    desk.stands(&pot, promised - 1, spent, 0).await;
}

pub(super) async fn what_was_forfeited_is_corrected_for_as_long_as_is_promised<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, pot) = (Desk::open(make, rule).await, total());
    let promised = seconds(desk.store.memory().forfeited);
    rule.holds(&format!("the store promises at least a day; got {promised} s"), promised >= 24 * HOUR);
    let grant = desk.granted(&ask(session(), from_ref(&pot), 60), 0).await;
    desk.stands(&pot, LEASE + 1, 60, 0).await;
    let spent = passes(&desk, &pot, LEASE + 1, promised - 1).await;
    desk.settle(&grant.reservation, 20, LEASE + promised).await;
    desk.stands(&pot, LEASE + promised, spent + 20, 0).await;
}

/// Lets time pass while others spend and fall silent, since a store may forget then. Returns what they spent.
async fn passes<S: BudgetStore>(desk: &Desk<S>, pot: &Budget, from: i64, seconds: i64) -> i64 {
    for part in 1..=PARTS {
        let now = from + seconds * part / PARTS;
        let grant = desk.granted(&ask(session(), from_ref(pot), 2), now).await;
        desk.settle(&grant.reservation, 1, now).await;
    }
    PARTS
}

fn total() -> Budget {
    Budget::new(Scope::team("search"), Window::Total, money(1_000))
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs().min(MOST)).unwrap_or(i64::MAX)
}
