//! The store's own clock, and the largest numbers.

use std::slice::from_ref;
use std::time::Duration;

use jiff::Timestamp;

use super::{Desk, ask, left, parallel, requests, seconds, session, tokens};
use crate::domain::clock::{Clock, SystemClock};
use crate::store::At;
use crate::store::conformance::{Rule, at, time};
use crate::store::rate_limit::{Acquire, Denial, RateLimitStore, Used, Verdict};

pub(super) async fn the_stores_own_clock_will_do<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 1), parallel("ada", 2)];
    let verdict = rule.answer(desk.store.acquire(&ask(session, &limits), At::Store).await);
    let Verdict::Allow(allowed) = verdict else { panic!("{}: {verdict:?}", rule.0) };
    let denial = refused(&desk, &ask(session, &limits)).await;
    let wait = denial.retry_after.unwrap_or_default();
    // Some of the minute may have passed on a busy machine.
    let is_bounded = (Duration::from_secs(30)..=Duration::from_secs(60)).contains(&wait);
    rule.holds(&format!("a second request in the minute waits for the rest of it; got {wait:?}"), is_bounded);
    rule.answer(desk.store.heartbeat(session, At::Store).await);
    rule.answer(desk.store.settle(&allowed.permit, Used::Nothing, At::Store).await);
    let standings = rule.answer(desk.store.standing(&limits, At::Store).await);
    rule.same("what is left", &left(&standings), &vec![1, 2]);
    time_passes(&desk).await;
}

/// Checks that the clock moves in the right unit: what flows back in a fifth of a second is back after about that time,
/// and not much sooner.
async fn time_passes<S: RateLimitStore>(desk: &Desk<S>) {
    const PART: Duration = Duration::from_millis(200);
    let (rule, session, limits) = (desk.rule, session(), [tokens("eve", 60_000)]);
    let began = SystemClock.now();
    let all = rule.answer(desk.store.acquire(&ask(session, &limits).tokens(60_000), At::Store).await);
    rule.holds("all of a minute goes at once", matches!(all, Verdict::Allow(_)));
    let wait = refused(desk, &ask(session, &limits).tokens(200)).await.retry_after.unwrap_or_default();
    rule.holds(&format!("the wait of {wait:?} is not longer than {PART:?}"), wait <= PART && !wait.is_zero());
    while let Verdict::Deny(_) = rule.answer(desk.store.acquire(&ask(session, &limits).tokens(200), At::Store).await) {
        let passed = SystemClock.now().duration_since(began);
        rule.holds(&format!("something is back after {passed}"), passed.as_secs() < 30);
        tokio::task::yield_now().await;
    }
    let passed = SystemClock.now().duration_since(began).unsigned_abs();
    rule.holds(&format!("no more is back than what flowed in {passed:?}"), passed * 2 >= PART);
}

pub(super) async fn a_bucket_fills_within_a_second_too<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    // One per millisecond.
    let limits = [tokens("ada", 60_000)];
    let after = |millis| At::Fixed(time(0).saturating_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX));
    desk.allowed(&ask(session, &limits).tokens(60_000), 0).await;
    for (millis, want) in [(0, 0), (1, 1), (100, 100), (999, 999)] {
        let standings = rule.answer(desk.store.standing(&limits, after(millis)).await);
        rule.same(&format!("what is left after {millis} ms"), &left(&standings), &vec![want]);
    }
    for (tokens, passes) in [(1_101, false), (1_100, true), (1, false)] {
        let verdict = rule.answer(desk.store.acquire(&ask(session, &limits).tokens(tokens), after(1_100)).await);
        rule.same(&format!("{tokens} after 1100 ms pass"), &matches!(verdict, Verdict::Allow(_)), &passes);
    }
}

async fn refused<S: RateLimitStore>(desk: &Desk<S>, ask: &Acquire<'_>) -> Denial {
    match desk.rule.answer(desk.store.acquire(ask, At::Store).await) {
        Verdict::Deny(denial) => denial,
        Verdict::Allow(allowed) => panic!("{}: {ask:?} passes: {allowed:?}", desk.rule.0),
    }
}

pub(super) async fn the_largest_limits_are_limits<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", u64::MAX), tokens("ada", u64::MAX), parallel("ada", u64::MAX)];
    for limit in &limits {
        desk.stands(limit, 0, u64::MAX).await;
    }
    let allowed = desk.allowed(&ask(session, &limits).tokens(u64::MAX), 0).await;
    desk.stands(&limits[1], 0, 0).await;
    desk.stands(&limits[2], 0, u64::MAX - 1).await;
    // At such a limit, one unit takes less time than a clock can measure.
    let of_requests = rule.answer(desk.store.standing(&limits[..1], at(0)).await)[0].left;
    rule.holds(&format!("nearly all requests are left; got {of_requests}"), of_requests >= u64::MAX - u64::MAX / 1_000);
    let denial = desk.denied(&ask(session, &limits).tokens(u64::MAX), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(1, seconds(60)));
    desk.settle(&allowed.permit, Used::Tokens(u64::MAX), 1).await;
    desk.stands(&limits[2], 1, u64::MAX).await;
    desk.stands(&limits[1], 60, u64::MAX).await;
    // Under a normal limit it is more than there will ever be, and the debt does not wrap around.
    let few = tokens("few", 60);
    desk.denied(&ask(session, from_ref(&few)).tokens(u64::MAX), 60).await;
    let allowed = desk.allowed(&ask(session, from_ref(&few)).tokens(1), 60).await;
    desk.settle(&allowed.permit, Used::Tokens(u64::MAX), 60).await;
    desk.stands(&few, 3_600, 0).await;
    desk.denied(&ask(session, from_ref(&few)).tokens(1), 3_600).await;
}
