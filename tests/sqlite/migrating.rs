//! Files that an earlier version wrote.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
use tollgate::store::sqlite::{Sqlite, SqliteErrorKind};
use uuid::Uuid;

use crate::{Dir, all_of, at, cause, hold, money, pot, session, standing};

const NINE: &str = "2026-11-24T09:00:00Z";

#[tokio::test]
async fn a_file_of_the_first_version_is_taken_over_with_all_that_it_holds() {
    let dir = Dir::new("first");
    let mut connection =
        SqliteConnectOptions::new().filename(dir.file()).create_if_missing(true).connect().await.expect("a database");
    connection.execute(include_str!("../../src/store/sqlite/schema.sql")).await.expect("made");
    let id = Uuid::now_v7();
    let rows = format!(
        "INSERT INTO tollgate_meta VALUES ('schema', 1); \
         INSERT INTO tollgate_pots VALUES ('team', 'search', 'day', 1795478400000000000, 30, 20); \
         INSERT INTO tollgate_sessions VALUES (zeroblob(16), 1795510800000000000); \
         INSERT INTO tollgate_reservations VALUES (x'{}', zeroblob(16), 'live', 20, 50, NULL, 1795510700000000000, \
         '[[\"team\",\"search\",\"day\",1795478400000000000]]', 1);",
        id.simple()
    );
    connection.execute(sqlx::AssertSqlSafe(rows)).await.expect("filled");
    connection.close().await.expect("closed");

    let sqlite = Sqlite::options().open(&dir.file()).await.expect("it opens");
    let unmigrated = sqlite.budgets().standing(&pot(100), at(NINE)).await.expect_err("an older file");
    assert_eq!(cause(&unmigrated), SqliteErrorKind::NotMigrated);
    sqlite.migrate().await.expect("it migrates");
    let now = standing(&sqlite.budgets(), &pot(100), at(NINE)).await;
    assert_eq!((now.spent, now.held), (money(30), money(20)));
    let pots = pot(100);
    let again = Reserve::new(id, session(), &pots, all_of(1));
    let Ok(Verdict::Allow(grant)) = sqlite.budgets().reserve(&again, at(NINE)).await else { panic!("it is known") };
    assert_eq!(grant.reservation.granted, money(20));
    let news = sqlite.budgets().settle(&grant.reservation, money(15), at(NINE)).await.expect("it settles");
    assert_eq!(news, [], "nobody knows any more under what limit it was asked");
    let next = hold(&sqlite.budgets(), session(), &pot(100), 40, at(NINE)).await;
    let news = sqlite.budgets().settle(&next, money(40), at(NINE)).await.expect("it settles");
    assert_eq!(news.iter().map(|one| one.percent).collect::<Vec<_>>(), [50, 80]);
    assert_eq!(sqlite.contents().find(id).await.expect("there is a table for it"), []);
    sqlite.close().await.expect("it closes");
}
