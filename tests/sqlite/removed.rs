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
async fn until_both(sqlite: &Sqlite, find: SqliteErrorKind, when: &str) {
    for _ in 0..500 {
        if wrong(sqlite).await == [Some(find); 2] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{when}: {:?}", wrong(sqlite).await);
}

#[tokio::test]
async fn a_file_that_is_removed_moved_or_replaced_is_asked_nothing_any_more() {
    let dir = Dir::new("removed");
    let (file, away) = (dir.file(), dir.0.join("away.db"));
    let sqlite = open(&file).await;
    assert_eq!(wrong(&sqlite).await, [None, None]);
    fs::rename(&file, &away).expect("ours");
    until_both(&sqlite, SqliteErrorKind::Removed, "it was moved").await;
    fs::rename(&away, &file).expect("ours");
    // A connection that was made meanwhile is to another file.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wrong(&sqlite).await, [Some(SqliteErrorKind::Removed); 2], "it is back");
    let again = open(&file).await;
    assert_eq!(wrong(&again).await, [None, None], "the next start is as good as any");

    // Another gateway would begin a file of its own under the name.
    for beside in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(Path::new(&format!("{}{beside}", file.display())));
    }
    let other = open(&file).await;
    until_both(&again, SqliteErrorKind::Removed, "it was replaced").await;
    assert_eq!(wrong(&other).await, [None, None], "the new one is as good as any");
}
