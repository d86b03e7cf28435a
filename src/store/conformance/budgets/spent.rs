//! What counts as spent: over time, beyond a limit, and for whom.

use std::slice::from_ref;

use super::{Desk, HOUR, LEASE, ask, day, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::scope::Scope;
use crate::store::budget::BudgetStore;
use crate::store::conformance::{Rule, at, time};

pub(super) async fn a_rolling_window_forgets_slice_by_slice<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let desk = Desk::open(make, rule).await;
    let (session, pot) =
        (session(), Budget::new(Scope::team("search"), "rolling 24h".parse().unwrap_or(Window::Day), money(100)));
    let pots = from_ref(&pot);
    for (hour, nanos) in [(0, 30), (1, 40)] {
        let grant = desk.granted(&ask(session, pots, nanos), hour * HOUR).await;
        desk.settle(&grant.reservation, nanos, hour * HOUR + 60).await;
    }
    let held = desk.granted(&ask(session, pots, 20), 2 * HOUR).await;
    let denial = desk.denied(&ask(session, pots, 11), 2 * HOUR).await;
    rule.same("when the first part of it becomes available", &denial.standing.resets_at, &Some(time(25 * HOUR)));
    // Its session is kept alive, so its hold stays however long it takes.
    for hour in 2..26 {
        for minute in (0..60).step_by(4) {
            let at = at(hour * HOUR + minute * 60);
            rule.answer(desk.store.heartbeat(session, at).await);
        }
        let spent = if hour < 25 { 70 } else { 40 };
        desk.stands(&pot, hour * HOUR, spent, 20).await;
    }
    desk.settle(&held.reservation, 15, 26 * HOUR - 1).await;
    desk.stands(&pot, 26 * HOUR, 15, 0).await;
    desk.stands(&pot, 27 * HOUR - 1, 15, 0).await;
    desk.stands(&pot, 27 * HOUR, 0, 0).await;
}

pub(super) async fn a_soft_pot_refuses_nothing_and_is_counted<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let desk = Desk::open(make, rule).await;
    let (session, soft, hard) = (session(), day("soft", 10).soft(), day("hard", 100));
    let both = [soft.clone(), hard.clone()];
    let grant = desk.granted(&ask(session, &both, 60), 0).await;
    desk.stands(&soft, 0, 0, 60).await;
    desk.settle(&grant.reservation, 50, 0).await;
    desk.stands(&soft, 0, 50, 0).await;
    let denial = desk.denied(&ask(session, &both, 51), 0).await;
    rule.same("which budget refuses", &denial.standing.budget, &hard);
    desk.granted(&ask(session, &both, 50), 0).await;
}

pub(super) async fn a_threshold_is_told_once_a_window<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let desk = Desk::open(make, rule).await;
    let (session, pot) = (session(), day("search", 100));
    let pots = from_ref(&pot);
    let mut asked = 0;
    for (actual, told) in [(49, vec![]), (1, vec![50]), (0, vec![]), (45, vec![80, 95]), (30, vec![100]), (9, vec![])] {
        // Each call is granted what is left, or nothing, and may cost more.
        asked += 1;
        let grant = desk
            .granted(&ask(session, &[Budget { limit: money(1_000), ..pot.clone() }, pot.clone().soft()], 1), 0)
            .await;
        let news = desk.settle(&grant.reservation, actual, 0).await;
        let percents: Vec<u8> = news.iter().map(|crossing| crossing.percent).collect();
        rule.same(&format!("which thresholds settlement {asked}, of {actual}, reaches"), &percents, &told);
        let again = desk.settle(&grant.reservation, actual, 0).await;
        rule.same("which thresholds settling it again reaches", &again, &Vec::new());
    }
    // It began yesterday and is settled today, so it reaches no threshold of today.
    let grant = desk.granted(&ask(session, &[pot.clone().soft()], 90), 14 * HOUR).await;
    rule.same("yesterday's", &desk.settle(&grant.reservation, 90, 15 * HOUR).await, &Vec::new());
    let grant = desk.granted(&ask(session, pots, 90), 15 * HOUR).await;
    let news = desk.settle(&grant.reservation, 90, 15 * HOUR).await;
    let percents: Vec<u8> = news.iter().map(|crossing| crossing.percent).collect();
    rule.same("which thresholds are reached on the next day", &percents, &vec![50, 80]);
    let limits: Vec<_> =
        news.iter().map(|crossing| (crossing.limit, crossing.spent, crossing.pot == pot.pot)).collect();
    rule.same("of what", &limits, &vec![(money(100), money(90), true); 2]);
}

pub(super) async fn a_pot_that_is_left_out_pays_nothing<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let desk = Desk::open(make, rule).await;
    let (session, one, other) = (session(), day("one", 100), day("other", 100));
    let mut grant = desk.granted(&ask(session, &[one.clone(), other.clone()], 60), 0).await;
    grant.reservation.pots.retain(|pinned| pinned.pot == other.pot);
    desk.settle(&grant.reservation, 50, 0).await;
    desk.stands(&one, 0, 0, 0).await;
    desk.stands(&other, 0, 50, 0).await;
    // A forfeit is given back too, if there was nothing to pay.
    let mut grant = desk.granted(&ask(session, &[one.clone(), other.clone()], 10), 0).await;
    desk.stands(&one, LEASE + 1, 10, 0).await;
    grant.reservation.pots.retain(|pinned| pinned.pot == other.pot);
    desk.settle(&grant.reservation, 5, LEASE + 2).await;
    desk.stands(&one, LEASE + 2, 0, 0).await;
    desk.stands(&other, LEASE + 2, 55, 0).await;
}
