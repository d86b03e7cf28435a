use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Memory, Reserve, Verdict};
use tollgate::store::{At, Session};
use uuid::Uuid;

use crate::{Dir, all_of, at, by_hand, hold, money, open, pot, session, standing};

const NINE: &str = "2026-11-24T09:00:00Z";

#[tokio::test]
async fn what_is_spent_and_held_survives_a_restart_and_settling_twice_across_it_is_settling_once() {
    let dir = Dir::new("restart");
    let sqlite = open(&dir.file()).await;
    let (budgets, session) = (pot(100), session());
    let held = hold(&sqlite.budgets(), session, &budgets, 10, at(NINE)).await;
    let settled = hold(&sqlite.budgets(), session, &budgets, 20, at(NINE)).await;
    sqlite.budgets().settle(&settled, money(7), at(NINE)).await.expect("it settles");
    sqlite.close().await.expect("it closes");

    let store = open(&dir.file()).await.budgets();
    store.settle(&settled, money(9), at(NINE)).await.expect("it settles");
    let now = standing(&store, &budgets, at(NINE)).await;
    assert_eq!((now.spent, now.held), (money(7), money(10)));
    store.settle(&held, money(12), at(NINE)).await.expect("it settles");
    let now = standing(&store, &budgets, at(NINE)).await;
    assert_eq!((now.spent, now.held), (money(19), money(0)));

    let mut connection = by_hand(&dir.file()).await;
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT granted, actual FROM tollgate_reservations WHERE state = 'settled' ORDER BY id")
            .fetch_all(&mut connection)
            .await
            .expect("rows");
    assert_eq!(rows, [(10, 12), (20, 7)], "the ledger is what they sum to");
}

#[tokio::test]
async fn the_question_of_the_operations_page_names_the_pots_that_do_not_add_up_and_no_others() {
    let page = include_str!("../../src/docs/operations.md");
    let (_, question) = page.split_once("# Whether the ledger adds up").expect("a section");
    let question = question.split("```").nth(1).and_then(|block| block.strip_prefix("sql\n")).expect("SQL");
    let dir = Dir::new("adds-up");
    let sqlite = open(&dir.file()).await;
    let (store, session) = (sqlite.budgets(), Session::new(Duration::from_secs(100_000)));
    let budgets = ["total", "day", "rolling 1d"].map(|window| {
        Budget::new(Scope::team(format!("it's \"{window}\"")), window.parse::<Window>().expect("a window"), money(100))
    });
    let early = hold(&store, session, &budgets, 10, at(NINE)).await;
    hold(&store, session, &budgets, 20, at(NINE)).await;
    // The day of the first two holds ends. They are still held in the other two windows.
    hold(&store, session, &budgets, 5, at("2026-11-25T00:00:01Z")).await;
    store.settle(&early, money(7), at("2026-11-25T00:00:02Z")).await.expect("it settles");
    let mut connection = by_hand(&dir.file()).await;
    let mut named = async || {
        let rows = sqlx::query_as::<_, (String, String, String, i64, i64)>(AssertSqlSafe(question.to_owned()));
        rows.fetch_all(&mut connection).await.expect("rows")
    };
    assert_eq!(named().await, []);
    let mut other = by_hand(&dir.file()).await;
    for (window, held, live) in [("day", 6, 5), ("rolling 1d", -3, 25)] {
        let change = "UPDATE tollgate_pots SET held = ?1 WHERE window = ?2";
        sqlx::query(change).bind(held).bind(window).execute(&mut other).await.expect("changed");
        let wrong = ("team".to_owned(), format!("it's \"{window}\""), window.to_owned(), held, live);
        assert_eq!(named().await, [wrong]);
        sqlx::query(change).bind(live).bind(window).execute(&mut other).await.expect("changed");
    }
}

#[tokio::test]
async fn a_forfeit_is_charged_after_the_lease_and_corrected_after_a_restart() {
    let dir = Dir::new("forfeit");
    let sqlite = open(&dir.file()).await;
    let budgets = pot(100);
    let [dead, alive] = [(), ()].map(|()| Session::new(Duration::from_secs(60)));
    let lost = hold(&sqlite.budgets(), dead, &budgets, 30, at(NINE)).await;
    hold(&sqlite.budgets(), alive, &budgets, 5, at(NINE)).await;
    sqlite.close().await.expect("it closes");

    let sqlite = open(&dir.file()).await;
    let store = sqlite.budgets();
    store.heartbeat(alive, at("2026-11-24T09:00:59Z")).await.expect("it answers");
    let now = standing(&store, &budgets, at("2026-11-24T09:01:00Z")).await;
    assert_eq!((now.spent, now.held), (money(0), money(35)), "a lease that is not over");
    let now = standing(&store, &budgets, at("2026-11-24T09:01:00.000000001Z")).await;
    assert_eq!((now.spent, now.held), (money(30), money(5)));
    // The same request after the forfeit returns the same grant, which is charged already.
    let ask = Reserve::new(lost.id, dead, &budgets, all_of(30));
    let again = store.reserve(&ask, at("2026-11-24T09:01:01Z")).await.expect("it answers");
    assert!(matches!(again, Verdict::Allow(grant) if grant.reservation == lost));
    sqlite.close().await.expect("it closes");

    let store = open(&dir.file()).await.budgets();
    for _ in 0..2 {
        store.settle(&lost, money(4), at("2026-11-24T10:00:00Z")).await.expect("it settles");
    }
    let now = standing(&store, &budgets, at("2026-11-24T10:00:00Z")).await;
    assert_eq!((now.spent, now.held), (money(9), money(0)), "4 of the one, and 5 forfeited of the other");
}

#[tokio::test]
async fn a_row_of_a_dead_session_that_cannot_be_read_stops_no_budget() {
    for garbage in ["pots = 'no JSON'", "pots = '[[\"planet\", \"\", \"day\", 0]]'", "id = x'00'"] {
        let dir = Dir::new("unreadable");
        let store = open(&dir.file()).await.budgets();
        let budgets = pot(100);
        let [dead, alive] = [(), ()].map(|()| Session::new(Duration::from_secs(60)));
        let bad = hold(&store, dead, &budgets, 30, at(NINE)).await;
        let mut connection = by_hand(&dir.file()).await;
        let sql = format!("UPDATE tollgate_reservations SET {garbage}");
        connection.execute(AssertSqlSafe(sql)).await.expect("written");
        hold(&store, dead, &budgets, 20, at(NINE)).await;

        let later = at("2026-11-24T10:00:00Z");
        let held = hold(&store, alive, &budgets, 5, later).await;
        let now = standing(&store, &budgets, later).await;
        assert_eq!((now.spent, now.held), (money(20), money(35)), "{garbage}: what can be read is forfeited");
        store.settle(&held, money(5), later).await.expect("it settles");
        let asked = store.settle(&bad, money(1), later).await;
        assert_eq!(asked.is_err(), garbage.starts_with("pots"), "{garbage}: who asks for it by its id is told");
    }
}

#[tokio::test]
async fn a_pot_of_a_dead_session_that_cannot_be_read_stops_no_other_budget() {
    let dir = Dir::new("damaged-pot");
    let store = open(&dir.file()).await.budgets();
    let rolling = |team: &str| Budget::new(Scope::team(team), "rolling 4h".parse().expect("a window"), money(100));
    let (dead, [old, other]) = (Session::new(Duration::from_secs(60)), ["old", "other"].map(rolling));
    for (pots, nanos) in [(vec![&old], 1), (vec![&other], 2), (vec![&old, &other], 4)] {
        let pots: Vec<Budget> = pots.into_iter().cloned().collect();
        hold(&store, dead, &pots, nanos, at(NINE)).await;
    }
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("UPDATE tollgate_pots SET slices = '{}' WHERE scope_id = 'old'").await.expect("written");

    let later = at("2026-11-24T10:00:00Z");
    hold(&store, session(), &pot(100), 1, later).await;
    assert!(store.standing(std::slice::from_ref(&old), later).await.is_err(), "whoever asks for it is told");
    let now = standing(&store, &[other], later).await;
    assert_eq!((now.spent, now.held), (money(2), money(4)), "what is held of both stays held");
    connection.execute("UPDATE tollgate_pots SET slices = NULL WHERE scope_id = 'old'").await.expect("mended");
    assert_eq!(standing(&store, &[old], later).await.held, money(5));
}

#[tokio::test]
async fn a_clock_that_was_set_back_before_a_restart_opens_no_window_anew() {
    let dir = Dir::new("clock");
    let sqlite = open(&dir.file()).await;
    let budgets = pot(100);
    let yesterday = hold(&sqlite.budgets(), session(), &budgets, 40, at(NINE)).await;
    let today = hold(&sqlite.budgets(), session(), &budgets, 90, at("2026-11-25T00:00:00Z")).await;
    sqlite.close().await.expect("it closes");

    let store = open(&dir.file()).await.budgets();
    let ask = Reserve::new(Uuid::now_v7(), session(), &budgets, all_of(20));
    let Verdict::Deny(denial) = store.reserve(&ask, at(NINE)).await.expect("it answers") else {
        panic!("yesterday's window was opened again");
    };
    assert_eq!((denial.standing.held, denial.is_held), (money(90), true));
    store.settle(&yesterday, money(40), at(NINE)).await.expect("it settles");
    store.settle(&today, money(1), at(NINE)).await.expect("it settles");
    let now = standing(&store, &budgets, at(NINE)).await;
    assert_eq!((now.spent, now.held), (money(1), money(0)), "yesterday's counts in yesterday's");
    assert_eq!(now.resets_at.map(|at| at.to_string()).as_deref(), Some("2026-11-26T00:00:00Z"));
    let other = [Budget::new(Scope::team("other"), Window::Day, money(100))];
    let held = hold(&store, session(), &other, 1, at(NINE)).await;
    assert_eq!(held.pots[0].window_start.to_string(), "2026-11-25T00:00:00Z", "a pot that is new is of today");
}

#[tokio::test]
async fn a_settlement_of_a_hold_that_the_file_has_lost_is_charged_once() {
    let dir = Dir::new("lost");
    let elsewhere = Dir::new("lost-elsewhere");
    let budgets = pot(100);
    let held = hold(&open(&elsewhere.file()).await.budgets(), session(), &budgets, 10, at(NINE)).await;
    let store = open(&dir.file()).await.budgets();
    for _ in 0..2 {
        store.settle(&held, money(8), at(NINE)).await.expect("it settles");
    }
    let now = standing(&store, &budgets, at(NINE)).await;
    assert_eq!((now.spent, now.held), (money(8), money(0)));
    let ask = Reserve::new(held.id, session(), &budgets, all_of(10));
    assert!(store.reserve(&ask, at(NINE)).await.is_err(), "what was settled is not granted");
}

#[tokio::test]
async fn a_pot_is_one_whatever_letters_its_name_has() {
    let dir = Dir::new("names");
    let store = open(&dir.file()).await.budgets();
    let names = ["", "a", "a\0", "a\0b", "A", "ä", "a'; DROP TABLE tollgate_pots; --", "\"", "\\", "\u{1F600}", "null"];
    for (index, name) in (1..).zip(names) {
        let budgets = [Budget::new(Scope::user(name), Window::Total, money(1_000))];
        let held = hold(&store, session(), &budgets, index, at(NINE)).await;
        assert_eq!(held.pots[0].pot, budgets[0].pot);
    }
    for (index, name) in (1..).zip(names) {
        let budgets = [Budget::new(Scope::user(name), Window::Total, money(1_000))];
        assert_eq!(standing(&store, &budgets, at(NINE)).await.held, money(index), "{name:?}");
    }
}

#[tokio::test]
async fn the_largest_sums_are_kept_to_the_last_unit() {
    let dir = Dir::new("largest");
    let store = open(&dir.file()).await.budgets();
    let budgets = pot(i64::MAX);
    let held = hold(&store, session(), &budgets, i64::MAX - 1, At::Store).await;
    assert_eq!(standing(&store, &budgets, At::Store).await.left(), money(1));
    store.settle(&held, money(i64::MAX), At::Store).await.expect("it settles");
    assert_eq!(standing(&store, &budgets, At::Store).await.spent, money(i64::MAX));
}

#[tokio::test]
async fn what_the_docs_say_to_delete_is_what_is_old_and_over() {
    let docs = include_str!("../../src/store/sqlite/mod.rs");
    let sql = docs.split("//! ```sql\n").nth(1).and_then(|rest| rest.split("//! ```").next()).expect("statements");
    let sql = sql.replace("//! ", "");
    let dir = Dir::new("pruned");
    let store = open(&dir.file()).await.budgets();
    let days = Duration::from_secs(2_592_000);
    assert_eq!(store.memory(), Memory::of(days), "whatever is younger is corrected by a gateway that comes back");
    // Nine rows: settled, forfeited and live, for calls that began more than 30 days ago, 20 days ago, and now.
    for _ in 0..9 {
        hold(&store, session(), &pot(100), 1, At::Store).await;
    }
    let mut connection = by_hand(&dir.file()).await;
    let rows = "WITH n AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS i FROM tollgate_reservations) \
         UPDATE tollgate_reservations AS r SET state = CASE n.i % 3 WHEN 0 THEN 'settled' WHEN 1 THEN 'forfeited' ELSE 'live' END, \
         id = unhex(printf('%012x', (unixepoch() - CASE n.i / 3 WHEN 0 THEN 2592060 WHEN 1 THEN 1728000 ELSE 0 END) * 1000) \
         || substr(hex(r.id), 13)) FROM n WHERE n.id = r.id";
    connection.execute(rows).await.expect("written");
    // The statements must not scan the rows that are kept, since everyone waits meanwhile. The first looks at the
    // oldest rows: its cutoff is not one for an index without `unhex`, which the shell of Debian 12 does not have.
    assert!(!sql.contains("unhex"), "{sql}");
    for delete in sql.split_inclusive(';').filter(|statement| statement.contains("DELETE")) {
        let plan = format!("EXPLAIN QUERY PLAN {}", &delete[delete.find("DELETE").expect("one")..]);
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(AssertSqlSafe(plan)).fetch_all(&mut connection).await.expect("it is SQL");
        let may_scan = delete.contains("ORDER BY id LIMIT 5000)");
        let is_too_much = |step: &str| step.contains("B-TREE") || step.starts_with("SCAN tollgate") && !may_scan;
        assert!(!plan.iter().any(|(.., step)| is_too_much(step)), "{plan:?}");
    }
    let deleted = connection.execute(AssertSqlSafe(sql)).await.expect("it is SQL").rows_affected();
    let left: Vec<String> =
        sqlx::query_scalar("SELECT state FROM tollgate_reservations ORDER BY substr(hex(id), 1, 12), state")
            .fetch_all(&mut connection)
            .await
            .expect("rows");
    assert_eq!((deleted, left.join(" ")), (2, "live forfeited live settled forfeited live settled".into()));
}
