//! The SQLite stores: which files open and which are refused, what survives a crash, and two processes on one file.

mod audit;
mod batches;
mod clock;
mod contents;
mod damaged;
mod ledger;
mod limits;
mod migrating;
mod modes;
mod opening;
mod processes;
mod removed;
mod rights;
mod rotation;
#[path = "../support/skip.rs"]
mod skip;
mod suite;
#[path = "../support/mod.rs"]
mod support;
mod together;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Reservation, Reserve, Standing, Verdict};
use tollgate::store::sqlite::{Sqlite, SqliteError, SqliteErrorKind};
use tollgate::store::{At, Session, StoreError};
use uuid::Uuid;

use crate::support::dir::Dir;

impl Dir {
    fn file(&self) -> PathBuf {
        self.0.join("tollgate.db")
    }

    /// Returns every file of the directory and its bytes. Leaves out the index of the log, which is shared memory.
    fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(&self.0).expect("readable").map(|entry| entry.expect("readable").path());
        let files = entries.filter(|path| path.is_file() && path.extension().is_none_or(|e| e != "db-shm"));
        let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect();
        // An empty log does not matter.
        files.retain(|(path, bytes)| !(bytes.is_empty() && path.extension().is_some_and(|e| e == "db-wal")));
        files.sort();
        files
    }
}

/// Opens the file without syncing to the disk. The tests kill processes, not machines.
async fn open(path: &Path) -> Sqlite {
    let sqlite = Sqlite::options().without_fsync().busy_timeout(Duration::from_secs(20)).open(path).await;
    let sqlite = sqlite.expect("it opens");
    sqlite.migrate().await.expect("it migrates");
    sqlite
}

/// Opens a direct connection to the file.
async fn by_hand(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5)).connect().await.expect("a database")
}

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos)
}

fn at(text: &str) -> At {
    At::Fixed(text.parse().expect("a time"))
}

fn session() -> Session {
    Session::new(Duration::from_secs(300))
}

fn pot(limit: i64) -> [Budget; 1] {
    [Budget::new(Scope::team("search"), Window::Day, money(limit))]
}

fn all_of(nanos: i64) -> Wish {
    Wish { min: money(nanos), want: money(nanos), share: 1 }
}

async fn hold(store: &dyn BudgetStore, session: Session, budgets: &[Budget], nanos: i64, at: At) -> Reservation {
    let ask = Reserve::new(Uuid::now_v7(), session, budgets, all_of(nanos));
    match store.reserve(&ask, at).await.expect("it answers") {
        Verdict::Allow(grant) => grant.reservation,
        Verdict::Deny(denial) => panic!("{denial:?}"),
    }
}

async fn standing(store: &dyn BudgetStore, budgets: &[Budget], at: At) -> Standing {
    store.standing(budgets, at).await.expect("it answers").remove(0)
}

/// Returns the kind of the underlying error, which the operator's log names.
fn cause(error: &StoreError) -> SqliteErrorKind {
    let source = error.source().expect("a cause");
    source.downcast_ref::<SqliteError>().expect("a file's error").kind()
}
