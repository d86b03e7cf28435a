//! Two handles on one database, as two gateways have them.

use std::sync::Arc;

use super::extends::can_grow;
use super::many::storm;
use super::{Desk, HOUR, LEASE, ask, day, session};
use crate::store::budget::BudgetStore;
use crate::store::conformance::{Rule, at};

async fn two<S: BudgetStore>(make: &impl AsyncFn() -> (S, S), rule: Rule) -> [Desk<S>; 2] {
    let (here, there) = make().await;
    [here, there].map(|store| Desk { store, rule })
}

pub(super) async fn what_one_handle_holds_is_held_for_the_other<S: BudgetStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let ([here, there], pots) = (two(make, rule).await, [day("search", 100), day("lab", 1_000)]);
    // Whatever either handle has cached about them is not final.
    for desk in [&here, &there] {
        desk.stands(&pots[0], 0, 0, 0).await;
    }
    let first = ask(session(), &pots, 60);
    let grant = here.granted(&first, 0).await;
    there.stands(&pots[0], 0, 0, 60).await;
    let denial = there.denied(&ask(session(), &pots, 41), 0).await;
    rule.holds("it is held, not spent", denial.is_held);
    rule.same("what one id holds", &there.granted(&first, 0).await.reservation, &grant.reservation);
    there.granted(&ask(session(), &pots, 40), 0).await;
    here.denied(&ask(session(), &pots, 1), 0).await;
    for desk in [&here, &there] {
        desk.stands(&pots[0], 0, 0, 100).await;
    }
}

pub(super) async fn a_hold_that_two_settle_is_settled_once<S: BudgetStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let ([here, there], pots) = (two(make, rule).await, [day("search", 100)]);
    let grant = here.granted(&ask(session(), &pots, 60), 0).await;
    let own = there.granted(&ask(session(), &pots, 40), 0).await;
    for (desk, actual) in [(&there, 20), (&here, 50), (&there, 0)] {
        desk.settle(&grant.reservation, actual, 0).await;
        for desk in [&here, &there] {
            desk.stands(&pots[0], 0, 20, 40).await;
        }
    }
    here.settle(&own.reservation, 10, 0).await;
    there.settle(&own.reservation, 40, 0).await;
    // What came back is available to both.
    here.granted(&ask(session(), &pots, 70), 0).await;
    there.denied(&ask(session(), &pots, 1), 0).await;
    there.stands(&pots[0], 0, 30, 70).await;
}

pub(super) async fn a_session_that_falls_silent_is_silent_for_both<S: BudgetStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let ([here, there], pots) = (two(make, rule).await, [day("search", 100)]);
    let (dead, alive) = (session(), session());
    let lost = here.granted(&ask(dead, &pots, 60), 0).await;
    there.granted(&ask(alive, &pots, 10), 0).await;
    // Whichever handle it uses.
    rule.answer(here.store.heartbeat(alive, at(LEASE)).await);
    there.stands(&pots[0], LEASE, 0, 70).await;
    let denial = there.denied(&ask(session(), &pots, 41), LEASE + 1).await;
    rule.holds("the most of it is spent", denial.standing.spent.nanos() == 60);
    for desk in [&here, &there] {
        desk.stands(&pots[0], LEASE + 1, 60, 10).await;
    }
    for desk in [&there, &here] {
        desk.settle(&lost.reservation, 20, LEASE + 2).await;
        for desk in [&here, &there] {
            desk.stands(&pots[0], LEASE + 2, 20, 10).await;
        }
    }
}

pub(super) async fn a_window_that_one_handle_begins_has_begun_for_the_other<S: BudgetStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let ([here, there], pots) = (two(make, rule).await, [day("search", 100)]);
    let (session, midnight) = (session(), 15 * HOUR);
    let late = here.granted(&ask(session, &pots, 100), midnight - 1).await;
    there.denied(&ask(session, &pots, 1), midnight - 1).await;
    there.granted(&ask(session, &pots, 90), midnight).await;
    here.denied(&ask(session, &pots, 11), midnight).await;
    here.settle(&late.reservation, 100, midnight).await;
    for desk in [&here, &there] {
        desk.stands(&pots[0], midnight, 0, 90).await;
    }
}

pub(super) async fn spent_and_held_never_exceed_the_limit_over_two_handles<S: BudgetStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let can_grow = can_grow(&async || make().await.0, rule).await;
    storm(two(make, rule).await.map(Arc::new), 0, can_grow).await;
}
