//! Concurrent calls.

use std::time::Duration;

use super::{Desk, LEASE, ask, parallel, session, tokens};
use crate::store::Session;
use crate::store::conformance::{Rule, at};
use crate::store::rate_limit::{RateLimitStore, Used};

pub(super) async fn a_slot_is_held_until_it_is_settled<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [parallel("ada", 2)];
    let first = desk.allowed(&ask(session, &limits), 0).await;
    let second = desk.allowed(&ask(session, &limits), 0).await;
    // However long it takes: slots do not come back after a minute.
    for beat in 1..=20 {
        rule.answer(desk.store.heartbeat(session, at(beat * LEASE)).await);
        let denial = desk.denied(&ask(session, &limits), beat * LEASE).await;
        rule.same("which limit refuses", &denial.index, &0);
        rule.holds("waiting helps", denial.retry_after.is_some_and(|wait| !wait.is_zero()));
    }
    for (permit, used) in [(&first.permit, Used::Tokens(5)), (&second.permit, Used::AsEstimated)] {
        desk.settle(permit, used, 20 * LEASE).await;
        let next = desk.allowed(&ask(session, &limits), 20 * LEASE).await;
        desk.denied(&ask(session, &limits), 20 * LEASE).await;
        desk.settle(&next.permit, Used::Nothing, 20 * LEASE).await;
        desk.allowed(&ask(session, &limits), 20 * LEASE).await;
    }
}

pub(super) async fn slots_of_a_silent_session_are_free<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, dead, alive) = (Desk::open(make, rule).await, session(), session());
    let limits = [parallel("ada", 2), tokens("ada", 60)];
    let first = desk.allowed(&ask(dead, &limits).tokens(20), 0).await;
    desk.allowed(&ask(dead, &limits).tokens(20), 0).await;
    desk.denied(&ask(alive, &limits), LEASE).await;
    desk.stands(&limits[0], LEASE, 0).await;
    desk.stands(&limits[0], LEASE + 1, 2).await;
    desk.allowed(&ask(alive, &limits), LEASE + 1).await;
    desk.allowed(&ask(alive, &limits), LEASE + 1).await;
    // A late settlement frees no slot twice; its tokens are counted as usual.
    for _ in 0..2 {
        desk.settle(&first.permit, Used::Tokens(30), LEASE + 2).await;
        desk.stands(&limits[0], LEASE + 2, 0).await;
        desk.stands(&limits[1], LEASE + 2, 20).await;
    }
    desk.denied(&ask(alive, &limits), LEASE + 2).await;
    // A session that is heard from again has its slots again, and those given to others meanwhile stay given.
    rule.answer(desk.store.heartbeat(dead, at(LEASE + 3)).await);
    rule.answer(desk.store.heartbeat(alive, at(LEASE + 3)).await);
    desk.stands(&limits[0], 2 * LEASE + 3, 0).await;
    desk.stands(&limits[0], 2 * LEASE + 4, 2).await;
}

pub(super) async fn a_session_that_comes_back_has_its_slots_again<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, stalled, other) = (Desk::open(make, rule).await, session(), session());
    let limits = [parallel("ada", 3)];
    let first = desk.allowed(&ask(stalled, &limits), 0).await;
    let second = desk.allowed(&ask(stalled, &limits), 0).await;
    desk.allowed(&ask(other, &limits), LEASE).await;
    desk.stands(&limits[0], LEASE + 1, 2).await;
    // By any message.
    rule.answer(desk.store.heartbeat(stalled, at(LEASE + 2)).await);
    desk.stands(&limits[0], LEASE + 2, 0).await;
    desk.denied(&ask(other, &limits), LEASE + 2).await;
    for _ in 0..2 {
        desk.settle(&first.permit, Used::AsEstimated, LEASE + 3).await;
        desk.stands(&limits[0], LEASE + 3, 1).await;
    }
    let other_again = 2 * LEASE;
    rule.answer(desk.store.heartbeat(other, at(other_again)).await);
    desk.stands(&limits[0], 2 * LEASE + 3, 2).await;
    desk.allowed(&ask(other, &limits), 2 * LEASE + 3).await;
    desk.allowed(&ask(other, &limits), 2 * LEASE + 3).await;
    // Before it is asked for another slot, so that there is none.
    desk.denied(&ask(stalled, &limits), 2 * LEASE + 4).await;
    desk.stands(&limits[0], 2 * LEASE + 4, 0).await;
    desk.settle(&second.permit, Used::AsEstimated, 2 * LEASE + 4).await;
    desk.stands(&limits[0], 2 * LEASE + 4, 0).await;
}

pub(super) async fn a_living_session_keeps_its_slots<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, beating, asking) = (Desk::open(make, rule).await, session(), session());
    let limits = [parallel("ada", 100)];
    desk.allowed(&ask(beating, &limits), 0).await;
    desk.allowed(&ask(asking, &limits), 0).await;
    for beat in 1..=10 {
        rule.answer(desk.store.heartbeat(beating, at(beat * LEASE)).await);
        desk.allowed(&ask(asking, &limits), beat * LEASE).await;
        desk.stands(&limits[0], beat * LEASE, 98 - beat.unsigned_abs()).await;
    }
    // A refused request renews the lease too.
    desk.denied(&ask(asking, &[parallel("ada", 1)]), 11 * LEASE).await;
    desk.stands(&limits[0], 11 * LEASE, 100 - 12).await;
    desk.stands(&limits[0], 11 * LEASE + 1, 100 - 11).await;
}

pub(super) async fn every_session_has_a_lease_of_its_own<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let [brief, usual, long] = [2, LEASE, 900].map(|lease| Session::new(Duration::from_secs(lease.unsigned_abs())));
    let (desk, limits) = (Desk::open(make, rule).await, [parallel("ada", 3)]);
    for session in [long, brief, usual] {
        desk.allowed(&ask(session, &limits), 0).await;
    }
    for (seconds, left) in [(2, 0), (3, 1), (LEASE, 1), (LEASE + 1, 2), (900, 2), (901, 3)] {
        desk.stands(&limits[0], seconds, left).await;
    }
}
