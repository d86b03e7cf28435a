//! The rules of a `BudgetStore`.

mod asks;
mod extends;
pub(super) mod history;
mod late;
mod many;
mod memory;
mod shared;
mod spent;
mod times;
mod vectors;
mod zones;

use std::slice::from_ref;
use std::time::Duration;

use uuid::Uuid;

use self::asks::*;
use self::extends::*;
use self::late::*;
use self::many::*;
use self::memory::*;
use self::shared::*;
use self::spent::*;
use self::times::*;
use self::vectors::*;
use self::zones::*;
use super::{Rule, SEEDS, STEPS, at, run};
use crate::domain::budget::{Budget, Window};
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::budget::{BudgetStore, Crossing, Denial, Grant, Reservation, Reserve, Standing, Verdict};

pub(super) async fn all<S: BudgetStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    let mut rules = one_by_one(make).await;
    rules.extend(run!(make, every_history_adds_up));
    rules
}

pub(super) async fn asked_late<S: BudgetStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    run!(make,
        what_was_settled_is_not_granted_again
        what_was_given_up_before_it_came_is_not_granted
    )
}

pub(super) async fn that_grow<S: BudgetStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    run!(make,
        a_hold_grows_within_its_limits
        what_is_added_to_a_hold_is_settled_with_it
        a_hold_that_grows_after_midnight_is_todays
        a_hold_moves_into_todays_window_whole_or_not_at_all
        what_is_added_within_a_rolling_window_counts_from_then_on
        only_a_live_hold_grows_and_in_all_of_its_pots
        the_table_of_holds_that_grow_holds
    )
}

pub(super) async fn shared<S: BudgetStore>(make: &impl AsyncFn() -> (S, S)) -> Vec<&'static str> {
    run!(make,
        what_one_handle_holds_is_held_for_the_other
        a_hold_that_two_settle_is_settled_once
        a_session_that_falls_silent_is_silent_for_both
        a_window_that_one_handle_begins_has_begun_for_the_other
        spent_and_held_never_exceed_the_limit_over_two_handles
    )
}

/// All rules except the histories.
pub(super) async fn one_by_one<S: BudgetStore>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    let mut rules = run!(make,
        spent_is_told_from_held
        a_refused_ask_holds_nothing_anywhere
        limits_of_zero_let_nothing_through
        a_grant_takes_at_most_its_share
        a_pot_that_is_named_twice_is_held_once
        the_limit_travels_with_the_ask
        pots_are_apart_by_scope_and_by_window
        windows_begin_anew_with_the_calendar
        windows_of_a_zone_follow_its_clocks
        asking_twice_with_one_id_is_asking_once
        settling_twice_is_settling_once
        a_settlement_may_go_beyond_the_limit
        a_settlement_after_midnight_counts_in_yesterday
        a_hold_that_was_lost_is_charged_when_it_is_settled
        a_hold_of_a_silent_session_is_forfeited_not_released
        a_settlement_corrects_a_forfeit
        a_living_session_keeps_its_holds
        every_session_has_a_lease_of_its_own
        a_clock_that_goes_back_opens_no_window
        a_rolling_window_forgets_slice_by_slice
        a_soft_pot_refuses_nothing_and_is_counted
        a_threshold_is_told_once_a_window
        a_pot_that_is_left_out_pays_nothing
        a_billionth_is_never_lost
        the_largest_limit_is_a_limit
        what_soft_asks_hold_beyond_all_count_opens_no_limit
        the_table_of_vectors_holds
        what_was_settled_is_known_for_as_long_as_is_promised
        what_was_forfeited_is_corrected_for_as_long_as_is_promised
        the_stores_own_clock_will_do
        spent_and_held_never_exceed_the_limit_under_two_thousand_tasks
        a_window_that_begins_under_two_thousand_tasks_loses_no_hold
        what_falls_silent_under_two_thousand_tasks_is_charged_once
        one_id_that_is_asked_for_twice_at_one_moment_is_held_once
        a_threshold_is_told_to_one_of_all_who_settle_at_one_moment
    );
    if can_grow(make, Rule("a_store_whose_holds_do_not_grow_says_so_and_leaves_them_alone")).await {
        rules.extend(that_grow(make).await);
    }
    rules
}

async fn every_history_adds_up<S: BudgetStore>(make: &impl AsyncFn() -> S, _: Rule) {
    history::run(make, SEEDS, STEPS).await;
}

const HOUR: i64 = 3_600;
/// In seconds.
const LEASE: i64 = 300;

/// A store, with the rule that is being checked.
struct Desk<S> {
    store: S,
    rule: Rule,
}

impl<S: BudgetStore> Desk<S> {
    async fn open(make: &impl AsyncFn() -> S, rule: Rule) -> Self {
        Desk { store: make().await, rule }
    }

    async fn reserve(&self, ask: &Reserve<'_>, seconds: i64) -> Verdict {
        self.rule.answer(self.store.reserve(ask, at(seconds)).await)
    }

    async fn granted(&self, ask: &Reserve<'_>, seconds: i64) -> Grant {
        match self.reserve(ask, seconds).await {
            Verdict::Allow(grant) => {
                self.rule.same("the id of what is granted", &grant.reservation.id, &ask.id);
                grant
            }
            Verdict::Deny(denial) => panic!("{}: after {seconds} s, {ask:?} is refused: {denial:?}", self.rule.0),
        }
    }

    async fn denied(&self, ask: &Reserve<'_>, seconds: i64) -> Denial {
        match self.reserve(ask, seconds).await {
            Verdict::Deny(denial) => denial,
            Verdict::Allow(grant) => panic!("{}: after {seconds} s, {ask:?} is granted: {grant:?}", self.rule.0),
        }
    }

    /// `None` if it is denied.
    async fn extended(&self, ask: &Reserve<'_>, seconds: i64) -> Option<Grant> {
        match self.rule.answer(self.store.extend(ask, at(seconds)).await) {
            Verdict::Allow(grant) => Some(grant),
            Verdict::Deny(_) => None,
        }
    }

    async fn settle(&self, reservation: &Reservation, nanos: i64, seconds: i64) -> Vec<Crossing> {
        self.rule.answer(self.store.settle(reservation, money(nanos), at(seconds)).await)
    }

    async fn stands(&self, budget: &Budget, seconds: i64, spent: i64, held: i64) {
        let standings = self.rule.answer(self.store.standing(from_ref(budget), at(seconds)).await);
        let pot = &budget.pot;
        let what = format!("spent and held after {seconds} s of {} {:?} ({})", pot.scope, pot.scope.id, pot.window);
        let got: Vec<_> = standings.iter().map(|one| (one.spent.nanos(), one.held.nanos())).collect();
        self.rule.same(&what, &got, &vec![(spent, held)]);
    }
}

/// What the tightest pot has left after a grant.
fn left(grant: &Grant) -> Money {
    grant.standings.iter().map(Standing::left).min().unwrap_or(Money::MAX)
}

fn ask(session: Session, budgets: &[Budget], nanos: i64) -> Reserve<'_> {
    Reserve::new(id(), session, budgets, Wish { min: money(nanos), want: money(nanos), share: 1 })
}

fn id() -> Uuid {
    Uuid::now_v7()
}

fn session() -> Session {
    Session::new(Duration::from_secs(LEASE.unsigned_abs()))
}

fn day(team: &str, nanos: i64) -> Budget {
    Budget::new(Scope::team(team), Window::Day, money(nanos))
}

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos)
}
