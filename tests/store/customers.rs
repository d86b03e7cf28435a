//! A host with one principal per customer. The stores in memory forget only customers that no longer count.

use std::time::Duration;

use jiff::Timestamp;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{self, BudgetStore, Reservation, Reserve};
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, Permit, RateLimitStore, Used};
use tollgate::store::{At, Session};
use uuid::Uuid;

fn at(seconds: i64) -> At {
    At::Fixed(Timestamp::from_second(1_793_696_400 + seconds).expect("a time"))
}

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos)
}

/// Returns the number after `name` in the `Debug` output of a store.
fn shown(store: &impl std::fmt::Debug, name: &str) -> u64 {
    let text = format!("{store:?}");
    let number = text.split(&format!("{name}: ")).nth(1).and_then(|rest| rest.split([',', ' ']).next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{name} in {text}"))
}

async fn reserve(store: &MemoryBudgets, session: Session, pots: &[Budget], at: At) -> Reservation {
    let wish = Wish { min: money(10), want: money(10), share: 1 };
    match store.reserve(&Reserve::new(Uuid::now_v7(), session, pots, wish), at).await {
        Ok(budget::Verdict::Allow(grant)) => grant.reservation,
        other => panic!("there is enough: {other:?}"),
    }
}

async fn acquire(store: &MemoryLimits, session: Session, limits: &[Limit], tokens: u64, at: At) -> Permit {
    match store.acquire(&Acquire::new(Uuid::now_v7(), session, limits).tokens(tokens), at).await {
        Ok(rate_limit::Verdict::Allow(allowed)) => allowed.permit,
        other => panic!("there is room: {other:?}"),
    }
}

/// Many thousands of customers a day, each of whom calls once, all in one month.
const CUSTOMERS: i64 = 1_000_000;
const APART: i64 = 1;

#[tokio::test]
async fn pots_of_a_million_customers_are_forgotten_with_their_windows_and_what_is_live_is_not() {
    let store = MemoryBudgets::new();
    let (gone, alive) = (Session::new(Duration::from_secs(60)), Session::new(Duration::from_secs(10_000_000)));
    let rolling = Window::rolling(Duration::from_secs(3_600)).expect("a window");
    let pots = |name: &str| {
        let budget = |window| Budget::new(Scope::user(name), window, money(100));
        [budget(Window::Day), budget(rolling)]
    };
    let total = [Budget::new(Scope::user("lifetime"), Window::Total, money(100))];
    let month = [Budget::new(Scope::user("monthly"), Window::Month, money(10))];
    for pots in [&total, &month] {
        let held = reserve(&store, alive, pots, at(0)).await;
        let told = store.settle(&held, money(10), at(0)).await.expect("memory");
        assert_eq!(told.len(), if pots == &month { 4 } else { 0 });
    }
    // One hold stays open all the time. The gateway of the other falls silent and comes back.
    let (held, lost) = (pots("held"), pots("lost"));
    let (under_way, forfeited) =
        (reserve(&store, alive, &held, at(0)).await, reserve(&store, gone, &lost, at(0)).await);
    let mut most = 0;
    for customer in 0..CUSTOMERS {
        let at = at(100 + customer * APART);
        let reservation = reserve(&store, alive, &pots(&format!("customer {customer}")), at).await;
        store.settle(&reservation, money(7), at).await.expect("memory");
        if customer == 50_000 {
            store.settle(&forfeited, money(3), at).await.expect("memory");
        }
        if customer % 1_000 == 0 {
            most = most.max(shown(&store, "pots"));
        }
    }
    // At most the pots of about two days and two hours.
    assert!((80_000..400_000).contains(&most), "{most} pots");
    let later = at(100 + CUSTOMERS * APART);
    for (pots, spent, held) in [(&total, 10, 0), (&month, 10, 0)] {
        let standing = &store.standing(pots, later).await.expect("memory")[0];
        assert_eq!((standing.spent, standing.held), (money(spent), money(held)), "{standing:?}");
    }
    let standings = store.standing(&held, later).await.expect("memory");
    assert_eq!(standings[1].held, money(10), "of a rolling window nothing closes");
    let told = store.settle(&under_way, money(100), later).await.expect("memory");
    assert_eq!(told.len(), 0, "both windows have passed");
    assert_eq!(store.standing(&held, later).await.expect("memory")[1].held, Money::ZERO);
    // Thresholds that were reported in this month are not reported again.
    let more = [Budget::new(Scope::user("monthly"), Window::Month, money(20))];
    let held = reserve(&store, alive, &more, later).await;
    assert_eq!(store.settle(&held, money(10), later).await.expect("memory"), []);
}

#[tokio::test]
async fn a_forfeit_that_waits_for_its_correction_keeps_its_pot() {
    let store = MemoryBudgets::new();
    let (gone, alive) = (Session::new(Duration::from_secs(60)), Session::new(Duration::from_secs(10_000_000)));
    let week = |name: &str| [Budget::new(Scope::user(name), Window::Week, money(100))];
    let held = reserve(&store, gone, &week("lost"), at(0)).await;
    for customer in 0..20_000 {
        let day = [Budget::new(Scope::user(format!("customer {customer}")), Window::Day, money(100))];
        let reservation = reserve(&store, alive, &day, at(100 + customer)).await;
        store.settle(&reservation, Money::ZERO, at(100 + customer)).await.expect("memory");
    }
    assert!(shown(&store, "pots") < 10_000, "who spent nothing is forgotten: {store:?}");
    assert_eq!(store.standing(&week("lost"), at(20_100)).await.expect("memory")[0].spent, money(10));
    store.settle(&held, money(3), at(20_100)).await.expect("memory");
    assert_eq!(store.standing(&week("lost"), at(20_100)).await.expect("memory")[0].spent, money(3));
}

#[tokio::test]
async fn limits_of_a_million_customers_are_forgotten_when_they_are_full_and_what_is_out_is_not() {
    let store = MemoryLimits::new();
    let session = Session::new(Duration::from_secs(10_000_000));
    let limits = |name: &str| {
        let limit = |measure, most| Limit::new(Scope::user(name), measure, most);
        [limit(Measure::Requests, 10), limit(Measure::Tokens, 1_000), limit(Measure::Parallel, 1)]
    };
    let counted = |name: &str| [Limit::new(Scope::user(name), Measure::Tokens, 1_000)];
    let (slot, drained) = (limits("slot"), counted("drained"));
    let held = acquire(&store, session, &slot, 10, at(0)).await;
    // Many tokens were given back to this limit before.
    for _ in 0..500 {
        let permit = acquire(&store, session, &drained, 1_000, at(0)).await;
        store.settle(&permit, Used::Nothing, at(0)).await.expect("memory");
    }
    let out = acquire(&store, session, &drained, 1_000, at(0)).await;
    let mut most = 0;
    for customer in 0..CUSTOMERS {
        let at = at(100 + customer / 100);
        let permit = acquire(&store, session, &limits(&format!("customer {customer}")), 10, at).await;
        store.settle(&permit, Used::Tokens(10), at).await.expect("memory");
        if customer % 1_000 == 0 {
            most = most.max(shown(&store, "scopes"));
        }
    }
    assert!((600..20_000).contains(&most), "{most} scopes");
    let later = at(100 + CUSTOMERS / 100);
    let standings = store.standing(&slot, later).await.expect("memory");
    assert_eq!(standings.iter().map(|standing| standing.left).collect::<Vec<_>>(), [10, 1_000, 0]);
    store.settle(&held, Used::Tokens(10), later).await.expect("memory");
    assert_eq!(store.standing(&slot, later).await.expect("memory")[2].left, 1);
    // What this permit took has drained by now, so giving it back gives nothing.
    let again = acquire(&store, session, &drained, 600, later).await;
    store.settle(&out, Used::Nothing, later).await.expect("memory");
    assert_eq!(store.standing(&drained, later).await.expect("memory")[0].left, 400);
    store.settle(&again, Used::Nothing, later).await.expect("memory");
    assert_eq!(store.standing(&drained, later).await.expect("memory")[0].left, 1_000);
}
