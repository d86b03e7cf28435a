//! Files in another journal mode than the one that the store sets.

use std::fs;

use sqlx::{AssertSqlSafe, Connection, Executor};
use tollgate::store::At;
use tollgate::store::sqlite::Sqlite;

use crate::{Dir, by_hand, hold, money, open, pot, session, standing};

#[tokio::test]
async fn a_backup_of_our_own_file_is_brought_to_wal_by_its_migration() {
    let dir = Dir::new("backup");
    let sqlite = open(&dir.file()).await;
    hold(&sqlite.budgets(), session(), &pot(100), 10, At::Store).await;
    let backup = dir.0.join("backup.db");
    let mut connection = by_hand(&dir.file()).await;
    let sql = format!("VACUUM INTO '{}'", backup.display());
    connection.execute(AssertSqlSafe(sql)).await.expect("it is made while we run");
    sqlite.close().await.expect("it closes");

    let mut connection = by_hand(&backup).await;
    let mode = "PRAGMA journal_mode";
    let before: String = sqlx::query_scalar(mode).fetch_one(&mut connection).await.expect("a word");
    connection.close().await.expect("closed");
    let sqlite = open(&backup).await;
    assert_eq!(standing(&sqlite.budgets(), &pot(100), At::Store).await.held, money(10));
    let mut connection = by_hand(&backup).await;
    let after: String = sqlx::query_scalar(mode).fetch_one(&mut connection).await.expect("a word");
    assert_eq!((&*before, &*after), ("delete", "wal"));
}

#[tokio::test]
async fn a_journal_that_a_crash_left_is_rolled_back_and_not_taken_for_a_file_that_cannot_be_written() {
    let (dir, crashed) = (Dir::new("journal"), Dir::new("journal-crashed"));
    let sqlite = open(&dir.file()).await;
    hold(&sqlite.budgets(), session(), &pot(100), 10, At::Store).await;
    sqlite.close().await.expect("it closes");
    let mut connection = by_hand(&dir.file()).await;
    // With so small a cache, uncommitted pages are written to the file.
    connection.execute("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1").await.expect("set");
    let sql = "BEGIN; UPDATE tollgate_pots SET held = 99; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
         WHERE i < 2000) INSERT INTO tollgate_meta SELECT 'junk of a process that died ' || i, i FROM n";
    connection.execute(sql).await.expect("written");
    for ending in ["db", "db-journal"] {
        let file = format!("tollgate.{ending}");
        let bytes = fs::copy(dir.0.join(&file), crashed.0.join(&file)).expect("copied");
        assert!(bytes > 4096, "{ending}");
    }
    drop(connection);

    let sqlite = Sqlite::open(crashed.file()).await.expect("it opens");
    sqlite.migrate().await.expect("it migrates");
    assert_eq!(standing(&sqlite.budgets(), &pot(100), At::Store).await.held, money(10));
    let mut connection = by_hand(&crashed.file()).await;
    let rows = "SELECT count(*) FROM tollgate_meta WHERE name LIKE 'junk%'";
    let junk: i64 = sqlx::query_scalar(rows).fetch_one(&mut connection).await.expect("a row");
    assert_eq!(junk, 0);
}
