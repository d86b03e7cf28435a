//! The tables, their version, and the migrations.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::error::{SqliteError, SqliteErrorKind};
use super::open::Setup;
use super::time::nanos;
use crate::store::At;

/// The version that this code reads and writes.
pub(super) const VERSION: i64 = 3;

/// The migrations from each version to the next, beginning with a file without tables.
const STEPS: [&str; VERSION as usize] =
    [include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

const HAS_META: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tollgate_meta'";
/// Also loads when the first lease ends, before which nobody has to look for silent sessions, and whether there are
/// permits of such sessions.
const META: &str = "SELECT name, value FROM tollgate_meta \
     UNION ALL SELECT 'budget_lease', min(alive_until) FROM tollgate_sessions \
     UNION ALL SELECT 'limit_lease', min(alive_until) FROM tollgate_permit_sessions \
     UNION ALL SELECT 'limit_freed', EXISTS (SELECT 1 FROM tollgate_permits WHERE freed_at IS NOT NULL)";
const SCHEMA: &str = "SELECT value FROM tollgate_meta WHERE name = 'schema'";
const SET: &str =
    "INSERT INTO tollgate_meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

const LATEST: &str = "SELECT max(value) FROM tollgate_meta WHERE name IN ('budget_clock', 'limit_clock')";
/// By how many nanoseconds two machines that share a file may differ without a warning.
const MUCH: i64 = 60_000_000_000;

const TOUCH: &str = "UPDATE tollgate_meta SET value = value WHERE name = 'schema'";
const BUMP: &str =
    "INSERT INTO tollgate_meta (name, value) VALUES ('syncs', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1";

/// The schema of a file; 0 where it has none of our tables. Reads only.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(HAS_META).fetch_one(&mut *connection).await?;
    if found == 0 {
        return Ok(0);
    }
    Ok(sqlx::query_scalar(SCHEMA).fetch_optional(connection).await?.unwrap_or_default())
}

/// The error for a version that this code cannot work with.
pub(super) fn mismatch(version: i64) -> Option<SqliteErrorKind> {
    match version {
        VERSION => None,
        found if found > VERSION => Some(SqliteErrorKind::NewerSchema { found, known: VERSION }),
        _ => Some(SqliteErrorKind::NotMigrated),
    }
}

/// Applies the missing migrations, in one transaction.
pub(super) async fn migrate(setup: &Setup) -> Result<(), SqliteError> {
    let path = setup.path();
    let (mut connection, mode, found) = setup.connect().await?;
    if let Some(kind @ SqliteErrorKind::NewerSchema { .. }) = mismatch(found) {
        return Err(SqliteError::new(path, kind));
    }
    if setup.is_own() && mode != "wal" {
        // Also for a file that has the tables already: the results of `VACUUM INTO` and backups do not have the mode of
        // the original. Changing it needs the file exclusively for a moment.
        setup.until_free(&mut connection, "PRAGMA journal_mode = WAL").await?;
    }
    if mismatch(found).is_none() {
        prove(setup, &mut connection).await?;
        return sqlx::Connection::close(connection).await.map_err(|error| SqliteError::of(path, error));
    }
    setup.until_free(&mut connection, "BEGIN IMMEDIATE").await?;
    let done = steps(&mut connection).await.map_err(|error| SqliteError::of(path, error))?;
    if let Some(kind) = done {
        return Err(SqliteError::new(path, kind));
    }
    setup.until_free(&mut connection, "COMMIT").await?;
    sqlx::Connection::close(connection).await.map_err(|error| SqliteError::of(path, error))
}

/// Proves that a file of this version can be written, by a write that changes nothing and is rolled back.
pub(super) async fn prove(setup: &Setup, connection: &mut SqliteConnection) -> Result<(), SqliteError> {
    setup.until_free(connection, "BEGIN IMMEDIATE").await?;
    let written = setup.until_free(connection, TOUCH).await;
    // An error may have ended the transaction already.
    let back = sqlx::query("ROLLBACK").execute(connection).await;
    written?;
    back.map(drop).map_err(|error| SqliteError::of(setup.path(), error))
}

/// Warns if the file was last decided by a time that this machine has not reached: until then no window begins anew,
/// and no limit refills.
pub(super) async fn look_at_clock(setup: &Setup, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let latest: Option<i64> = sqlx::query_scalar(LATEST).fetch_one(connection).await?;
    let now = nanos(setup.clock().now());
    if let Some(ahead) = latest.and_then(|latest| latest.checked_sub(now)).filter(|ahead| *ahead > MUCH) {
        let (path, seconds) = (setup.path().display(), ahead / 1_000_000_000);
        tracing::error!(%path, seconds, "this file's latest time is from a clock that is ahead of this machine's; see `docs::operations`");
    }
    Ok(())
}

/// Under the lock, since another process may have been faster, and newer.
async fn steps(connection: &mut SqliteConnection) -> Result<Option<SqliteErrorKind>, sqlx::Error> {
    let found = version(connection).await?;
    let done = usize::try_from(found).unwrap_or_default();
    if done > STEPS.len() {
        return Ok(mismatch(found));
    }
    for step in &STEPS[done..] {
        sqlx::raw_sql(*step).execute(&mut *connection).await?;
    }
    set(connection, "schema", VERSION).await?;
    Ok(None)
}

/// The few numbers that a file keeps about itself.
pub(super) struct Meta(HashMap<String, i64>);

impl Meta {
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, Option<i64>)> = sqlx::query_as(META).fetch_all(connection).await?;
        Ok(Meta(rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
    }

    pub(super) fn version(&self) -> i64 {
        self.0.get("schema").copied().unwrap_or_default()
    }

    /// The times to decide by; `now` is what the machine says.
    pub(super) fn times(&self, clock: &str, lease: &str, now: i64) -> Times {
        let kept = |name: &str| self.0.get(name).copied();
        let latest = kept(clock).unwrap_or(i64::MIN);
        let has_freed = kept("limit_freed").is_some_and(|freed| freed != 0);
        Times { now, latest, read: latest, first_lease: kept(lease).unwrap_or(i64::MAX), has_freed }
    }
}

/// The times by which a batch is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The time of the machine.
    now: i64,
    /// The latest time that the file was decided by, now and when it was read.
    latest: i64,
    read: i64,
    /// When the first of the leases ends.
    first_lease: i64,
    /// Whether there are permits of sessions that fell silent.
    pub(super) has_freed: bool,
}

impl Times {
    /// The time by which the next questions are decided, and whether a session may have fallen silent by then.
    pub(super) fn step(&mut self, at: At) -> (i64, bool) {
        self.latest = self.latest.max(match at {
            At::Store => self.now,
            At::Fixed(time) => nanos(time),
        });
        // A batch with several times may have begun leases itself; then it looks.
        let first_lease = std::mem::replace(&mut self.first_lease, i64::MIN);
        (self.latest, first_lease < self.latest)
    }

    /// The time by which the last questions were decided.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }
}

/// Stores the latest time, if it is later than the stored one.
pub(super) async fn set_later(
    connection: &mut SqliteConnection,
    clock: &str,
    times: &mut Times,
) -> Result<(), sqlx::Error> {
    if times.latest > times.read {
        set(connection, clock, times.latest).await?;
        times.read = times.latest;
    }
    Ok(())
}

async fn set(connection: &mut SqliteConnection, name: &str, value: i64) -> Result<(), sqlx::Error> {
    sqlx::query(SET).bind(name.to_owned()).bind(value).execute(connection).await.map(drop)
}

/// Changes something, so that the commit has something to sync.
pub(super) async fn bump(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(BUMP).execute(connection).await.map(drop)
}
