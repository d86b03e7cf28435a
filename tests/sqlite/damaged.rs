//! Damage that is found only when somebody reaches it.

use std::fs;
use std::time::Duration;

use sqlx::{Connection, Executor};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate::store::At;
use tollgate::store::budget::{BudgetStore, Reserve};
use tollgate::store::sqlite::SqliteErrorKind;
use uuid::Uuid;

use crate::{Dir, all_of, by_hand, cause, hold, money, open, pot, session, standing};

/// The page of the file on which these bytes are, if it is one, and a leaf.
fn leaf_of(file: &[u8], wanted: &[u8]) -> Option<usize> {
    const LEAF_OF_AN_INDEX: u8 = 10;
    let mut found = file.windows(wanted.len()).enumerate().filter(|(_, bytes)| *bytes == wanted);
    let page = found.next()?.0 / 4096;
    (found.next().is_none() && file[page * 4096] == LEAF_OF_AN_INDEX).then_some(page)
}

#[tokio::test]
async fn a_damaged_page_among_the_settled_rows_fails_only_the_call_that_reaches_it() {
    let dir = Dir::new("damaged-page");
    let sqlite = open(&dir.file()).await;
    let (store, session) = (sqlite.budgets(), session());
    let mut settled = Vec::new();
    for _ in 0..300 {
        let held = hold(&store, session, &pot(1_000), 1, At::Store).await;
        store.settle(&held, money(1), At::Store).await.expect("it settles");
        settled.push(held);
    }
    sqlite.close().await.expect("it closes");
    let mut bytes = fs::read(dir.file()).expect("readable");
    let in_the_middle = settled[100..200].iter();
    let found = in_the_middle.filter_map(|held| Some((held.clone(), leaf_of(&bytes, held.id.as_bytes())?))).next();
    let (bad, page) = found.expect("a row");
    bytes[page * 4096..(page + 1) * 4096].fill(0x5a);
    fs::write(dir.file(), bytes).expect("written");

    let store = open(&dir.file()).await.budgets();
    let mut other = by_hand(&dir.file()).await;
    other.execute("BEGIN IMMEDIATE").await.expect("locked");
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let (store, bad) = (store.clone(), bad.clone());
        tasks.spawn(async move {
            match index {
                7 => {
                    let error = store.settle(&bad, money(1), At::Store).await.expect_err("its row cannot be read");
                    assert_eq!(cause(&error), SqliteErrorKind::Corrupt);
                }
                _ => drop(hold(&store, session, &pot(1_000), 1, At::Store).await),
            }
        });
    }
    tokio::task::yield_now().await;
    other.execute("ROLLBACK").await.expect("unlocked");
    tasks.join_all().await;
    let now = standing(&store, &pot(1_000), At::Store).await;
    assert_eq!((now.spent, now.held), (money(300), money(19)));
}

#[cfg(unix)]
#[tokio::test]
async fn whoever_reaches_a_damaged_table_is_told_soon_however_many_they_are() {
    use std::os::unix::fs::FileExt;
    let dir = Dir::new("damaged-table-open");
    open(&dir.file()).await.close().await.expect("it closes");
    let (store, session) = (open(&dir.file()).await.budgets(), session());
    let mut connection = by_hand(&dir.file()).await;
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'tollgate_pots'";
    let page: i64 = sqlx::query_scalar(root).fetch_one(&mut connection).await.expect("a page");
    connection.close().await.expect("closed");
    let file = fs::OpenOptions::new().write(true).open(dir.file()).expect("writable");
    let at = (u64::try_from(page).expect("a page") - 1) * 4096;
    file.write_all_at(&[0x5a; 4096], at).expect("written");

    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..2_000 {
        let store = store.clone();
        tasks.spawn(async move {
            let budgets = pot(100);
            let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
            store.reserve(&ask, At::Store).await.expect_err("it cannot be read")
        });
    }
    for error in tasks.join_all().await {
        assert_eq!(cause(&error), SqliteErrorKind::Corrupt);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
