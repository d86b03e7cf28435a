//! The effects of time: windows, silent sessions, clocks that go back.

use std::slice::from_ref;
use std::time::Duration;

use super::{Desk, HOUR, LEASE, ask, day, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::budget::BudgetStore;
use crate::store::conformance::{Rule, at, time};

pub(super) async fn windows_begin_anew_with_the_calendar<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let windows = [Window::Day, Window::Week, Window::Month, Window::Total];
    let pots = windows.map(|window| Budget::new(Scope::team("search"), window, money(100)));
    let grant = desk.granted(&ask(session, &pots, 100), 0).await;
    desk.settle(&grant.reservation, 100, 0).await;
    // From Tuesday the 24th at nine to Wednesday, Monday and December.
    for (ends_after, pot) in [15 * HOUR, (15 + 5 * 24) * HOUR, (15 + 6 * 24) * HOUR].into_iter().zip(&pots) {
        let one = || ask(session, from_ref(pot), 1);
        let denial = desk.denied(&one(), ends_after - 1).await;
        rule.same("when it resets", &denial.standing.resets_at, &Some(time(ends_after)));
        desk.stands(pot, ends_after - 1, 100, 0).await;
        desk.stands(pot, ends_after, 0, 0).await;
        desk.granted(&one(), ends_after).await;
    }
    let denial = desk.denied(&ask(session, &pots[3..], 1), 400 * 24 * HOUR).await;
    rule.same("a total budget never resets", &denial.standing.resets_at, &None);
}

pub(super) async fn a_settlement_after_midnight_counts_in_yesterday<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let month = Budget::new(Scope::team("search"), Window::Month, money(1_000));
    let pots = [day("search", 100), month];
    let midnight = 15 * HOUR;
    let late = desk.granted(&ask(session, &pots, 60), midnight - 1).await;
    let later = desk.granted(&ask(session, &pots, 30), midnight - 1).await;
    desk.settle(&late.reservation, 55, midnight).await;
    desk.stands(&pots[0], midnight, 0, 0).await;
    desk.stands(&pots[1], midnight, 55, 30).await;
    let today = desk.granted(&ask(session, &pots, 100), midnight + 1).await;
    desk.settle(&later.reservation, 1_000, midnight + 2).await;
    desk.stands(&pots[0], midnight + 2, 0, 100).await;
    desk.stands(&pots[1], midnight + 2, 1_055, 100).await;
    desk.settle(&today.reservation, 1, midnight + 3).await;
    desk.stands(&pots[0], midnight + 3, 1, 0).await;
}

pub(super) async fn a_hold_of_a_silent_session_is_forfeited_not_released<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, dead, alive) = (Desk::open(make, rule).await, session(), session());
    let pots = [day("search", 100)];
    desk.granted(&ask(dead, &pots, 60), 0).await;
    desk.stands(&pots[0], LEASE, 0, 60).await;
    let denial = desk.denied(&ask(alive, &pots, 41), LEASE + 1).await;
    rule.holds("what was held is spent", !denial.is_held);
    desk.stands(&pots[0], LEASE + 1, 60, 0).await;
    desk.granted(&ask(alive, &pots, 40), LEASE + 1).await;
    desk.stands(&pots[0], LEASE + 2, 60, 40).await;
    // A sign of life brings nothing back.
    rule.answer(desk.store.heartbeat(dead, at(LEASE + 3)).await);
    desk.stands(&pots[0], LEASE + 3, 60, 40).await;
    // A forfeit of yesterday does not count today.
    desk.stands(&pots[0], 15 * HOUR, 0, 0).await;
}

pub(super) async fn a_settlement_corrects_a_forfeit<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let pots = [day("search", 100), Budget::new(Scope::team("search"), Window::Total, money(1_000))];
    let less = desk.granted(&ask(session, &pots, 60), 0).await;
    let more = desk.granted(&ask(session, &pots, 30), 0).await;
    desk.stands(&pots[0], LEASE + 1, 90, 0).await;
    for _ in 0..2 {
        desk.settle(&less.reservation, 20, 2 * HOUR).await;
        desk.stands(&pots[0], 2 * HOUR, 50, 0).await;
    }
    // Hours later, in tomorrow's window, and for more than was held.
    for _ in 0..2 {
        desk.settle(&more.reservation, 70, 20 * HOUR).await;
        desk.stands(&pots[0], 20 * HOUR, 0, 0).await;
        desk.stands(&pots[1], 20 * HOUR, 90, 0).await;
    }
}

pub(super) async fn a_living_session_keeps_its_holds<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, beating, asking) = (Desk::open(make, rule).await, session(), session());
    let pots = [day("search", 1_000)];
    desk.granted(&ask(beating, &pots, 60), 0).await;
    desk.granted(&ask(asking, &pots, 30), 0).await;
    for beat in 1..=10 {
        rule.answer(desk.store.heartbeat(beating, at(beat * LEASE)).await);
        desk.granted(&ask(asking, &pots, 1), beat * LEASE).await;
        desk.stands(&pots[0], beat * LEASE, 0, 90 + beat).await;
    }
    rule.answer(desk.store.heartbeat(asking, at(11 * LEASE)).await);
    desk.stands(&pots[0], 11 * LEASE + 1, 60, 40).await;
}

pub(super) async fn every_session_has_a_lease_of_its_own<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let [brief, usual, long] = [20, LEASE, 900].map(|lease| Session::new(Duration::from_secs(lease.unsigned_abs())));
    let (desk, pots) = (Desk::open(make, rule).await, [day("search", 100)]);
    for (session, nanos) in [(long, 40), (brief, 10), (usual, 30)] {
        desk.granted(&ask(session, &pots, nanos), 0).await;
    }
    for (seconds, spent) in [(20, 0), (21, 10), (LEASE, 10), (LEASE + 1, 40), (900, 40), (901, 80)] {
        desk.stands(&pots[0], seconds, spent, 80 - spent).await;
    }
}

pub(super) async fn a_clock_that_goes_back_opens_no_window<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let (pots, midnight) = ([day("search", 100)], 15 * HOUR);
    let early = desk.granted(&ask(session, &pots, 10), midnight - 1).await;
    let grant = desk.granted(&ask(session, &pots, 100), midnight + 60).await;
    for back in [0, midnight - 1, midnight, midnight + 59, -400 * 24 * HOUR] {
        desk.denied(&ask(session, &pots, 1), back).await;
        desk.stands(&pots[0], back, 0, 100).await;
    }
    desk.settle(&early.reservation, 10, midnight - 1).await;
    desk.settle(&grant.reservation, 80, midnight - 1).await;
    desk.stands(&pots[0], midnight - 1, 80, 0).await;
    // It does not make a session silent, or keep a silent one alive.
    desk.granted(&ask(session, &pots, 20), 0).await;
    desk.stands(&pots[0], midnight + 60 + LEASE, 80, 20).await;
    desk.stands(&pots[0], midnight + 60 + LEASE + 1, 100, 0).await;
}
