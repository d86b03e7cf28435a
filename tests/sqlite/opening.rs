use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sqlx::Executor;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tollgate::domain::key::KeyDigest;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::key::KeyStore;
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::store::sqlite::{Sqlite, SqliteError, SqliteErrorKind};

use crate::{Dir, by_hand, cause, hold, money, open, pot, session, standing};

/// Makes a closed file with the store's tables and some rows.
async fn filled(dir: &Dir) {
    let sqlite = open(&dir.file()).await;
    hold(&sqlite.budgets(), session(), &pot(100), 10, At::Store).await;
    sqlite.close().await.expect("it closes");
}

/// Asserts that the file is refused for this reason, that the error names the file, and that not a byte of it changes.
async fn refuses(dir: &Dir, kind: SqliteErrorKind) -> SqliteError {
    let before = dir.bytes();
    let opened = Sqlite::options().busy_timeout(Duration::from_millis(50)).open(dir.file()).await;
    let error = opened.expect_err("it is refused");
    assert_eq!(error.kind(), kind, "{error}: {:?}", std::error::Error::source(&error));
    assert!(error.to_string().contains(&dir.file().display().to_string()), "{error}");
    assert!(dir.bytes() == before, "something was written");
    error
}

#[tokio::test]
async fn a_file_that_is_not_there_is_made_for_its_owner_alone_and_has_no_tables() {
    let dir = Dir::new("made");
    let sqlite = Sqlite::open(dir.file()).await.expect("it opens");
    let mode = fs::metadata(dir.file()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read(dir.file()).expect("readable"), b"");

    let unasked = sqlite.budgets().standing(&pot(1), At::Store).await.expect_err("no tables");
    assert_eq!((cause(&unasked), unasked.is_unavailable()), (SqliteErrorKind::NotMigrated, false));
    let unasked = sqlite.keys().find(&KeyDigest::from_bytes([0; 32])).await.expect_err("no tables");
    assert_eq!(cause(&unasked), SqliteErrorKind::NotMigrated);
    assert!(!format!("{unasked}").contains("tollgate.db"), "what a client may see names no file");

    for _ in 0..2 {
        sqlite.migrate().await.expect("it migrates");
    }
    assert_eq!(standing(&sqlite.budgets(), &pot(1), At::Store).await.spent, money(0));
    assert_eq!(sqlite.keys().find(&KeyDigest::from_bytes([0; 32])).await.expect("it answers"), None);
    for path in [dir.file(), dir.0.join("tollgate.db-wal")] {
        assert_eq!(fs::metadata(path).expect("it is there").permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_url_is_a_path_too() {
    let dir = Dir::new("url");
    for before in ["sqlite:", "sqlite://"] {
        let sqlite = Sqlite::open(format!("{before}{}", dir.file().display())).await.expect("it opens");
        assert!(dir.file().exists());
        sqlite.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn a_url_with_parameters_and_memory_are_refused_and_make_no_file_of_that_name() {
    let dir = Dir::new("parameters");
    let file = dir.file().display().to_string();
    for url in [
        format!("sqlite:{file}?mode=rwc"),
        format!("sqlite://{file}?"),
        "sqlite:".into(),
        "sqlite://".into(),
        ":memory:".into(),
        "sqlite::memory:".into(),
        "sqlite://:memory:".into(),
    ] {
        let error = Sqlite::open(&url).await.expect_err("it is refused");
        assert_eq!(error.kind(), SqliteErrorKind::NotAPath, "{error}");
        assert!(error.to_string().starts_with(&url), "{error}");
    }
    assert_eq!(dir.bytes(), []);
    assert!(!std::path::Path::new(":memory:").exists());
    // In a path that is not a URL, `?` is an ordinary character.
    Sqlite::open(dir.0.join("what?.db")).await.expect("it opens");
    assert!(dir.0.join("what?.db").exists());
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_refused_and_left_as_it_was() {
    let dir = Dir::new("directory");
    fs::create_dir(dir.file()).expect("a directory");
    refuses(&dir, SqliteErrorKind::IsDirectory).await;

    let dir = Dir::new("nowhere");
    let error = Sqlite::open(dir.0.join("none/tollgate.db")).await.expect_err("no directory");
    assert_eq!(error.kind(), SqliteErrorKind::NoDirectory);

    for (name, text) in [("text", "name,limit\nada,5\n".repeat(1000)), ("word", "5\n".into())] {
        let dir = Dir::new(name);
        fs::write(dir.file(), text).expect("written");
        refuses(&dir, SqliteErrorKind::NotADatabase).await;
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_was() {
    for (name, magic) in [("header", 0), ("page-size", 16)] {
        let dir = Dir::new(name);
        filled(&dir).await;
        let mut bytes = fs::read(dir.file()).expect("readable");
        bytes[magic..magic + 2].copy_from_slice(&[0x5a, 0x5a]);
        fs::write(dir.file(), bytes).expect("written");
        refuses(&dir, SqliteErrorKind::NotADatabase).await;
    }

    let dir = Dir::new("schema-page");
    filled(&dir).await;
    let mut bytes = fs::read(dir.file()).expect("readable");
    bytes[100..4096].fill(0x5a);
    fs::write(dir.file(), bytes).expect("written");
    refuses(&dir, SqliteErrorKind::Corrupt).await;

    let dir = Dir::new("truncated");
    filled(&dir).await;
    let bytes = fs::read(dir.file()).expect("readable");
    fs::write(dir.file(), &bytes[..bytes.len() / 2]).expect("written");
    refuses(&dir, SqliteErrorKind::Corrupt).await;
    fs::write(dir.file(), &bytes[..50]).expect("written");
    refuses(&dir, SqliteErrorKind::Corrupt).await;
}

#[tokio::test]
async fn a_file_whose_keys_money_or_limits_are_damaged_is_refused_and_left_as_it_was() {
    let dir = Dir::new("damaged-table");
    filled(&dir).await;
    let whole = fs::read(dir.file()).expect("readable");
    let mut connection = by_hand(&dir.file()).await;
    // The indexes of the content table are not checked.
    let roots: Vec<(String, i64)> = sqlx::query_as(
        "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0 AND (tbl_name <> 'tollgate_content' OR type = 'table')",
    )
    .fetch_all(&mut connection)
    .await
    .expect("readable");
    sqlx::Connection::close(connection).await.expect("closed");
    assert!(
        ["tollgate_pots", "tollgate_keys", "tollgate_reservations_live", "tollgate_audit"]
            .iter()
            .all(|name| roots.iter().any(|(root, _)| root == name))
    );
    for (name, page) in roots {
        let mut bytes = whole.clone();
        let at = (usize::try_from(page).expect("a page") - 1) * 4096;
        bytes[at..at + 4096].fill(0x5a);
        fs::write(dir.file(), bytes).expect("written");
        let error = refuses(&dir, SqliteErrorKind::Corrupt).await;
        assert!(error.to_string().contains("is damaged; restore it from a backup"), "{name}: {error}");
    }
    fs::write(dir.file(), whole).expect("written");
    Sqlite::open(dir.file()).await.expect("it opens");
}

#[tokio::test]
async fn a_file_or_a_directory_that_may_not_be_written_is_refused() {
    let dir = Dir::new("read-only-file");
    filled(&dir).await;
    fs::set_permissions(dir.file(), Permissions::from_mode(0o400)).expect("ours");
    refuses(&dir, SqliteErrorKind::ReadOnly).await;

    let dir = Dir::new("read-only-directory");
    filled(&dir).await;
    fs::set_permissions(&dir.0, Permissions::from_mode(0o500)).expect("ours");
    refuses(&dir, SqliteErrorKind::ReadOnly).await;
    let error = Sqlite::open(dir.0.join("another.db")).await.expect_err("it cannot be made");
    assert_eq!(error.kind(), SqliteErrorKind::ReadOnly);
    fs::set_permissions(&dir.0, Permissions::from_mode(0o700)).expect("ours");
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_and_left_as_it_was() {
    let dir = Dir::new("newer");
    filled(&dir).await;
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("UPDATE tollgate_meta SET value = 99 WHERE name = 'schema'").await.expect("written");
    // The second copy has a log that was not checkpointed, as a killed process leaves it.
    let killed = Dir::new("newer-killed");
    for ending in ["db", "db-wal"] {
        let file = format!("tollgate.{ending}");
        fs::copy(dir.0.join(&file), killed.0.join(&file)).expect("copied");
    }
    assert_eq!(killed.bytes().len(), 2);
    drop(connection);
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("checkpointed");
    sqlx::Connection::close(connection).await.expect("closed");

    for dir in [&dir, &killed] {
        let kind = SqliteErrorKind::NewerSchema { found: 99, known: 3 };
        let error = refuses(dir, kind).await;
        assert!(error.to_string().contains("schema 99"), "{error}");
    }

    // With a host's pool nothing is opened, so every use reports the error.
    let pool = SqlitePoolOptions::new().connect(&dir.file().display().to_string()).await.expect("a pool");
    let sqlite = Sqlite::with_pool(pool.clone());
    let before = dir.bytes();
    let kind = SqliteErrorKind::NewerSchema { found: 99, known: 3 };
    assert_eq!(sqlite.migrate().await.expect_err("refused").kind(), kind);
    assert_eq!(cause(&sqlite.budgets().standing(&pot(1), At::Store).await.expect_err("refused")), kind);
    assert_eq!(cause(&sqlite.keys().find(&KeyDigest::from_bytes([0; 32])).await.expect_err("refused")), kind);
    assert!(dir.bytes() == before, "something was written");
    pool.close().await;
}

#[tokio::test]
async fn a_file_that_another_has_for_himself_is_refused() {
    let dir = Dir::new("locked");
    filled(&dir).await;
    let mut other = by_hand(&dir.file()).await;
    other.execute("PRAGMA locking_mode = EXCLUSIVE").await.expect("set");
    other.execute("BEGIN EXCLUSIVE; UPDATE tollgate_meta SET value = value; COMMIT").await.expect("locked");
    refuses(&dir, SqliteErrorKind::Locked).await;
    sqlx::Connection::close(other).await.expect("closed");
    Sqlite::open(dir.file()).await.expect("it opens");
}

#[tokio::test]
async fn while_another_writes_an_ask_waits_and_then_says_that_it_is_locked() {
    let dir = Dir::new("busy");
    filled(&dir).await;
    let sqlite = Sqlite::options().busy_timeout(Duration::from_millis(100)).open(dir.file()).await.expect("it opens");
    let mut other = by_hand(&dir.file()).await;
    other.execute("BEGIN IMMEDIATE").await.expect("locked");
    let store = sqlite.budgets();
    let error = store.standing(&pot(100), At::Store).await.expect_err("locked");
    assert_eq!((cause(&error), error.is_unavailable()), (SqliteErrorKind::Locked, true));
    assert!(!error.may_have_applied());
    other.execute("COMMIT").await.expect("unlocked");
    assert_eq!(standing(&store, &pot(100), At::Store).await.held, money(10));
}

#[tokio::test]
async fn a_closed_file_says_so_and_is_whole() {
    let dir = Dir::new("closed");
    let sqlite = open(&dir.file()).await;
    let (budgets, keys) = (sqlite.budgets(), sqlite.keys());
    hold(&budgets, session(), &pot(100), 10, At::Store).await;
    sqlite.close().await.expect("it closes");
    sqlite.close().await.expect("and again");
    assert_eq!(dir.bytes().len(), 1, "no log is left");
    for error in [
        budgets.standing(&pot(1), At::Store).await.expect_err("closed"),
        keys.find(&KeyDigest::from_bytes([0; 32])).await.map(drop).expect_err("closed"),
    ] {
        assert_eq!(cause(&error), SqliteErrorKind::Closed);
    }
}

#[tokio::test]
async fn in_a_database_of_the_hosts_only_our_own_tables_are_made() {
    let dir = Dir::new("host");
    let url = format!("sqlite://{}?mode=rwc", dir.file().display());
    // The pool has only one connection, and has to keep it.
    let pool = SqlitePoolOptions::new().max_connections(1).connect(&url).await.expect("a pool");
    pool.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)").await.expect("made");
    let sqlite = Sqlite::with_pool(pool.clone());
    sqlite.migrate().await.expect("it migrates");
    hold(&sqlite.budgets(), session(), &pot(100), 10, At::Store).await;
    pool.execute("INSERT INTO orders VALUES (1)").await.expect("the pool works");
    assert_eq!(standing(&sqlite.budgets(), &pot(100), At::Store).await.held, money(10));
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .fetch_all(&pool)
        .await
        .expect("readable");
    assert!(names.iter().all(|name| name == "orders" || name.starts_with("tollgate_")), "{names:?}");
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.expect("readable");
    assert_eq!(mode, "delete", "the mode is the host's");
    sqlite.close().await.expect("it closes");
    pool.execute("INSERT INTO orders VALUES (2)").await.expect("the pool is open");
}

#[tokio::test]
async fn a_lock_may_be_waited_for_for_ever() {
    let dir = Dir::new("for-ever");
    let sqlite = Sqlite::options().busy_timeout(Duration::MAX).open(dir.file()).await.expect("it opens");
    sqlite.migrate().await.expect("it migrates");
    sqlite.limits().heartbeat(session(), At::Store).await.expect("it is written");
    sqlite.close().await.expect("it closes");
}

#[tokio::test]
async fn a_database_in_utf_16_is_refused_since_no_pot_would_be_found_in_it() {
    let dir = Dir::new("utf-16");
    let options = SqliteConnectOptions::new().filename(dir.file()).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a pool");
    pool.execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE mine (name TEXT)").await.expect("made");
    let theirs = Sqlite::with_pool(pool.clone());
    assert_eq!(theirs.migrate().await.expect_err("refused").kind(), SqliteErrorKind::Utf16);
    let error = theirs.budgets().standing(&pot(100), At::Store).await.expect_err("refused");
    assert_eq!((cause(&error), error.is_unavailable()), (SqliteErrorKind::Utf16, false));
    pool.close().await;
    let ours = Sqlite::open(dir.file()).await.expect("a file without our tables");
    assert_eq!(ours.migrate().await.expect_err("refused").kind(), SqliteErrorKind::Utf16);
}
