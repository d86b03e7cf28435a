//! Concurrency.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::task::JoinSet;

use super::extends::{can_grow, in_all};
use super::{Desk, HOUR, LEASE, ask, day, money, session};
use crate::domain::budget::Budget;
use crate::domain::ledger::{THRESHOLDS, Wish};
use crate::store::budget::{BudgetStore, Reserve, Verdict};
use crate::store::conformance::{Gate, Rule, TASKS, at};

pub(super) async fn spent_and_held_never_exceed_the_limit_under_two_thousand_tasks<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let can_grow = can_grow(make, rule).await;
    let desk = Arc::new(Desk::open(make, rule).await);
    storm([desk.clone(), desk], 0, can_grow).await;
}

/// Many callers wait for the first moment of a window.
pub(super) async fn a_window_that_begins_under_two_thousand_tasks_loses_no_hold<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (can_grow, midnight) = (can_grow(make, rule).await, 15 * HOUR);
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    // A pot that was never used has no window that could begin anew. All of these were used, and nothing is left in
    // them.
    let pots = [team(), own(0), own(1), own(2)];
    let spent = desk.granted(&ask(session, &pots, most() - 9), midnight - 1).await;
    desk.settle(&spent.reservation, most() - 9, midnight - 1).await;
    desk.granted(&ask(session, &pots, 9), midnight - 1).await;
    storm([desk.clone(), desk], midnight, can_grow).await;
}

/// Two desks, on one store or on two handles, which tasks use alternately: a task that asks at one settles at the
/// other.
pub(super) async fn storm<S: BudgetStore>(desks: [Arc<Desk<S>>; 2], seconds: i64, can_grow: bool) {
    let (rule, sessions) = (desks[0].rule, [session(), session()]);
    // Enough for a fifth of them, in two pots that are named in either order.
    let (most, each) = (most(), 5);
    // What is certainly spent and held: it is counted after the hold, and reduced to what is spent before the
    // settlement.
    let sum = Arc::new(AtomicI64::new(0));
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for task in 0..TASKS {
        let (turn, mut turned) = (usize::from(task / 2 % 2 == 1), desks.clone());
        turned.rotate_left(turn);
        let ([desk, other], session) = (turned, sessions[turn]);
        let (gate, sum) = (gate.clone(), sum.clone());
        tasks.spawn(async move {
            gate.pass().await;
            let pots = if task % 2 == 0 { [own(task % 3), team()] } else { [team(), own(task % 3)] };
            let (first, mut held) = (ask(session, &pots, each), each);
            let Verdict::Allow(grant) = desk.reserve(&first, seconds).await else { return (0, 0) };
            let now = sum.fetch_add(each, Ordering::SeqCst) + each;
            rule.holds(&format!("{now} were granted of {most}"), now <= most);
            if can_grow
                && task % 3 == 0
                && let Some(grown) = other.extended(&in_all(&first, each + 1, each + 4, 1), seconds).await
            {
                held = grown.reservation.granted.nanos();
                let now = sum.fetch_add(held - each, Ordering::SeqCst) + held - each;
                rule.holds(&format!("{now} were granted of {most}, some of it later"), now <= most);
            }
            tokio::task::yield_now().await;
            if task % 7 == 0 {
                for standing in rule.answer(desk.store.standing(&pots, at(seconds)).await) {
                    let sum = standing.spent.saturating_add(standing.held);
                    rule.holds(&format!("spent + held <= limit of {standing:?}"), sum <= standing.budget.limit);
                }
            }
            if task % 5 == 0 {
                // Never settled.
                return (0, held);
            }
            sum.fetch_sub(held - 3, Ordering::SeqCst);
            match task % 5 {
                // Settled twice, both at once.
                1 => {
                    let mut twice = JoinSet::new();
                    for desk in [desk, other] {
                        let reservation = grant.reservation.clone();
                        twice.spawn(async move { desk.settle(&reservation, 3, seconds).await });
                    }
                    twice.join_all().await;
                }
                _ => drop(other.settle(&grant.reservation, 3, seconds).await),
            }
            (3, 0)
        });
    }
    gate.open();
    let ended = tasks.join_all().await;
    let (spent, held) = ended.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    rule.holds("some were granted, and not all", spent > 0 && ended.contains(&(0, 0)));
    for desk in desks {
        desk.stands(&team(), seconds, spent, held).await;
        let standings = rule.answer(desk.store.standing(&[own(0), own(1), own(2)], at(seconds)).await);
        let sums = standings.iter().fold((0, 0), |sum, one| (sum.0 + one.spent.nanos(), sum.1 + one.held.nanos()));
        rule.same("spent and held of their own pots", &sums, &(spent, held));
    }
}

fn most() -> i64 {
    i64::try_from(TASKS).unwrap_or(0)
}

fn team() -> Budget {
    day("search", most())
}

fn own(n: u64) -> Budget {
    day(&format!("own {n}"), most())
}

/// A gateway that was presumed dead settles everything at once, while another goes on.
pub(super) async fn what_falls_silent_under_two_thousand_tasks_is_charged_once<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, dead, alive) = (Arc::new(Desk::open(make, rule).await), session(), session());
    let (count, each, now) = (most() / 2, 5, LEASE + 1);
    // While all of it is forfeited, there is enough for a tenth of the others.
    let pot = day("search", count * each * 11 / 10);
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (desk, pot) = (desk.clone(), pot.clone());
        asking.spawn(async move { desk.granted(&ask(dead, &[pot], each), 0).await.reservation });
    }
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for (index, reservation) in asking.join_all().await.into_iter().enumerate() {
        let (desk, gate) = (desk.clone(), gate.clone());
        let (at_the_desk, open, pot) = (desk.clone(), gate.clone(), pot.clone());
        tasks.spawn(async move {
            gate.pass().await;
            if index % 10 == 0 {
                // Nobody ever does.
                return (each, 0);
            }
            for _ in 0..=index % 2 {
                desk.settle(&reservation, 3, now).await;
            }
            (3, 0)
        });
        tasks.spawn(async move {
            open.pass().await;
            match at_the_desk.reserve(&ask(alive, &[pot], each), now).await {
                Verdict::Allow(_) => (0, each),
                Verdict::Deny(_) => (0, 0),
            }
        });
    }
    gate.open();
    let ended = tasks.join_all().await;
    let (spent, held) = ended.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    desk.stands(&pot, now, spent, held).await;
    rule.holds(
        &format!("held and spent do not exceed the limit: {held} is held, {spent} is spent"),
        held > 0 && spent + held <= pot.limit.nanos(),
    );
}

/// A caller that asks again after an error may do so while its first question is still on its way.
pub(super) async fn one_id_that_is_asked_for_twice_at_one_moment_is_held_once<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    let pots = [day("search", 1_000), day("lab", 1_000)];
    let wish = Wish { min: money(1), want: money(9), share: 2 };
    let ids: Vec<_> = (0..16).map(|_| super::id()).collect();
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for id in ids.iter().cycle().take(16 * 16).copied() {
        let (desk, pots, gate) = (desk.clone(), pots.clone(), gate.clone());
        tasks.spawn(async move {
            gate.pass().await;
            desk.granted(&Reserve::new(id, session, &pots, wish), 0).await.reservation
        });
    }
    gate.open();
    let held = tasks.join_all().await;
    let sum = ids.len() as i64 * 9;
    for pot in &pots {
        desk.stands(pot, 0, 0, sum).await;
    }
    for reservation in &held {
        let first = held.iter().find(|other| other.id == reservation.id);
        rule.same("what is held under one id", &Some(reservation), &first);
    }
    for reservation in &held {
        desk.settle(reservation, 2, 0).await;
    }
    desk.stands(&pots[0], 0, ids.len() as i64 * 2, 0).await;
}

pub(super) async fn a_threshold_is_told_to_one_of_all_who_settle_at_one_moment<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    let most = i64::try_from(TASKS / 4).unwrap_or(0);
    let pots = [day("search", most), day("lab", most * 2)];
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for _ in 0..most {
        let grant = desk.granted(&ask(session, &pots, 1), 0).await;
        let (desk, gate) = (desk.clone(), gate.clone());
        tasks.spawn(async move {
            gate.pass().await;
            desk.settle(&grant.reservation, 1, 0).await
        });
    }
    gate.open();
    let mut told: Vec<_> = tasks.join_all().await.into_iter().flatten().map(|news| (news.pot, news.percent)).collect();
    told.sort();
    // All of one pot is spent, and half of the other.
    let reached = |at: usize, most: u8| {
        let percents = THRESHOLDS.into_iter().filter(move |percent| *percent <= most);
        let pot = &pots[at].pot;
        percents.map(move |percent| (pot.clone(), percent))
    };
    let mut want: Vec<_> = reached(0, 100).chain(reached(1, 50)).collect();
    want.sort();
    rule.same("what all of them together are told", &told, &want);
}
