//! Two handles on one database, as two gateways have them.

use std::sync::Arc;

use super::many::storm;
use super::{Desk, LEASE, ask, parallel, requests, session, tokens};
use crate::domain::limit::Limit;
use crate::store::conformance::{Rule, at};
use crate::store::rate_limit::{RateLimitStore, Used};

async fn two<S: RateLimitStore>(make: &impl AsyncFn() -> (S, S), rule: Rule) -> [Desk<S>; 2] {
    let (here, there) = make().await;
    [here, there].map(|store| Desk { store, rule })
}

async fn both_stand<S: RateLimitStore>(desks: &[Desk<S>; 2], limits: &[Limit; 3], seconds: i64, left: [u64; 3]) {
    for desk in desks {
        for (limit, left) in limits.iter().zip(left) {
            desk.stands(limit, seconds, left).await;
        }
    }
}

fn limits() -> [Limit; 3] {
    [requests("ada", 60), tokens("ada", 100), parallel("ada", 2)]
}

pub(super) async fn what_one_handle_counts_is_counted_for_the_other<S: RateLimitStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let (desks, limits) = (two(make, rule).await, limits());
    // Whatever either handle has cached about them is not final.
    both_stand(&desks, &limits, 0, [60, 100, 2]).await;
    let [here, there] = &desks;
    let first = ask(session(), &limits).tokens(60);
    let allowed = here.allowed(&first, 0).await;
    both_stand(&desks, &limits, 0, [59, 40, 1]).await;
    let denial = there.denied(&ask(session(), &limits).tokens(41), 0).await;
    rule.same("which limit refuses", &denial.index, &1);
    rule.same("what one id permits", &there.allowed(&first, 0).await.permit, &allowed.permit);
    there.allowed(&ask(session(), &limits).tokens(40), 0).await;
    here.denied(&ask(session(), &limits[2..]), 0).await;
    both_stand(&desks, &limits, 0, [58, 0, 0]).await;
}

pub(super) async fn a_permit_that_two_settle_is_settled_once<S: RateLimitStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let (desks, limits) = (two(make, rule).await, limits());
    let [here, there] = &desks;
    let allowed = here.allowed(&ask(session(), &limits).tokens(60), 0).await;
    there.allowed(&ask(session(), &limits).tokens(10), 0).await;
    for (desk, used) in [(there, Used::Tokens(20)), (here, Used::Nothing), (there, Used::Tokens(90))] {
        desk.settle(&allowed.permit, used, 0).await;
        both_stand(&desks, &limits, 0, [58, 70, 1]).await;
    }
}

pub(super) async fn slots_of_a_silent_session_are_free_for_both<S: RateLimitStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    let (desks, limits) = (two(make, rule).await, [parallel("ada", 2)]);
    let ([here, there], dead, alive) = (&desks, session(), session());
    here.allowed(&ask(dead, &limits), 0).await;
    there.allowed(&ask(alive, &limits), 0).await;
    // Whichever handle it uses.
    rule.answer(here.store.heartbeat(alive, at(LEASE)).await);
    there.denied(&ask(alive, &limits), LEASE).await;
    for desk in &desks {
        desk.stands(&limits[0], LEASE + 1, 1).await;
    }
    rule.answer(there.store.heartbeat(dead, at(LEASE + 2)).await);
    for desk in &desks {
        desk.stands(&limits[0], LEASE + 2, 0).await;
    }
}

pub(super) async fn no_more_than_the_limit_goes_through_over_two_handles<S: RateLimitStore>(
    make: &impl AsyncFn() -> (S, S),
    rule: Rule,
) {
    storm(two(make, rule).await.map(Arc::new)).await;
}
