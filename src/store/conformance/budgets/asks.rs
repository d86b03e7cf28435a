//! Requests, grants and settlements.

use std::slice::from_ref;

use super::{Desk, HOUR, LEASE, ask, day, id, left, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ledger::Wish;
use crate::domain::scope::Scope;
use crate::store::At;
use crate::store::budget::{BudgetStore, Reserve, Verdict};
use crate::store::conformance::{NAMES, Rule, at};

pub(super) async fn spent_is_told_from_held<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100)];
    desk.stands(&pots[0], 0, 0, 0).await;
    let grant = desk.granted(&ask(session, &pots, 60), 0).await;
    rule.same("what is left of 100", &left(&grant), &money(40));
    desk.stands(&pots[0], 0, 0, 60).await;
    let denial = desk.denied(&ask(session, &pots, 41), 0).await;
    rule.holds("60 in flight are reported as held", denial.is_held);
    rule.same("spent, held", &(denial.standing.spent, denial.standing.held), &(money(0), money(60)));
    desk.settle(&grant.reservation, 60, 0).await;
    desk.stands(&pots[0], 0, 60, 0).await;
    let denial = desk.denied(&ask(session, &pots, 41), 0).await;
    rule.holds("60 settled are reported as spent", !denial.is_held);
    rule.same("whose it is", &denial.standing.budget, &pots[0]);
    desk.granted(&ask(session, &pots, 40), 0).await;
}

pub(super) async fn a_refused_ask_holds_nothing_anywhere<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("rich", 1_000), day("poor", 5), day("rich too", 1_000)];
    let denial = desk.denied(&ask(session, &pots, 6), 0).await;
    rule.same("the pot that has too little", &denial.standing.budget, &pots[1]);
    for pot in &pots {
        desk.stands(pot, 0, 0, 0).await;
    }
    let grant = desk.granted(&ask(session, &pots, 5), 0).await;
    for pot in &pots {
        desk.stands(pot, 0, 0, 5).await;
    }
    desk.denied(&ask(session, &pots, 1), 0).await;
    desk.settle(&grant.reservation, 4, 0).await;
    for pot in &pots {
        desk.stands(pot, 0, 4, 0).await;
    }
}

pub(super) async fn limits_of_zero_let_nothing_through<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let none = [day("none", 0)];
    for nanos in [0, 1] {
        let denial = desk.denied(&ask(session, &none, nanos), 0).await;
        rule.holds("nothing is held", !denial.is_held);
    }
    let grant = desk.granted(&ask(session, &[], 7), 0).await;
    rule.same("a grant out of no pot", &(grant.reservation.granted, grant.reservation.pots.len()), &(money(7), 0));
    desk.settle(&grant.reservation, 7, 0).await;
}

pub(super) async fn a_grant_takes_at_most_its_share<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("wide", 100_000), day("narrow", 1_000)];
    let wish = Wish { min: money(100), want: money(900), share: 4 };
    // A quarter of what is left while that is more than the minimum; then the minimum; then nothing.
    for granted in [250, 187, 140, 105, 100, 100, 100] {
        let grant = desk.granted(&Reserve::new(id(), session, &pots, wish), 0).await;
        rule.same("the grant", &grant.reservation.granted, &money(granted));
    }
    desk.stands(&pots[1], 0, 0, 982).await;
    desk.denied(&Reserve::new(id(), session, &pots, wish), 0).await;
    let small = Wish { min: money(1), want: money(2), share: 4 };
    let grant = desk.granted(&Reserve::new(id(), session, &pots, small), 0).await;
    rule.same("no more than is wanted", &grant.reservation.granted, &money(2));
}

pub(super) async fn a_pot_that_is_named_twice_is_held_once<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("one", 100), day("other", 100), day("one", 30)];
    let denial = desk.denied(&ask(session, &pots, 31), 0).await;
    rule.same("the tighter limit", &denial.standing.budget, &pots[2]);
    let grant = desk.granted(&ask(session, &pots, 20), 0).await;
    rule.same("what is left", &left(&grant), &money(10));
    rule.same("how many pots it came from", &grant.reservation.pots.len(), &2);
    desk.stands(&pots[0], 0, 0, 20).await;
    desk.settle(&grant.reservation, 15, 0).await;
    desk.stands(&pots[0], 0, 15, 0).await;
    desk.stands(&pots[1], 0, 15, 0).await;
}

pub(super) async fn the_limit_travels_with_the_ask<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let grant = desk.granted(&ask(session, &[day("search", 100)], 100), 0).await;
    desk.denied(&ask(session, &[day("search", 100)], 1), 0).await;
    desk.granted(&ask(session, &[day("search", 150)], 50), 0).await;
    desk.denied(&ask(session, &[day("search", 20)], 1), 0).await;
    desk.settle(&grant.reservation, 100, 0).await;
    desk.stands(&day("search", 20), 0, 100, 50).await;
    desk.stands(&day("search", 900), 0, 100, 50).await;
}

pub(super) async fn pots_are_apart_by_scope_and_by_window<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let long = "n".repeat(4_000);
    let names = NAMES.iter().copied().chain([&*long]);
    let mut pots: Vec<_> = names.map(|name| day(name, 1_000)).collect();
    for window in [Window::Week, Window::Month, Window::Total] {
        pots.push(Budget::new(Scope::team("a"), window, money(1_000)));
    }
    let others = [Scope::key("a"), Scope::user("a"), Scope::org("a"), Scope::global()];
    for scope in others.into_iter().chain([Scope::model("a"), Scope::provider("a"), Scope::tag("a")]) {
        pots.push(Budget::new(scope, Window::Day, money(1_000)));
    }
    for (nanos, pot) in (1..).zip(&pots) {
        let grant = desk.granted(&ask(session, from_ref(pot), nanos), 0).await;
        desk.settle(&grant.reservation, nanos, 0).await;
    }
    // All in one question, in its order.
    let standings = rule.answer(desk.store.standing(&pots, at(0)).await);
    rule.same("how many standings", &standings.len(), &pots.len());
    for (nanos, (pot, standing)) in (1..).zip(pots.iter().zip(&standings)) {
        rule.same("whose", &standing.budget, pot);
        rule.same("spent of it", &standing.spent, &money(nanos));
    }
}

pub(super) async fn asking_twice_with_one_id_is_asking_once<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 100)];
    let ask = ask(session, &pots, 80);
    let first = desk.granted(&ask, 0).await;
    for again in 1..4 {
        let grant = desk.granted(&ask, again).await;
        rule.same("the grant", &grant.reservation, &first.reservation);
        desk.stands(&pots[0], again, 0, 80).await;
    }
    desk.settle(&first.reservation, 10, 5).await;
    desk.stands(&pots[1], 5, 10, 0).await;
}

pub(super) async fn settling_twice_is_settling_once<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), day("lab", 200)];
    let grant = desk.granted(&ask(session, &pots, 50), 0).await;
    desk.granted(&ask(session, &pots, 50), 0).await;
    // At once, later, an hour later, and for another amount.
    for (seconds, nanos) in [(0, 30), (0, 30), (1, 30), (LEASE, 99)] {
        desk.settle(&grant.reservation, nanos, seconds).await;
        desk.stands(&pots[0], seconds, 30, 50).await;
    }
    for beat in 1..=HOUR / LEASE {
        rule.answer(desk.store.heartbeat(session, at(beat * LEASE)).await);
    }
    desk.settle(&grant.reservation, 30, HOUR).await;
    desk.stands(&pots[1], HOUR, 30, 50).await;
}

pub(super) async fn a_settlement_may_go_beyond_the_limit<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100)];
    let grant = desk.granted(&ask(session, &pots, 10), 0).await;
    let other = desk.granted(&ask(session, &pots, 10), 0).await;
    desk.settle(&grant.reservation, 1_000, 0).await;
    desk.stands(&pots[0], 0, 1_000, 10).await;
    let denial = desk.denied(&ask(session, &pots, 1), 0).await;
    rule.holds("the limit is spent, whatever is held", !denial.is_held);
    rule.holds("less than nothing is left", denial.standing.left().is_negative());
    desk.settle(&other.reservation, 0, 0).await;
    desk.stands(&pots[0], 0, 1_000, 0).await;
}

pub(super) async fn a_hold_that_was_lost_is_charged_when_it_is_settled<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let other = Desk::open(make, rule).await;
    let pots = [day("search", 100), Budget::new(Scope::team("search"), Window::Month, money(100))];
    let [today, late] = [0, 1].map(|seconds| (ask(session, &pots, 40), seconds));
    let (today, late) = (desk.granted(&today.0, today.1).await, desk.granted(&late.0, late.1).await);
    // A store that has never known them.
    for _ in 0..2 {
        other.settle(&today.reservation, 25, 2).await;
        other.stands(&pots[0], 2, 25, 0).await;
        other.stands(&pots[1], 2, 25, 0).await;
    }
    for _ in 0..2 {
        other.settle(&late.reservation, 7, 15 * HOUR).await;
        other.stands(&pots[0], 15 * HOUR, 0, 0).await;
        other.stands(&pots[1], 15 * HOUR, 32, 0).await;
    }
}

pub(super) async fn a_billionth_is_never_lost<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    const LARGE: i64 = 9_007_199_254_740_991;
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", LARGE)];
    let most = desk.granted(&ask(session, &pots, LARGE - 1), 0).await;
    rule.same("what is left", &left(&most), &money(1));
    let last = desk.granted(&ask(session, &pots, 1), 0).await;
    desk.denied(&ask(session, &pots, 1), 0).await;
    desk.settle(&most.reservation, LARGE - 3, 0).await;
    desk.stands(&pots[0], 0, LARGE - 3, 1).await;
    desk.settle(&last.reservation, 1, 0).await;
    desk.stands(&pots[0], 0, LARGE - 2, 0).await;
}

pub(super) async fn the_largest_limit_is_a_limit<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    const MOST: i64 = i64::MAX;
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [Budget::new(Scope::team("search"), Window::Total, money(MOST))];
    let first = desk.granted(&ask(session, &pots, MOST - 1), 0).await;
    desk.stands(&pots[0], 0, 0, MOST - 1).await;
    rule.holds("one more is all there is", desk.denied(&ask(session, &pots, 2), 0).await.is_held);
    rule.holds("nor is there all of it once more", desk.denied(&ask(session, &pots, MOST), 0).await.is_held);
    let last = desk.granted(&ask(session, &pots, 1), 0).await;
    rule.same("what is left", &left(&last), &money(0));
    desk.settle(&first.reservation, MOST - 1, 0).await;
    desk.settle(&last.reservation, 1, 0).await;
    desk.stands(&pots[0], 0, MOST, 0).await;
    rule.holds("it is spent", !desk.denied(&ask(session, &pots, 1), 0).await.is_held);
    // The total stays at the maximum, and opens nothing.
    let beyond = [pots[0].clone().soft()];
    let more = desk.granted(&ask(session, &beyond, 5), 0).await;
    desk.settle(&more.reservation, MOST, 0).await;
    desk.stands(&pots[0], 0, MOST, 0).await;
    desk.denied(&ask(session, &pots, 1), 0).await;
}

pub(super) async fn what_soft_asks_hold_beyond_all_count_opens_no_limit<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    const MOST: i64 = i64::MAX;
    let (desk, session) = (Desk::open(make, rule).await, session());
    let hard = [Budget::new(Scope::team("search"), Window::Total, money(100))];
    let soft = [hard[0].clone().soft()];
    let first = desk.granted(&ask(session, &soft, MOST / 2), 0).await;
    let second = desk.granted(&ask(session, &soft, MOST), 0).await;
    let third = desk.granted(&ask(session, &soft, MOST), 0).await;
    desk.stands(&hard[0], 0, 0, MOST).await;
    let granted = [&first, &second, &third].map(|grant| grant.reservation.granted.nanos());
    rule.same("granted, as far as it can be counted", &granted, &[MOST / 2, MOST - MOST / 2, 0]);
    for grant in [first, second, third] {
        desk.settle(&grant.reservation, 10, 0).await;
    }
    desk.stands(&hard[0], 0, 30, 0).await;
    desk.granted(&ask(session, &hard, 70), 0).await;
    rule.holds("no more than was there", desk.denied(&ask(session, &hard, 1), 0).await.is_held);
}

pub(super) async fn the_stores_own_clock_will_do<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [Budget::new(Scope::team("search"), Window::Total, money(100))];
    let verdict = rule.answer(desk.store.reserve(&ask(session, &pots, 60), At::Store).await);
    let Verdict::Allow(grant) = verdict else { panic!("{}: {verdict:?}", rule.0) };
    rule.answer(desk.store.settle(&grant.reservation, money(50), At::Store).await);
    rule.answer(desk.store.heartbeat(session, At::Store).await);
    let standing = &rule.answer(desk.store.standing(&pots, At::Store).await)[0];
    rule.same("spent, held", &(standing.spent, standing.held), &(money(50), money(0)));

    // A clock must move, and in the right unit.
    let daily = [Budget::new(Scope::team("search"), Window::Day, money(100))];
    let before = SystemClock.now();
    let ends = rule.answer(desk.store.standing(&daily, At::Store).await)[0].resets_at;
    let (_, expected) = Window::Day.around(before);
    let (_, a_moment_later) = Window::Day.around(SystemClock.now());
    rule.holds("a day ends at the next midnight", ends == expected || ends == a_moment_later);
}
