//! Many tasks at one time.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Desk, ask, parallel, requests, session, tokens};
use crate::domain::limit::Measure;
use crate::store::conformance::{Rule, TASKS, at};
use crate::store::rate_limit::{RateLimitStore, Used, Verdict};

pub(super) async fn no_more_than_the_limit_goes_through_under_a_thousand_tasks<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Arc::new(Desk::open(make, rule).await), session());
    let limits = [requests("team", TASKS / 5), tokens("team", TASKS), parallel("team", TASKS / 10)];
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (desk, mut limits) = (desk.clone(), limits.clone());
        tasks.spawn(async move {
            limits.rotate_left(usize::try_from(task % 3).unwrap_or(0));
            let Verdict::Allow(allowed) = desk.acquire(&ask(session, &limits).tokens(4), 0).await else {
                return [0, 0, 0];
            };
            tokio::task::yield_now().await;
            match task % 5 {
                // Never settled.
                0 => [1, 4, 1],
                // Settled twice, both at once.
                1 => {
                    let mut twice = JoinSet::new();
                    for _ in 0..2 {
                        let (desk, permit) = (desk.clone(), allowed.permit.clone());
                        twice.spawn(async move { desk.settle(&permit, Used::Tokens(3), 0).await });
                    }
                    twice.join_all().await;
                    [1, 3, 0]
                }
                2 => {
                    desk.settle(&allowed.permit, Used::Nothing, 0).await;
                    [0, 0, 0]
                }
                _ => {
                    desk.settle(&allowed.permit, Used::AsEstimated, 0).await;
                    [1, 4, 0]
                }
            }
        });
    }
    let ended = tasks.join_all().await;
    let taken = ended.iter().fold([0, 0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]);
    rule.holds("some went through", taken[0] > 0);
    let standings = rule.answer(desk.store.standing(&limits, at(0)).await);
    for (standing, taken) in standings.iter().zip(taken) {
        // A refund may give back too little, where others have come before it; it never gives too much.
        let most = standing.limit.most.saturating_sub(taken);
        let is_so = standing.left <= most && (standing.left == most || standing.limit.measure != Measure::Parallel);
        rule.holds(&format!("{taken} are taken, and {} left of {}", standing.left, standing.limit), is_so);
        rule.holds(&format!("{taken} of {}", standing.limit), taken <= standing.limit.most);
    }
}
