//! Properties that hold at every step, whatever the requests are.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{self, BudgetStore, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, RateLimitStore, Used};
use tollgate::store::{At, Session};
use uuid::Uuid;

/// A step: the seconds that pass, the pots that are asked and for how much, and the call that is settled for how much.
type Step = (i64, Vec<usize>, i64, i64, u32, Option<(usize, i64)>);

fn step() -> impl Strategy<Value = Step> {
    let pots = prop::collection::vec(0..4_usize, 0..4);
    let settled = prop::option::of((0..8_usize, 0..100_i64));
    (-50..400_i64, pots, 0..60_i64, 0..60_i64, 1..5_u32, settled)
}

fn at(seconds: i64) -> At {
    At::Fixed(Timestamp::from_second(1_795_500_000 + seconds).expect("a time"))
}

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos)
}

proptest! {
    #![proptest_config(crate::cases::cases(256))]

    /// If no call costs more than was granted, spent and held never exceed a limit, whichever sessions fall silent.
    #[test]
    fn spent_and_held_are_never_more_than_the_limit(steps in prop::collection::vec(step(), 1..80)) {
        let store = MemoryBudgets::new();
        let limits = [(Window::Day, 300), (Window::Week, 200), (Window::Month, 500), (Window::Total, 900)];
        let budgets = limits.map(|(window, limit)| Budget::new(Scope::team("search"), window, money(limit)));
        let session = Session::new(Duration::from_secs(300));
        let (mut now, mut open) = (0, Vec::new());
        for (pass, pots, min, more, share, settled) in steps {
            now += pass;
            let asked: Vec<_> = pots.iter().map(|pot| budgets[*pot].clone()).collect();
            let wish = Wish { min: money(min), want: money(min + more), share };
            let ask = Reserve::new(Uuid::now_v7(), session, &asked, wish);
            match at_once(store.reserve(&ask, at(now))) {
                budget::Verdict::Allow(grant) => {
                    prop_assert!(grant.reservation.granted >= wish.min && grant.reservation.granted <= wish.want);
                    prop_assert!(grant.standings.iter().all(|one| !one.left().is_negative()));
                    open.push(grant.reservation);
                }
                budget::Verdict::Deny(denial) => {
                    let left = denial.standing.left();
                    prop_assert!(left < wish.min || left <= Money::ZERO, "{denial:?} has enough");
                }
            }
            if let Some((which, percent)) = settled && !open.is_empty() {
                let one = open.remove(which % open.len());
                at_once(store.settle(&one, money(one.granted.nanos() * percent / 100), at(now)));
            }
            for standing in at_once(store.standing(&budgets, at(now))) {
                prop_assert!(!standing.spent.is_negative() && !standing.held.is_negative(), "{standing:?}");
                prop_assert!(!standing.left().is_negative(), "{standing:?}");
            }
        }
    }

    /// In any stretch of time, at most as many requests pass as the bucket holds plus what flows in. There are never
    /// more than five at once.
    #[test]
    fn no_stretch_lets_more_through_than_a_full_bucket_and_what_flows_in(
        most in 1..40_u64,
        steps in prop::collection::vec((0..8_i64, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let store = MemoryLimits::new();
        let limits = [Limit::new(Scope::global(), Measure::Requests, most), Limit::new(Scope::global(), Measure::Parallel, 5)];
        let session = Session::new(Duration::from_secs(3_600));
        let (mut now, mut passed, mut open) = (0, Vec::new(), Vec::new());
        for (pass, settles, for_nothing) in steps {
            now += pass;
            let ask = Acquire::new(Uuid::now_v7(), session, &limits);
            if let rate_limit::Verdict::Allow(allowed) = at_once(store.acquire(&ask, at(now))) {
                passed.push((allowed.permit.id, now));
                open.push(allowed.permit);
            }
            prop_assert!(open.len() <= 5, "{} at once", open.len());
            if settles && let Some(permit) = open.pop() {
                let used = if for_nothing { Used::Nothing } else { Used::AsEstimated };
                at_once(store.settle(&permit, used, at(now)));
                if for_nothing {
                    passed.retain(|(id, _)| *id != permit.id);
                }
            }
            for (_, from) in &passed {
                let within = passed.iter().filter(|(_, at)| (*from..=now).contains(at)).count() as u64;
                let flowed = most * (now - from).unsigned_abs() / 60;
                prop_assert!(within <= most + flowed, "{within} in {} s of {most} a minute", now - from);
            }
        }
    }
}

/// Returns the output of a store in memory, which is ready at once.
fn at_once<T>(future: impl Future<Output = Result<T, tollgate::store::StoreError>>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output.expect("memory"),
        std::task::Poll::Pending => panic!("nothing here has anything to wait for"),
    }
}
