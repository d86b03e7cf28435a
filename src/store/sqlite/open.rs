//! How connections to a file are made, and what is asked of it before it is used.

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
/// To how many bytes SQLite's log is cut down when what it holds has been written into the file.
const LOG_LEFT: u64 = 64 << 20;
/// SQLite counts in milliseconds, up to some 24 days.
const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// How to open a file, where [`Sqlite::open`] does not say enough.
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

    /// How long to wait for a lock that another process holds; 5 s unless set, 24 days at most.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Decides by this clock; by the machine's unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// For tests: waits for no disk. What was acknowledged survives the process, and not a loss of power.
    #[must_use]
    pub fn without_fsync(mut self) -> Self {
        self.durable = false;
        self
    }

    /// As [`Sqlite::open`].
    ///
    /// # Errors
    /// As [`Sqlite::open`].
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

    /// As [`Sqlite::with_pool`].
    #[must_use]
    pub fn with_pool(self, pool: SqlitePool) -> Sqlite {
        let path = pool.connect_options().get_filename().to_owned();
        Sqlite::new(Setup { source: Source::Host(pool.clone()), path, options: self }, pool)
    }
}

/// All that it takes to make a connection.
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
        // What a long reader has let the log grow to is given back when it is gone.
        let most = LOG_LEFT.to_string();
        SqliteConnectOptions::new().filename(&self.path).disable_statement_logging().pragma("journal_size_limit", most)
    }

    /// A connection of our own, that may write, and what the file says of itself: the mode of its journal, and its
    /// schema.
    pub(super) async fn connect(&self) -> Result<(SqliteConnection, String, i64), SqliteError> {
        let failed = |error| SqliteError::of(&self.path, error);
        let mut connection = match &self.source {
            Source::Own => self.own().busy_timeout(self.options.busy_timeout).connect().await,
            Source::Host(pool) => pool.acquire().await.map(PoolConnection::detach),
        }
        .map_err(failed)?;
        let mode = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.map_err(failed)?;
        let version = schema::version(&mut connection).await.map_err(failed)?;
        // From here on we wait between two tries ourselves: SQLite would wait for longer and longer, and a process that
        // writes all the time leaves no gap as long.
        connection.execute("PRAGMA busy_timeout = 5").await.map_err(failed)?;
        Ok((connection, mode, version))
    }

    /// Runs what wants a lock, until it has it. It asks often: between two batches of another process lies little time.
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

    /// Looks at what is in the file, through a connection that cannot write; and, where it is ours, whether one can.
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
            // That it has no tables yet is for the first who wants one to say, or for `migrate` to mend.
            Some(_) => Ok(()),
        }
    }
}

/// The schema of a file; and, where it is one that we know the tables of, what is wrong with them.
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

/// Whether a process died while it wrote, so that only one who may write can tell what is in the file:
/// `SQLITE_READONLY_RECOVERY` and `SQLITE_READONLY_ROLLBACK` of <https://www.sqlite.org/rescode.html>.
fn is_interrupted(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("264" | "776"))
}
