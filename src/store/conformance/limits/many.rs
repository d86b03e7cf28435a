//! Concurrency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::{Desk, LEASE, ask, id, parallel, requests, session, tokens};
use crate::domain::limit::Measure;
use crate::store::conformance::{Gate, Rule, TASKS, at};
use crate::store::rate_limit::{Acquire, RateLimitStore, Used, Verdict};

pub(super) async fn no_more_than_the_limit_goes_through_under_two_thousand_tasks<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let desk = Arc::new(Desk::open(make, rule).await);
    storm([desk.clone(), desk]).await;
}

/// Two desks, on one store or on two handles, which tasks use alternately: a task that asks at one settles at the
/// other.
pub(super) async fn storm<S: RateLimitStore>(desks: [Arc<Desk<S>>; 2]) {
    let (rule, sessions) = (desks[0].rule, [session(), session()]);
    let limits = [requests("team", TASKS / 5), tokens("team", TASKS), parallel("team", TASKS / 10)];
    // What is certainly taken: it is counted after it was taken, and removed before it is given back.
    let taken = Arc::new([const { AtomicU64::new(0) }; 3]);
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for task in 0..TASKS {
        let (turn, mut turned) = (usize::from(task / 2 % 2 == 1), desks.clone());
        turned.rotate_left(turn);
        let ([desk, other], session) = (turned, sessions[turn]);
        let (gate, limits, taken) = (gate.clone(), limits.clone(), taken.clone());
        tasks.spawn(async move {
            gate.pass().await;
            let mut asked = limits.clone();
            asked.rotate_left(usize::try_from(task % 3).unwrap_or(0));
            let Verdict::Allow(allowed) = desk.acquire(&ask(session, &asked).tokens(4), 0).await else { return };
            for ((limit, taken), more) in limits.iter().zip(&*taken).zip([1, 4, 1]) {
                let sum = taken.fetch_add(more, Ordering::SeqCst) + more;
                rule.holds(&format!("{sum} were taken of {limit}"), sum <= limit.most);
            }
            tokio::task::yield_now().await;
            let given_back = [[0, 0, 0], [0, 1, 1], [1, 4, 1], [0, 0, 1], [0, 0, 1]];
            for (taken, less) in taken.iter().zip(given_back[usize::try_from(task % 5).unwrap_or(0)]) {
                taken.fetch_sub(less, Ordering::SeqCst);
            }
            match task % 5 {
                // Never settled.
                0 => {}
                // Settled twice, both at once.
                1 => {
                    let mut twice = JoinSet::new();
                    for desk in [desk, other] {
                        let permit = allowed.permit.clone();
                        twice.spawn(async move { desk.settle(&permit, Used::Tokens(3), 0).await });
                    }
                    twice.join_all().await;
                }
                2 => other.settle(&allowed.permit, Used::Nothing, 0).await,
                _ => other.settle(&allowed.permit, Used::AsEstimated, 0).await,
            }
        });
    }
    gate.open();
    tasks.join_all().await;
    let taken = taken.each_ref().map(|taken| taken.load(Ordering::SeqCst));
    rule.holds("some went through", taken[0] > 0);
    for desk in desks {
        let standings = rule.answer(desk.store.standing(&limits, at(0)).await);
        for (standing, taken) in standings.iter().zip(taken) {
            // A refund may give back too little, if others came before it, but never too much.
            let most = standing.limit.most.saturating_sub(taken);
            let is_so = standing.left <= most && (standing.left == most || standing.limit.measure != Measure::Parallel);
            rule.holds(&format!("{taken} are taken, and {} left of {}", standing.left, standing.limit), is_so);
        }
    }
}

/// A gateway that was presumed dead settles everything at once, while another takes the slots that it had.
pub(super) async fn slots_that_fall_free_under_two_thousand_tasks_are_free_once<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, dead, alive) = (Arc::new(Desk::open(make, rule).await), session(), session());
    let (count, now) = (TASKS / 2, LEASE + 1);
    let limit = parallel("team", count);
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (desk, limit) = (desk.clone(), limit.clone());
        asking.spawn(async move { desk.allowed(&ask(dead, &[limit]), 0).await.permit });
    }
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for permit in asking.join_all().await {
        let (desk, gate) = (desk.clone(), gate.clone());
        let (at_the_desk, open, limit) = (desk.clone(), gate.clone(), limit.clone());
        tasks.spawn(async move {
            gate.pass().await;
            desk.settle(&permit, Used::AsEstimated, now).await;
        });
        tasks.spawn(async move {
            open.pass().await;
            at_the_desk.allowed(&ask(alive, &[limit]), now).await;
        });
    }
    gate.open();
    tasks.join_all().await;
    desk.stands(&limit, now, 0).await;
}

/// A caller that asks again after an error may do so while its first question is still on its way.
pub(super) async fn one_id_that_is_asked_for_twice_at_one_moment_is_counted_once<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    let limits = [requests("team", 600), tokens("team", 6_000), parallel("team", 600)];
    let ids: Vec<_> = (0..16).map(|_| id()).collect();
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for id in ids.iter().cycle().take(16 * 16).copied() {
        let (desk, limits, gate) = (desk.clone(), limits.clone(), gate.clone());
        tasks.spawn(async move {
            gate.pass().await;
            desk.allowed(&Acquire::new(id, session, &limits).tokens(10), 0).await.permit
        });
    }
    gate.open();
    let permits = tasks.join_all().await;
    for (limit, left) in limits.iter().zip([600 - 16, 6_000 - 160, 600 - 16]) {
        desk.stands(limit, 0, left).await;
    }
    for permit in &permits {
        let first = permits.iter().find(|other| other.id == permit.id);
        rule.same("what one id permits", &Some(permit), &first);
        // Debts can be settled in any order, refunds cannot, and nobody knows which was first.
        desk.settle(permit, Used::Tokens(14), 0).await;
    }
    for (limit, left) in limits.iter().zip([600 - 16, 6_000 - 224, 600]) {
        desk.stands(limit, 0, left).await;
    }
}
