//! A clock that ran ahead, and the repair of its file that the docs describe.

use sqlx::{AssertSqlSafe, Executor};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::scope::Scope;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::rate_limit::{Acquire, RateLimitStore, Verdict};
use uuid::Uuid;

use crate::support::log::Log;
use crate::{Dir, at, by_hand, hold, money, open, session, standing};

const YEARS_LATER: &str = "2039-03-01T09:00:00Z";

#[tokio::test]
async fn a_file_whose_clock_ran_ahead_says_so_and_is_mended_as_the_docs_say() {
    let dir = Dir::new("clock-ahead");
    let pots = [Window::Day, Window::Total, "rolling 1h".parse().expect("a window")]
        .map(|window| Budget::new(Scope::team("search"), window, money(100)));
    let limits = [Measure::Requests, Measure::Parallel].map(|measure| Limit::new(Scope::team("search"), measure, 2));
    let sqlite = open(&dir.file()).await;
    let ahead = hold(&sqlite.budgets(), session(), &pots, 40, at(YEARS_LATER)).await;
    sqlite.budgets().settle(&ahead, money(30), at(YEARS_LATER)).await.expect("it settles");
    hold(&sqlite.budgets(), session(), &pots, 20, at(YEARS_LATER)).await;
    let take = |id| Acquire::new(id, session(), &limits);
    for _ in 0..2 {
        let taken = sqlite.limits().acquire(&take(Uuid::now_v7()), at(YEARS_LATER)).await.expect("it answers");
        assert!(matches!(taken, Verdict::Allow(_)));
    }
    sqlite.close().await.expect("it closes");

    let (log, _listening) = Log::listen();
    let sqlite = open(&dir.file()).await;
    assert!(log.text().contains("a clock that is ahead"), "{}", log.text());
    let stuck = sqlite.limits().acquire(&take(Uuid::now_v7()), At::Store).await.expect("it answers");
    assert!(matches!(stuck, Verdict::Deny(_)));
    sqlite.close().await.expect("it closes");

    let docs = include_str!("../../src/docs/operations.md");
    let sql = docs.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("statements");
    by_hand(&dir.file()).await.execute(AssertSqlSafe(sql.to_owned())).await.expect("it is SQL");

    let (log, _listening) = Log::listen();
    let sqlite = open(&dir.file()).await;
    assert!(!log.text().contains("ahead"), "{}", log.text());
    let held = hold(&sqlite.budgets(), session(), &pots, 50, At::Store).await;
    sqlite.budgets().settle(&held, money(1), At::Store).await.expect("it settles");
    // Money that was spent counts today. So do the holds of the processes of that time, except in a rolling window.
    for (pot, spent) in pots.iter().zip([51, 51, 31]) {
        let now = standing(&sqlite.budgets(), std::slice::from_ref(pot), At::Store).await;
        assert_eq!((now.spent, now.held), (money(spent), money(0)), "{}", pot.pot.window);
        let soon = SystemClock.now() + jiff::SignedDuration::from_hours(25);
        assert!(now.resets_at.is_none_or(|at| at < soon), "{:?}", now.resets_at);
    }
    let full = sqlite.limits().standing(&limits, At::Store).await.expect("it answers");
    assert!(full[0].full_after.as_secs() <= 61 && full[1].left == 2, "{full:?}");
}
