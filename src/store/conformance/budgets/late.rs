//! Questions that arrive after their settlement, because they were slow on their way.

use std::slice::from_ref;

use super::{Desk, HOUR, LEASE, Rule, ask, day, money, session};
use crate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};
use crate::store::conformance::at;

/// It may be refused or be an error.
async fn grants_nothing<S: BudgetStore>(desk: &Desk<S>, ask: &Reserve<'_>, seconds: i64) {
    let answer = desk.store.reserve(ask, at(seconds)).await;
    let what = format!("after {seconds} s, what was settled is not granted again: {answer:?}");
    desk.rule.holds(&what, !matches!(answer, Ok(Verdict::Allow(_))));
}

pub(super) async fn what_was_settled_is_not_granted_again<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 100)];
    let (asked, lost) = (ask(session, &pots, 30), ask(super::session(), &pots, 20));
    let (grant, silent) = (desk.granted(&asked, 0).await, desk.granted(&lost, 0).await);
    desk.settle(&grant.reservation, 10, 1).await;
    grants_nothing(&desk, &asked, 1).await;
    desk.stands(&pots[0], 1, 10, 20).await;
    // Nor is a forfeited hold, once it was corrected.
    desk.settle(&silent.reservation, 5, LEASE + 1).await;
    for seconds in [LEASE + 1, HOUR] {
        for late in [&asked, &lost] {
            grants_nothing(&desk, late, seconds).await;
        }
        desk.stands(&pots[1], seconds, 15, 0).await;
    }
}

/// A caller that stops waiting settles for nothing, and the store may get that first.
pub(super) async fn what_was_given_up_before_it_came_is_not_granted<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, pot) = (Desk::open(make, rule).await, day("search", 100));
    let late = ask(session(), from_ref(&pot), 30);
    let given_up = Reservation { id: late.id, granted: money(0), pots: Vec::new() };
    desk.settle(&given_up, 0, 0).await;
    for seconds in [0, 1, HOUR / 2] {
        grants_nothing(&desk, &late, seconds).await;
        desk.stands(&pot, seconds, 0, 0).await;
    }
}
