//! Limits per minute.

use std::slice::from_ref;
use std::time::Duration;

use super::{Desk, LEASE, ask, id, left, parallel, requests, seconds, session, tokens};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::conformance::{NAMES, Rule, at};
use crate::store::rate_limit::{Acquire, RateLimitStore, Used, Verdict};

pub(super) async fn as_many_as_the_limit_go_at_once_and_come_back_evenly<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    // Limits that divide a minute, and limits that do not.
    for (minute, most) in (0..).zip([1, 7, 12, 60, 77]) {
        let (now, limits) = (minute * 60, [requests(&format!("{most} a minute"), most)]);
        desk.stands(&limits[0], now, most).await;
        for taken in 1..=most {
            let allowed = desk.allowed(&ask(session, &limits), now).await;
            rule.same("what is left", &left(&allowed.standings), &vec![most - taken]);
        }
        let denial = desk.denied(&ask(session, &limits), now).await;
        let part = Duration::from_nanos(60_000_000_000 / most);
        let wait = denial.retry_after.unwrap_or_default();
        rule.holds("who is refused waits for an even part of a minute", wait.abs_diff(part) < MICROSECOND);
        desk.denied(&ask(session, &limits), now).await;
        desk.stands(&limits[0], now + 60, most).await;
    }
    let (limits, now) = ([requests("evenly", 60)], 600);
    for _ in 0..60 {
        desk.allowed(&ask(session, &limits), now).await;
    }
    for second in 1..40 {
        desk.allowed(&ask(session, &limits), now + second).await;
        desk.denied(&ask(session, &limits), now + second).await;
    }
    desk.stands(&limits[0], now + 70, 31).await;
    let standing = &rule.answer(desk.store.standing(&limits, at(now + 70)).await)[0];
    rule.same("how long until all is back", &standing.full_after, &Duration::from_secs(29));
}

pub(super) async fn a_refused_ask_counts_nowhere<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 60), parallel("ada", 9), tokens("ada", 100), requests("team", 2)];
    for _ in 0..2 {
        desk.allowed(&ask(session, &limits).tokens(10), 0).await;
    }
    for _ in 0..5 {
        let denial = desk.denied(&ask(session, &limits).tokens(10), 0).await;
        rule.same("which limit refuses", &denial.index, &3);
        rule.same("what is left of each", &left(&denial.standings), &vec![58, 7, 80, 0]);
    }
    for (limit, left) in limits.iter().zip([58, 7, 80, 0]) {
        desk.stands(limit, 0, left).await;
    }
}

pub(super) async fn limits_of_zero_let_nothing_through<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    for limit in [requests("ada", 0), tokens("ada", 0), parallel("ada", 0)] {
        let denial = desk.denied(&ask(session, from_ref(&limit)), 0).await;
        rule.same("how long to wait", &denial.retry_after, &None);
        desk.stands(&limit, 600, 0).await;
        desk.denied(&ask(session, from_ref(&limit)).tokens(1), 600).await;
    }
    // Without limits, everything passes.
    let allowed = desk.allowed(&ask(session, &[]).tokens(u64::MAX), 600).await;
    desk.settle(&allowed.permit, Used::Nothing, 600).await;
}

pub(super) async fn a_call_larger_than_the_limit_is_told_that_no_waiting_helps<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 1), tokens("ada", 100)];
    let denial = desk.denied(&ask(session, &limits).tokens(101), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(1, None));
    let denial = desk.denied(&ask(session, &limits).tokens(u64::MAX), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(1, None));
    desk.allowed(&ask(session, &limits).tokens(100), 0).await;
    // Waiting would help for the other limit, but not for this one.
    let denial = desk.denied(&ask(session, &limits).tokens(101), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(1, None));
}

pub(super) async fn a_refusal_names_the_limit_to_wait_for_longest<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 1), requests("team", 60), tokens("ada", 60)];
    desk.allowed(&ask(session, &limits).tokens(60), 0).await;
    let denial = desk.denied(&ask(session, &limits).tokens(30), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(0, seconds(60)));
    let denial = desk.denied(&ask(session, &limits[1..]).tokens(30), 0).await;
    rule.same("which, how long", &(denial.index, denial.retry_after), &(1, seconds(30)));
}

pub(super) async fn who_waits_as_told_is_let_through<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [tokens("ada", 1_000), requests("ada", 7)];
    let mut now = 0;
    for turn in 0..50_u64 {
        let tokens = 1 + turn * 137 % 700;
        if let Verdict::Deny(denial) = desk.acquire(&ask(session, &limits).tokens(tokens), now).await {
            let wait = denial.retry_after.map_or(i64::MAX, |wait| wait.as_nanos().div_ceil(1_000_000_000) as i64);
            rule.holds("it is told to wait for a minute at most", wait <= 60);
            now += wait;
            desk.allowed(&ask(session, &limits).tokens(tokens), now).await;
        }
    }
    rule.holds("somebody had to wait", now > 60);
}

pub(super) async fn a_refund_gives_back_no_more_than_has_not_drained<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limit = tokens("ada", 60);
    let take = |tokens| ask(session, from_ref(&limit)).tokens(tokens);
    let first = desk.allowed(&take(60), 0).await;
    // Immediately, all of it comes back.
    desk.settle(&first.permit, Used::Tokens(10), 0).await;
    desk.stands(&limit, 0, 50).await;
    let second = desk.allowed(&take(50), 0).await;
    // After 40 seconds, 40 of the 60 have drained and were available to others, so 20 can be given back.
    desk.stands(&limit, 40, 40).await;
    desk.settle(&second.permit, Used::Tokens(0), 40).await;
    desk.stands(&limit, 40, 60).await;
    let third = desk.allowed(&take(60), 40).await;
    desk.denied(&take(1), 40).await;
    desk.settle(&third.permit, Used::Tokens(0), 101).await;
    desk.stands(&limit, 101, 60).await;
    desk.allowed(&take(60), 101).await;
    desk.denied(&take(1), 101).await;
    // If nothing was counted, the estimate stays taken.
    let fourth = desk.allowed(&take(30), 131).await;
    desk.settle(&fourth.permit, Used::AsEstimated, 131).await;
    desk.stands(&limit, 131, 0).await;
}

pub(super) async fn what_was_used_beyond_the_estimate_is_owed<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limit = tokens("ada", 60);
    let take = |tokens| ask(session, from_ref(&limit)).tokens(tokens);
    let first = desk.allowed(&take(10), 0).await;
    desk.settle(&first.permit, Used::Tokens(130), 0).await;
    desk.stands(&limit, 0, 0).await;
    let standing = &rule.answer(desk.store.standing(from_ref(&limit), at(0)).await)[0];
    rule.same("how long until all is back", &standing.full_after, &Duration::from_secs(130));
    let denial = desk.denied(&take(1), 0).await;
    rule.same("how long to wait", &denial.retry_after, &seconds(71));
    desk.denied(&take(0), 69).await;
    desk.denied(&take(1), 70).await;
    desk.allowed(&take(1), 71).await;
}

pub(super) async fn a_permit_that_was_for_nothing_gives_the_request_back<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 7), tokens("ada", 100), parallel("ada", 1)];
    for _ in 0..20 {
        let allowed = desk.allowed(&ask(session, &limits).tokens(90), 0).await;
        rule.same("what is left", &left(&allowed.standings), &vec![6, 10, 0]);
        desk.settle(&allowed.permit, Used::Nothing, 0).await;
        for (limit, left) in limits.iter().zip([7, 100, 1]) {
            desk.stands(limit, 0, left).await;
        }
    }
    // A call that used something does not.
    let allowed = desk.allowed(&ask(session, &limits).tokens(90), 0).await;
    desk.settle(&allowed.permit, Used::Tokens(0), 0).await;
    for (limit, left) in limits.iter().zip([6, 100, 1]) {
        desk.stands(limit, 0, left).await;
    }
}

pub(super) async fn a_measure_that_is_named_twice_is_counted_once<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 60), parallel("ada", 3), requests("ada", 12), parallel("ada", 2)];
    let allowed = desk.allowed(&ask(session, &limits), 0).await;
    rule.same("how much was taken", &allowed.permit.taken.len(), &2);
    desk.stands(&limits[2], 0, 11).await;
    desk.stands(&limits[1], 0, 2).await;
    desk.allowed(&ask(session, &limits), 0).await;
    let denial = desk.denied(&ask(session, &limits), 0).await;
    rule.same("the tighter limit", &denial.index, &3);
    desk.settle(&allowed.permit, Used::Nothing, 0).await;
    desk.stands(&limits[2], 0, 11).await;
    desk.stands(&limits[1], 0, 2).await;
}

pub(super) async fn the_limit_travels_with_the_ask<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let few = [requests("ada", 1), parallel("ada", 1)];
    let many = [requests("ada", 60), parallel("ada", 60)];
    desk.allowed(&ask(session, &many), 0).await;
    desk.allowed(&ask(session, &many), 0).await;
    desk.denied(&ask(session, &few[..1]), 0).await;
    desk.denied(&ask(session, &few[1..]), 0).await;
    desk.stands(&few[1], 0, 0).await;
    desk.allowed(&ask(session, &many), 0).await;
    desk.stands(&many[1], 0, 57).await;
}

pub(super) async fn counts_are_apart_by_scope_and_by_measure<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let long = "n".repeat(4_000);
    let scopes = NAMES.iter().copied().chain([&*long]).map(Scope::user);
    let scopes = scopes.chain([Scope::key("a"), Scope::team("a"), Scope::org("a"), Scope::global()]);
    let scopes = scopes.chain([Scope::model("a"), Scope::provider("a"), Scope::tag("a")]);
    let limits: Vec<_> = scopes
        .flat_map(|scope| {
            [Measure::Requests, Measure::Tokens, Measure::Parallel].map(|m| Limit::new(scope.clone(), m, 100))
        })
        .collect();
    for (count, limit) in (1..).zip(&limits) {
        for _ in 0..count {
            desk.allowed(&ask(session, from_ref(limit)).tokens(1), 0).await;
        }
    }
    let standings = rule.answer(desk.store.standing(&limits, at(0)).await);
    let want: Vec<_> = (1..).zip(&limits).map(|(count, _)| 100 - count).collect();
    rule.same("what is left of each", &left(&standings), &want);
}

pub(super) async fn asking_twice_with_one_id_is_asking_once<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 60), tokens("ada", 100), parallel("ada", 1)];
    let ask = Acquire::new(id(), session, &limits).tokens(80);
    let first = desk.allowed(&ask, 0).await;
    for _ in 0..3 {
        let again = desk.allowed(&ask, 0).await;
        rule.same("the permit", &again.permit, &first.permit);
        rule.same("what is left", &left(&again.standings), &vec![59, 20, 0]);
    }
    desk.settle(&first.permit, Used::Tokens(30), 0).await;
    for (limit, left) in limits.iter().zip([59, 70, 1]) {
        desk.stands(limit, 0, left).await;
    }
}

pub(super) async fn settling_twice_is_settling_once<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 60), tokens("ada", 100), parallel("ada", 3)];
    let permits = [
        desk.allowed(&ask(session, &limits).tokens(20), 0).await.permit,
        desk.allowed(&ask(session, &limits).tokens(20), 0).await.permit,
        desk.allowed(&ask(session, &limits).tokens(20), 0).await.permit,
    ];
    for (permit, used, want) in [
        (&permits[0], Used::Tokens(10), [57, 50, 1]),
        (&permits[1], Used::Tokens(40), [57, 30, 2]),
        (&permits[2], Used::Nothing, [58, 50, 3]),
    ] {
        for _ in 0..3 {
            desk.settle(permit, used, 0).await;
            for (limit, left) in limits.iter().zip(want) {
                desk.stands(limit, 0, left).await;
            }
        }
    }
    desk.settle(&permits[0], Used::Nothing, LEASE).await;
    desk.stands(&limits[2], LEASE, 3).await;
}

pub(super) async fn a_clock_that_goes_back_fills_no_bucket<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 1)];
    desk.allowed(&ask(session, &limits), 3_600).await;
    for back in [0, 3_599, -86_400] {
        let denial = desk.denied(&ask(session, &limits), back).await;
        rule.same("how long to wait", &denial.retry_after, &seconds(60));
    }
    desk.denied(&ask(session, &limits), 3_659).await;
    desk.allowed(&ask(session, &limits), 3_660).await;
}

const MICROSECOND: Duration = Duration::from_micros(1);
