//! Many tasks at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::task::JoinSet;

use super::extends::{can_grow, in_all};
use super::{Desk, ask, day, session};
use crate::store::budget::{BudgetStore, Verdict};
use crate::store::conformance::{Gate, Rule, TASKS, at};

pub(super) async fn spent_and_held_never_exceed_the_limit_under_two_thousand_tasks<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let can_grow = can_grow(make, rule).await;
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    // Enough for a fifth of them, in two pots that are asked for in either order.
    let (most, each) = (i64::try_from(TASKS).unwrap_or(0), 5);
    let team = day("search", most);
    // What is spent and held for certain: counted after it is held, and down to what is spent before it is settled.
    let sum = Arc::new(AtomicI64::new(0));
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for task in 0..TASKS {
        let (desk, team, sum) = (desk.clone(), team.clone(), sum.clone());
        let gate = gate.clone();
        tasks.spawn(async move {
            gate.pass().await;
            let own = day(&format!("own {}", task % 3), most);
            let pots = if task % 2 == 0 { [own, team] } else { [team, own] };
            let (first, mut held) = (ask(session, &pots, each), each);
            let Verdict::Allow(grant) = desk.reserve(&first, 0).await else { return (0, 0) };
            let now = sum.fetch_add(each, Ordering::SeqCst) + each;
            rule.holds(&format!("{now} were granted of {most}"), now <= most);
            if can_grow
                && task % 3 == 0
                && let Some(grown) = desk.extended(&in_all(&first, each + 1, each + 4, 1), 0).await
            {
                held = grown.reservation.granted.nanos();
                let now = sum.fetch_add(held - each, Ordering::SeqCst) + held - each;
                rule.holds(&format!("{now} were granted of {most}, some of it later"), now <= most);
            }
            tokio::task::yield_now().await;
            if task % 7 == 0 {
                for standing in rule.answer(desk.store.standing(&pots, at(0)).await) {
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
                    for _ in 0..2 {
                        let (desk, reservation) = (desk.clone(), grant.reservation.clone());
                        twice.spawn(async move { desk.settle(&reservation, 3, 0).await });
                    }
                    twice.join_all().await;
                }
                _ => drop(desk.settle(&grant.reservation, 3, 0).await),
            }
            (3, 0)
        });
    }
    gate.open();
    let ended = tasks.join_all().await;
    let (spent, held) = ended.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    rule.holds("some were granted, and not all", spent > 0 && ended.contains(&(0, 0)));
    desk.stands(&team, 0, spent, held).await;
    let own: Vec<_> = (0..3).map(|n| day(&format!("own {n}"), most)).collect();
    let standings = rule.answer(desk.store.standing(&own, at(0)).await);
    let sums = standings.iter().fold((0, 0), |sum, one| (sum.0 + one.spent.nanos(), sum.1 + one.held.nanos()));
    rule.same("spent and held of their own pots", &sums, &(spent, held));
}
