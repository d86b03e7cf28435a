//! How connections to a file are made, and how a file is checked before use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::Instant;

use super::Sqlite;
use super::check;
use super::error::{SqliteError, SqliteErrorKind};
use super::look::{self, look, stated};
use super::schema;
use crate::domain::clock::{Clock, SystemClock};

const READERS: u32 = 2;
/// The size in bytes to which SQLite's log is cut down once its content is in the file.
const LOG_LEFT: u64 = 64 << 20;
/// SQLite counts in milliseconds, up to some 24 days.
const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// Options for opening a file, beyond the defaults of [`Sqlite::open`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tollgate-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("tollgate.db");
/// use std::time::Duration;
/// use tollgate::store::sqlite::Sqlite;
/// let sqlite = Sqlite::options().busy_timeout(Duration::from_secs(1)).open(&path).await?;
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    busy_timeout: Duration,
    clock: Arc<dyn Clock>,
    durable: bool,
}

impl SqliteOptions {
    pub(super) fn new() -> Self {
        SqliteOptions { busy_timeout: Duration::from_secs(5), clock: Arc::new(SystemClock), durable: true }
    }

    /// How long to wait for a lock that another process holds: 5 s unless set, at most 24 days.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Uses this clock instead of the system clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// For tests: does not wait for the disk. What was acknowledged survives the process, but not a loss of power.
    #[must_use]
    pub fn without_fsync(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Opens a file, as [`Sqlite::open`] does.
    ///
    /// # Errors
    /// The same as [`Sqlite::open`].
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Sqlite, SqliteError> {
        let path = stated(path.as_ref())?;
        look(&path)?;
        let setup = Setup { source: Source::Own, path, options: self };
        setup.probe().await?;
        let options = setup.own().busy_timeout(setup.options.busy_timeout).read_only(true);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        Ok(Sqlite::new(setup, readers))
    }

    /// Works in the database of a pool, as [`Sqlite::with_pool`] does.
    #[must_use]
    pub fn with_pool(self, pool: SqlitePool) -> Sqlite {
        let path = pool.connect_options().get_filename().to_owned();
        Sqlite::new(Setup { source: Source::Host(pool.clone()), path, options: self }, pool)
    }
}

/// All that is needed to make a connection.
#[derive(Debug)]
pub(super) struct Setup {
    source: Source,
    path: PathBuf,
    options: SqliteOptions,
}

#[derive(Debug)]
enum Source {
    Own,
    Host(SqlitePool),
}

impl Setup {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self.source, Source::Own)
    }

    pub(super) fn is_durable(&self) -> bool {
        self.options.durable
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.options.clock
    }

    fn own(&self) -> SqliteConnectOptions {
        // The space that the log took while there was a long reader is given back afterwards.
        let most = LOG_LEFT.to_string();
        SqliteConnectOptions::new().filename(&self.path).disable_statement_logging().pragma("journal_size_limit", most)
    }

    /// A connection of our own that may write, with the file's journal mode and schema version.
    pub(super) async fn connect(&self) -> Result<(SqliteConnection, String, i64), SqliteError> {
        let failed = |error| SqliteError::of(&self.path, error);
        let mut connection = match &self.source {
            Source::Own => self.own().busy_timeout(self.options.busy_timeout).connect().await,
            Source::Host(pool) => pool.acquire().await.map(PoolConnection::detach),
        }
        .map_err(failed)?;
        let mode = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.map_err(failed)?;
        let version = schema::version(&mut connection).await.map_err(failed)?;
        let encoding: String =
            sqlx::query_scalar("PRAGMA encoding").fetch_one(&mut connection).await.map_err(failed)?;
        if encoding != "UTF-8" {
            // Names are looked up by the bytes that they have in UTF-8.
            return Err(SqliteError::new(&self.path, SqliteErrorKind::Utf16));
        }
        // From here on we wait between two tries ourselves: SQLite waits longer each time, and a process that writes
        // all the time leaves no gap of that length.
        connection.execute("PRAGMA busy_timeout = 5").await.map_err(failed)?;
        Ok((connection, mode, version))
    }

    /// Runs a statement that needs a lock until it gets it. Tries often: the gap between two batches of another process
    /// is short.
    pub(super) async fn until_free(
        &self,
        connection: &mut SqliteConnection,
        sql: &'static str,
    ) -> Result<(), SqliteError> {
        let deadline = Instant::now() + self.options.busy_timeout;
        loop {
            let error = match sqlx::query(sql).execute(&mut *connection).await {
                Ok(_) => return Ok(()),
                Err(error) => look::blame(SqliteError::of(&self.path, error)),
            };
            if error.kind() != SqliteErrorKind::Locked || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Checks the file's content through a read-only connection and, if the tables are tollgate's, whether it can be
    /// written.
    async fn probe(&self) -> Result<(), SqliteError> {
        let failed = |error| SqliteError::of(&self.path, error);
        let options = self.own().busy_timeout(self.options.busy_timeout);
        let found = match read(options.clone().read_only(true)).await {
            Err(error) if is_interrupted(&error) => read(options).await,
            found => found,
        };
        let (version, damage) = found.map_err(failed)?;
        match schema::mismatch(version) {
            None => {
                if let Some(damage) = damage {
                    return Err(SqliteError::with(&self.path, SqliteErrorKind::Corrupt, damage));
                }
                let (mut connection, _, _) = self.connect().await?;
                schema::prove(self, &mut connection).await?;
                schema::look_at_clock(self, &mut connection).await.map_err(failed)?;
                connection.close().await.map_err(failed)
            }
            Some(kind @ SqliteErrorKind::NewerSchema { .. }) => Err(SqliteError::new(&self.path, kind)),
            // A missing table is reported to the first caller who needs one, and `migrate` creates it.
            Some(_) => Ok(()),
        }
    }
}

/// The schema version of a file and, if its tables are known, what is wrong with them.
async fn read(options: SqliteConnectOptions) -> Result<(i64, Option<String>), sqlx::Error> {
    let mut connection = options.connect().await?;
    let version = schema::version(&mut connection).await?;
    let damage = match schema::mismatch(version) {
        None => check::damage(&mut connection).await?,
        Some(_) => None,
    };
    connection.close().await?;
    Ok((version, damage))
}

/// Whether a process died while it wrote, so that only a connection that may write can read the file:
/// `SQLITE_READONLY_RECOVERY` and `SQLITE_READONLY_ROLLBACK` of <https://www.sqlite.org/rescode.html>.
fn is_interrupted(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("264" | "776"))
}
