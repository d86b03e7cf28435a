//! A file that is removed, moved or replaced while it is open.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tollgate::store::At;
use tollgate::store::budget::{BudgetStore, Reserve};
use tollgate::store::key::KeyRegistry;
use tollgate::store::sqlite::{Sqlite, SqliteErrorKind};
use uuid::Uuid;

use crate::{Dir, all_of, cause, open, pot, session};

/// What a reader and the writer find wrong.
async fn wrong(sqlite: &Sqlite) -> [Option<SqliteErrorKind>; 2] {
    let (budgets, pots) = (sqlite.budgets(), pot(1_000));
    let ask = Reserve::new(Uuid::now_v7(), session(), &pots, all_of(1));
    let (named, held) = (sqlite.keys().named("ada").await, budgets.reserve(&ask, At::Store).await);
    [named.err().as_ref().map(cause), held.err().as_ref().map(cause)]
}

/// Waits until both answer like this. The name is looked at every two seconds.
async fn until_both(sqlite: &Sqlite, are: Option<SqliteErrorKind>, when: &str) {
    for _ in 0..500 {
        if wrong(sqlite).await == [are, are] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{when}: {:?}", wrong(sqlite).await);
}

#[tokio::test]
async fn a_file_that_is_removed_moved_or_replaced_is_used_no_more_until_it_is_back() {
    let dir = Dir::new("removed");
    let (file, away) = (dir.file(), dir.0.join("away.db"));
    let sqlite = open(&file).await;
    assert_eq!(wrong(&sqlite).await, [None, None]);
    fs::rename(&file, &away).expect("ours");
    until_both(&sqlite, Some(SqliteErrorKind::Removed), "it was moved").await;
    fs::rename(&away, &file).expect("ours");
    until_both(&sqlite, None, "it is back").await;

    // Another gateway would begin a file of its own under the name.
    for beside in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(Path::new(&format!("{}{beside}", file.display())));
    }
    let other = open(&file).await;
    until_both(&sqlite, Some(SqliteErrorKind::Removed), "it was replaced").await;
    assert_eq!(wrong(&other).await, [None, None], "the new one is as good as any");
}
