//! Questions that arrive after their settlement, because they were slow on their way.

use super::{Desk, LEASE, ask, parallel, requests, session};
use crate::store::conformance::{Rule, at};
use crate::store::rate_limit::{Acquire, Permit, RateLimitStore, Used, Verdict};

/// It may be refused or be an error.
async fn permits_nothing<S: RateLimitStore>(desk: &Desk<S>, ask: &Acquire<'_>, seconds: i64) {
    let answer = desk.store.acquire(ask, at(seconds)).await;
    let what = format!("after {seconds} s, what was settled is not permitted again: {answer:?}");
    desk.rule.holds(&what, !matches!(answer, Ok(Verdict::Allow(_))));
}

pub(super) async fn what_was_settled_is_not_permitted_again<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let (desk, session) = (Desk::open(make, rule).await, session());
    let limits = [requests("ada", 60), parallel("ada", 3)];
    let (asked, nothing) = (ask(session, &limits), ask(session, &limits));
    for (ask, used) in [(&asked, Used::AsEstimated), (&nothing, Used::Nothing)] {
        let allowed = desk.allowed(ask, 0).await;
        desk.settle(&allowed.permit, used, 0).await;
    }
    for seconds in [0, LEASE + 1] {
        for late in [&asked, &nothing] {
            permits_nothing(&desk, late, seconds).await;
        }
        desk.stands(&limits[1], seconds, 3).await;
    }
}

/// A caller that stops waiting settles for nothing, and the store may get that first.
pub(super) async fn what_was_given_up_before_it_came_is_not_permitted<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let (desk, limits) = (Desk::open(make, rule).await, [parallel("ada", 3)]);
    let late = ask(session(), &limits);
    desk.settle(&Permit { id: late.id, taken: Vec::new() }, Used::Nothing, 0).await;
    for seconds in [0, LEASE + 1] {
        permits_nothing(&desk, &late, seconds).await;
        desk.stands(&limits[0], seconds, 3).await;
    }
}
