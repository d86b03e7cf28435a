//! Holds that grow.

use super::{Desk, HOUR, LEASE, ask, day, left, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::ledger::Wish;
use crate::domain::scope::Scope;
use crate::store::budget::{BudgetStore, Reserve, Verdict};
use crate::store::conformance::{Rule, at};

/// The same request, for a new total.
pub(super) fn in_all<'a>(of: &Reserve<'a>, min: i64, want: i64, share: u32) -> Reserve<'a> {
    Reserve { wish: Wish { min: money(min), want: money(want), share }, ..*of }
}

/// Whether holds of this store can grow; a store may leave that to the trait's default.
pub(super) async fn can_grow<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) -> bool {
    let (desk, pots) = (Desk::open(make, rule).await, [day("search", 100)]);
    let ask = ask(session(), &pots, 10);
    desk.granted(&ask, 0).await;
    match desk.store.extend(&in_all(&ask, 11, 20, 1), at(0)).await {
        Ok(_) => true,
        Err(error) => {
            rule.holds(&format!("every question is answered with {error}"), error.is_unsupported());
            desk.stands(&pots[0], 0, 0, 10).await;
            false
        }
    }
}

pub(super) async fn a_hold_grows_within_its_limits<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 60), day("lab", 1_000).soft()];
    let first = ask(session, &pots, 20);
    let other = desk.granted(&ask(session, &pots[..1], 30), 0).await;
    desk.granted(&first, 0).await;
    // A quarter of the 70 that are there for it; the minimum of 35; then as much as is wanted; all of the lab's.
    for (min, want, share, total) in
        [(5, 60, 4, 20), (35, 60, 4, 35), (36, 40, 1, 40), (40, 40, 1, 40), (41, 900, 1, 60)]
    {
        let grant = desk.extended(&in_all(&first, min, want, share), 0).await.expect(rule.0);
        rule.same("what is held in all", &grant.reservation.granted, &money(total));
        rule.same("how all of it stands", &grant, &desk.granted(&first, 0).await);
    }
    desk.stands(&pots[0], 0, 0, 90).await;
    desk.stands(&pots[1], 0, 0, 60).await;
    let denied = rule.answer(desk.store.extend(&in_all(&first, 61, 61, 1), at(0)).await);
    let is_of_the_lab = matches!(&denied, Verdict::Deny(denial)
        if !denial.is_held && denial.standing.budget == pots[1] && denial.standing.held == money(0));
    rule.holds(&format!("{denied:?} names the budget of the lab, where nobody else holds anything"), is_of_the_lab);
    let denied = rule.answer(desk.store.extend(&in_all(&first, 71, 71, 1), at(0)).await);
    rule.holds(
        &format!("{denied:?} names the first budget that is spent"),
        matches!(&denied, Verdict::Deny(denial) if !denial.is_held),
    );
    desk.stands(&pots[0], 0, 0, 90).await;
    desk.settle(&other.reservation, 30, 0).await;
    desk.stands(&pots[0], 0, 30, 60).await;
}

pub(super) async fn what_is_added_to_a_hold_is_settled_with_it<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 100)];
    let (one, two) = (ask(session, &pots, 20), ask(session, &pots, 20));
    let (first, lost) = (desk.granted(&one, 0).await, desk.granted(&two, 0).await);
    for of in [&one, &two] {
        desk.extended(&in_all(of, 30, 30, 1), 0).await.expect(rule.0);
    }
    desk.stands(&pots[1], 0, 0, 60).await;
    // With the reservation of the first grant: the caller that settles may not have received more.
    for _ in 0..2 {
        desk.settle(&first.reservation, 25, 1).await;
        desk.stands(&pots[0], 1, 25, 30).await;
    }
    let silent = LEASE + 2;
    desk.stands(&pots[0], silent, 55, 0).await;
    desk.settle(&lost.reservation, 7, silent).await;
    desk.stands(&pots[0], silent, 32, 0).await;
    desk.stands(&pots[1], silent, 32, 0).await;
}

pub(super) async fn a_hold_that_grows_after_midnight_is_todays<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let month = Budget::new(Scope::team("search"), Window::Month, money(100));
    let pots = [day("search", 50), month];
    let (midnight, one) = (15 * HOUR, ask(session, &pots, 30));
    let first = desk.granted(&one, midnight - 1).await;
    desk.stands(&pots[0], midnight, 0, 0).await;
    rule.holds("all of it counts in today's window", desk.extended(&in_all(&one, 51, 51, 1), midnight).await.is_none());
    desk.stands(&pots[0], midnight, 0, 0).await;
    let grant = desk.extended(&in_all(&one, 50, 50, 1), midnight).await.expect(rule.0);
    rule.same("what is left", &left(&grant), &money(0));
    desk.stands(&pots[0], midnight, 0, 50).await;
    desk.stands(&pots[1], midnight, 0, 50).await;
    desk.settle(&first.reservation, 45, midnight + 1).await;
    desk.stands(&pots[0], midnight + 1, 45, 0).await;
    desk.stands(&pots[1], midnight + 1, 45, 0).await;
}

pub(super) async fn a_hold_moves_into_todays_window_whole_or_not_at_all<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let (pots, midnight) = ([day("search", 100)], 15 * HOUR);
    let one = ask(session, &pots, 30);
    desk.granted(&one, midnight - 1).await;
    desk.granted(&ask(session, &pots, 80), midnight).await;
    // There are 20 left today, and the call holds 30 of yesterday's.
    rule.holds("30 do not fit", desk.extended(&in_all(&one, 5, 10, 1), midnight).await.is_none());
    desk.stands(&pots[0], midnight, 0, 80).await;
}

pub(super) async fn what_is_added_within_a_rolling_window_counts_from_then_on<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [Budget::new(Scope::team("search"), "rolling 1m".parse().unwrap_or(Window::Total), money(100))];
    let one = ask(session, &pots, 10);
    let first = desk.granted(&one, 0).await;
    let raised = desk.extended(&in_all(&one, 60, 60, 1), 120).await.expect(rule.0);
    desk.stands(&pots[0], 120, 0, 60).await;
    rule.holds("the hold is the same", raised.reservation.id == first.reservation.id);
    desk.settle(&first.reservation, 55, 150).await;
    desk.stands(&pots[0], 150, 55, 0).await;
    desk.stands(&pots[0], 210, 0, 0).await;
}

pub(super) async fn only_a_live_hold_grows_and_in_all_of_its_pots<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 100), day("ops", 100)];
    let one = ask(session, &pots[..2], 20);
    let first = desk.granted(&one, 0).await;
    for budgets in [&pots[..1], &pots[1..], &pots[..]] {
        let refused = desk.store.extend(&Reserve { budgets, ..in_all(&one, 1, 1, 1) }, at(0)).await;
        rule.holds(
            &format!("{refused:?} says that the hold covers other pots"),
            refused.is_err_and(|error| !error.is_unavailable()),
        );
    }
    let silent = LEASE + 1;
    let forfeited = ask(super::session(), &pots[..2], 20);
    desk.granted(&forfeited, 0).await;
    rule.answer(desk.store.heartbeat(session, at(silent)).await);
    desk.settle(&first.reservation, 5, silent).await;
    for gone in [&one, &forfeited, &ask(session, &pots[..2], 20)] {
        let refused = desk.store.extend(&in_all(gone, 1, 1, 1), at(silent)).await;
        rule.holds(
            &format!("{refused:?} says that there is no hold"),
            refused.is_err_and(|error| !error.is_unavailable()),
        );
    }
    desk.stands(&pots[0], silent, 25, 0).await;
    desk.stands(&pots[2], silent, 0, 0).await;
}
