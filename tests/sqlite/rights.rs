//! Files that the process may not write. Root may write everything, so the tests start a child process of another user.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, Executor};
use tollgate::store::sqlite::{Sqlite, SqliteError, SqliteErrorKind};

use crate::skip::skip;
use crate::{Dir, by_hand, open};

const FILE: &str = "TOLLGATE_TEST_SQLITE_RIGHTS_FILE";
const BLAMED: &str = "TOLLGATE_TEST_SQLITE_RIGHTS_BLAMED";
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn child_that_may_not_write() {
    let Some(file) = env::var_os(FILE).map(PathBuf::from) else { return };
    let blamed = PathBuf::from(env::var_os(BLAMED).expect("told"));
    let refused = |error: &SqliteError| {
        assert_eq!(error.kind(), SqliteErrorKind::ReadOnly, "{error}");
        assert_eq!(error.path(), blamed, "{error}");
        assert!(error.to_string().contains(&blamed.display().to_string()), "{error}");
    };
    refused(&Sqlite::open(&file).await.expect_err("it cannot be written"));
    // With a pool nothing is opened, so the migration reports the error.
    let pool =
        SqlitePoolOptions::new().connect_with(SqliteConnectOptions::new().filename(&file)).await.expect("a pool");
    refused(&Sqlite::with_pool(pool).migrate().await.expect_err("it cannot be written"));
}

/// Makes an up-to-date file with its log and index, all owned by `nobody`, in a directory that everyone may write.
async fn nobodys(dir: &Dir) {
    open(&dir.file()).await.close().await.expect("it closes");
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("UPDATE tollgate_meta SET value = value").await.expect("written");
    let killed = ["db", "db-wal", "db-shm"].map(|ending| {
        let path = dir.file().with_extension(ending);
        let bytes = fs::read(&path).expect("it is there");
        (path, bytes)
    });
    connection.close().await.expect("closed");
    for (path, bytes) in killed {
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    fs::set_permissions(&dir.0, Permissions::from_mode(0o777)).expect("ours");
}

/// Asserts, as the user `nobody`, that the file is refused and the error blames `blamed`.
fn is_refused_to_nobody(file: &Path, blamed: &Path) {
    let output = Command::new(env::current_exe().expect("this binary"))
        .args(["rights::child_that_may_not_write", "--exact"])
        .env(FILE, file)
        .env(BLAMED, blamed)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn is_root(dir: &Dir) -> bool {
    let is_root = fs::metadata(&dir.0).expect("it is there").uid() == 0;
    if !is_root {
        skip("root", "only root can start somebody else, whose rights are tried");
    }
    is_root
}

#[tokio::test]
async fn a_file_that_this_process_may_only_read_is_refused_when_it_is_opened_and_when_it_is_migrated() {
    let dir = Dir::new("others-file");
    if !is_root(&dir) {
        return;
    }
    nobodys(&dir).await;
    chown(dir.file(), Some(0), Some(0)).expect("root may");
    is_refused_to_nobody(&dir.file(), &dir.file());
    for ending in ["db-wal", "db-shm"] {
        let _ = fs::remove_file(dir.file().with_extension(ending));
    }
    is_refused_to_nobody(&dir.file(), &dir.file());
}

#[tokio::test]
async fn a_log_or_an_index_that_this_process_may_only_read_is_refused_and_named() {
    let dir = Dir::new("others-log");
    if !is_root(&dir) {
        return;
    }
    for ending in ["db-wal", "db-shm"] {
        nobodys(&dir).await;
        let blamed = dir.file().with_extension(ending);
        chown(&blamed, Some(0), Some(0)).expect("root may");
        is_refused_to_nobody(&dir.file(), &blamed);
    }
}

#[tokio::test]
async fn a_log_or_an_index_without_a_right_to_write_is_refused_and_named() {
    for ending in ["db-wal", "db-shm"] {
        let dir = Dir::new(&format!("no-right-{ending}"));
        open(&dir.file()).await.close().await.expect("it closes");
        let blamed = dir.file().with_extension(ending);
        fs::write(&blamed, b"").expect("written");
        fs::set_permissions(&blamed, Permissions::from_mode(0o400)).expect("ours");
        let error = Sqlite::open(dir.file()).await.expect_err("it cannot be written");
        assert_eq!((error.kind(), error.path()), (SqliteErrorKind::ReadOnly, &*blamed), "{error}");
    }
}

#[tokio::test]
async fn a_migration_of_a_current_file_waits_for_whoever_writes_and_then_says_that_it_is_locked() {
    let dir = Dir::new("migrate-locked");
    let sqlite = open(&dir.file()).await;
    sqlite.close().await.expect("it closes");
    let pool = SqlitePoolOptions::new().connect(&dir.file().display().to_string()).await.expect("a pool");
    let sqlite = Sqlite::options().busy_timeout(Duration::from_millis(50)).with_pool(pool);
    let mut other = by_hand(&dir.file()).await;
    other.execute("BEGIN IMMEDIATE").await.expect("locked");
    assert_eq!(sqlite.migrate().await.expect_err("locked").kind(), SqliteErrorKind::Locked);
    let opened = Sqlite::options().busy_timeout(Duration::from_millis(50)).open(dir.file()).await;
    assert_eq!(opened.expect_err("locked").kind(), SqliteErrorKind::Locked);
    other.execute("ROLLBACK").await.expect("unlocked");
    let before = dir.bytes();
    sqlite.migrate().await.expect("it migrates");
    assert!(dir.bytes() == before, "something was written");
}
