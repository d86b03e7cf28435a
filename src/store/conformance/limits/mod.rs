//! The rules of a `RateLimitStore`.

mod buckets;
mod edges;
pub(super) mod history;
mod late;
mod many;
mod shared;
mod slots;
mod vectors;

use std::slice::from_ref;
use std::time::Duration;

use uuid::Uuid;

use self::buckets::*;
use self::edges::*;
use self::late::*;
use self::many::*;
use self::shared::*;
use self::slots::*;
use self::vectors::*;
use super::{Rule, SEEDS, STEPS, at, run};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::rate_limit::{Acquire, Allowed, Denial, Permit, RateLimitStore, Standing, Used, Verdict};

pub(super) async fn all<S: RateLimitStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    let mut rules = one_by_one(make).await;
    rules.extend(run!(make, every_history_follows_the_bucket));
    rules
}

pub(super) async fn asked_late<S: RateLimitStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    run!(make,
        what_was_settled_is_not_permitted_again
        what_was_given_up_before_it_came_is_not_permitted
    )
}

pub(super) async fn shared<S: RateLimitStore>(make: &impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    run!(make,
        what_one_handle_counts_is_counted_for_the_other
        a_permit_that_two_settle_is_settled_once
        slots_of_a_silent_session_are_free_for_both
        no_more_than_the_limit_goes_through_over_two_handles
    )
}

/// All rules except the histories.
pub(super) async fn one_by_one<S: RateLimitStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    run!(make,
        as_many_as_the_limit_go_at_once_and_come_back_evenly
        a_refused_ask_counts_nowhere
        limits_of_zero_let_nothing_through
        a_call_larger_than_the_limit_is_told_that_no_waiting_helps
        a_refusal_names_the_limit_to_wait_for_longest
        who_waits_as_told_is_let_through
        a_refund_gives_back_no_more_than_has_not_drained
        what_was_used_beyond_the_estimate_is_owed
        a_permit_that_was_for_nothing_gives_the_request_back
        a_measure_that_is_named_twice_is_counted_once
        the_limit_travels_with_the_ask
        counts_are_apart_by_scope_and_by_measure
        asking_twice_with_one_id_is_asking_once
        settling_twice_is_settling_once
        a_clock_that_goes_back_fills_no_bucket
        a_slot_is_held_until_it_is_settled
        slots_of_a_silent_session_are_free
        a_session_that_comes_back_has_its_slots_again
        a_living_session_keeps_its_slots
        every_session_has_a_lease_of_its_own
        a_bucket_fills_within_a_second_too
        the_largest_limits_are_limits
        the_stores_own_clock_will_do
        no_more_than_the_limit_goes_through_under_two_thousand_tasks
        slots_that_fall_free_under_two_thousand_tasks_are_free_once
        one_id_that_is_asked_for_twice_at_one_moment_is_counted_once
        the_table_of_vectors_of_limits_holds
    )
}

async fn every_history_follows_the_bucket<S: RateLimitStore>(make: &impl AsyncFn() -> S, _: Rule) {
    history::run(make, SEEDS, STEPS).await;
}

/// In seconds.
const LEASE: i64 = 8;

/// A store, with the rule that is being checked.
struct Desk<S> {
    store: S,
    rule: Rule,
}

impl<S: RateLimitStore> Desk<S> {
    async fn open(make: &impl AsyncFn() -> S, rule: Rule) -> Self {
        Desk { store: make().await, rule }
    }

    async fn acquire(&self, ask: &Acquire<'_>, seconds: i64) -> Verdict {
        self.rule.answer(self.store.acquire(ask, at(seconds)).await)
    }

    async fn allowed(&self, ask: &Acquire<'_>, seconds: i64) -> Allowed {
        match self.acquire(ask, seconds).await {
            Verdict::Allow(allowed) => {
                self.rule.same("the id of the permit", &allowed.permit.id, &ask.id);
                self.rule.same("how many standings", &allowed.standings.len(), &ask.limits.len());
                allowed
            }
            Verdict::Deny(denial) => panic!("{}: after {seconds} s, {ask:?} is refused: {denial:?}", self.rule.0),
        }
    }

    async fn denied(&self, ask: &Acquire<'_>, seconds: i64) -> Denial {
        match self.acquire(ask, seconds).await {
            Verdict::Deny(denial) => {
                self.rule.same("how many standings", &denial.standings.len(), &ask.limits.len());
                denial
            }
            Verdict::Allow(allowed) => panic!("{}: after {seconds} s, {ask:?} passes: {allowed:?}", self.rule.0),
        }
    }

    async fn settle(&self, permit: &Permit, used: Used, seconds: i64) {
        self.rule.answer(self.store.settle(permit, used, at(seconds)).await);
    }

    async fn stands(&self, limit: &Limit, seconds: i64, left: u64) {
        let standings = self.rule.answer(self.store.standing(from_ref(limit), at(seconds)).await);
        let what = format!("what is left after {seconds} s of {limit} ({:?})", limit.scope.id);
        let got: Vec<_> = standings.iter().map(|one| one.left).collect();
        self.rule.same(&what, &got, &vec![left]);
        self.rule.same("whose it is", &standings[0].limit, limit);
    }
}

fn ask(session: Session, limits: &[Limit]) -> Acquire<'_> {
    Acquire::new(id(), session, limits)
}

fn id() -> Uuid {
    Uuid::now_v7()
}

fn session() -> Session {
    Session::new(Duration::from_secs(LEASE.unsigned_abs()))
}

fn requests(user: &str, most: u64) -> Limit {
    Limit::new(Scope::user(user), Measure::Requests, most)
}

fn tokens(user: &str, most: u64) -> Limit {
    Limit::new(Scope::user(user), Measure::Tokens, most)
}

fn parallel(user: &str, most: u64) -> Limit {
    Limit::new(Scope::user(user), Measure::Parallel, most)
}

fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

fn left(standings: &[Standing]) -> Vec<u64> {
    standings.iter().map(|standing| standing.left).collect()
}
