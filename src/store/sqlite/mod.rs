//! Keys, budgets, limits, audit records and content in one SQLite file.
//!
//! Use it if one machine is enough: what is spent survives the process, and no other service has to run. Several
//! processes may share a file, and they never overspend a budget between them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("tollgate-sqlite-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("tollgate.db");
//! use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
//! use tollgate::domain::principal::Principal;
//! use tollgate::store::key::{KeyRegistry, KeyStore};
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::sqlite::Sqlite;
//! use tollgate::{AdmissionLayer, AuditLayer, GatewayLayer, KeyAuthLayer};
//!
//! let sqlite = Sqlite::open(&path).await?;
//! sqlite.migrate().await?; // once, when you deploy
//!
//! let pepper = Pepper::new(b"32 random bytes from your vault.")?;
//! let key = VirtualKey::mint(Environment::Live)?;
//! let record = KeyRecord::new(&key, &pepper, Principal::new("ada"), "2026-11-24T09:00:00Z".parse()?);
//! assert!(sqlite.keys().put(&record).await?.is_written());
//! assert_eq!(sqlite.keys().find(&record.digest).await?.as_deref(), Some(&record));
//!
//! // A stack over the file. `admission` has limits and budgets, which `limits()` and `budgets()` have singly.
//! let audit = AuditLayer::new(sqlite.audit());
//! let governed = GatewayLayer::new()
//!     .audit(&audit)
//!     .auth(KeyAuthLayer::new(CachedKeys::new(sqlite.keys()), pepper))
//!     .admission(AdmissionLayer::new(sqlite.admission()));
//!
//! // … serve, stop, and drain the settlements:
//! audit.flush().await;
//! sqlite.close().await?;
//! # drop(governed);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(()) }
//! ```
//!
//! # What survives a crash
//!
//! - If the process dies (`kill -9`, a panic, out of memory), nothing that was answered is lost.
//! - If the machine dies (power, kernel), no settlement, audit record or key that was answered is lost. Holds may be
//!   lost. A running process, while its disk does not fail, loses at most the holds of the last 250 ms. A process that
//!   had died before, or whose runtime had ended, loses the holds of its own last 250 ms, unless another process has
//!   since worked on the file for as long. A lost hold is still charged when it is settled, since a settlement carries
//!   all that it needs. So the death of a machine may let budgets be overdrawn by what the lost holds would have kept
//!   from others, and by no more.
//! - Limits do not wait for the disk. The death of the machine may undo what was counted in the last moments.
//!
//! This holds in WAL mode, which [`migrate`](Sqlite::migrate) sets for a file that tollgate opens. In a file of yours
//! that is in another mode, every commit waits for the disk, and for its directory. The guarantees assume that the disk
//! really stores what it acknowledges, and that the file is on this machine and not on a network.
//!
//! # How it works
//!
//! One task writes. Whatever queues while it commits becomes its next batch. A batch is decided in one
//! `BEGIN IMMEDIATE` … `COMMIT` by the rules of [`ledger`](crate::domain::ledger), and answered after the commit, so
//! under load hundreds of calls share a commit. The task runs on the runtime that asked first, so use one that is
//! always driven; if the task ends, the next question starts another. It ends when the last handle is dropped. At
//! shutdown, call [`close`](Sqlite::close) after your [settlements](crate::call) have drained.
//!
//! Each process that shares the file is one more [`Session`](crate::store::Session): what it holds is forfeited when
//! its lease has ended, and not before. Time never goes back, because the file remembers the latest time that it
//! decided by. A clock that is set back opens no window again. After a clock that ran ahead, windows stay open until
//! the time has caught up.
//!
//! # The tables
//!
//! All names begin with `tollgate_`, and nothing else in the file is touched. `tollgate_reservations` is the ledger. A
//! settled row keeps a call from being settled twice. A forfeited row is corrected by a gateway that comes back with
//! its journal.
//!
//! After 30 days no gateway settles a call any more. Its row may then be deleted if it is settled or forfeited. Audit
//! records may be deleted when you no longer need them. Delete in slices, since one large `DELETE` keeps everyone
//! waiting. Run each of these statements until it deletes nothing; none of them looks at more than some 5,000 rows.
//! SQLite's shell knows them from version 3.38 on. Have it wait for its turn (`sqlite3 -cmd '.timeout 5000' FILE`):
//! otherwise nearly every `DELETE` beside a busy gateway fails, because the file is locked.
//!
//! ```sql
//! -- calls that began more than 30 days ago, by the time that their ids begin with (UUIDv7)
//! DELETE FROM tollgate_reservations WHERE id IN (SELECT id FROM
//!     (SELECT id FROM tollgate_reservations WHERE state <> 'live' ORDER BY id LIMIT 5000)
//!     WHERE hex(id) < printf('%012X', (unixepoch() - 2592000) * 1000));
//! DELETE FROM tollgate_audit WHERE id IN (SELECT id FROM tollgate_audit
//!     WHERE opened_at < (unixepoch() - 2592000) * 1000000000 LIMIT 5000);
//! ```
//!
//! The writer itself deletes the rows of limits whose buckets are full again and that no call in flight uses. A pot
//! keeps its row.
//!
//! If a row of a silent session cannot be read, it is skipped with an error in the log, and what it holds stays held.
//!
//! # Backups
//!
//! While the file is in use, copy it with `sqlite3 tollgate.db "VACUUM INTO 'copy.db'"`. Meanwhile calls go on, and the
//! log grows. Do not use the shell's `.backup`: it begins anew whenever somebody writes, and beside a gateway that is
//! busy it does not end. Do not use `cp` either, which leaves out what is in the log. Make the copy under `umask 077`:
//! only its owner may see the key digests in it. Back up the pepper too, but to another place: without it no key in the
//! file works.
//!
//! To restore:
//!
//! 1. Stop every process that uses the file.
//! 2. Remove its `-wal` and `-shm` files; otherwise the log of another file is replayed into this one.
//! 3. Put the copy in its place, with mode 0600 and its former owner.
//! 4. Call [`migrate`](Sqlite::migrate), which sets WAL mode again.
//!
//! What was spent since the copy was made may be spent again, and keys that were disabled since are valid again.
//! Records that came from a journal come again, as far back as the journal goes, if you remove the position of this
//! sink: the file `NAME.acked` in the journal's directory. Those that the copy has already are recognised.

mod admission;
mod again;
mod audit;
mod budgets;
mod check;
mod contents;
mod error;
mod idle_meters;
mod keys;
mod ledger;
mod limits;
mod look;
mod meter_rows;
mod meters;
mod open;
mod rows;
mod same;
mod schema;
mod task;
mod time;
mod upsert;
mod writer;

pub use self::admission::SqliteAdmission;
pub use self::audit::SqliteAudit;
pub use self::budgets::SqliteBudgets;
pub use self::contents::SqliteContents;
pub use self::error::{SqliteError, SqliteErrorKind};
pub use self::keys::SqliteKeys;
pub use self::limits::SqliteLimits;
pub use self::open::SqliteOptions;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqlitePool;

use self::open::Setup;
use self::same::Same;
use self::writer::{Question, Reply, Writer};
use super::StoreError;

/// An SQLite file. Clones are handles on the same writer.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Arc<Setup>,
    readers: SqlitePool,
    writer: Writer,
    /// Whether the tables are known to be tollgate's.
    known: AtomicBool,
    same: Same,
}

impl Sqlite {
    /// Opens a file. The path may begin with `sqlite:` or `sqlite://`. Parameters after a `?` are refused, and so is
    /// `:memory:`. If the file does not exist, an empty one is created that only this user may read.
    ///
    /// An existing file is left as it is, and no table is created; [`migrate`](Self::migrate) does that. In a file with
    /// tollgate's tables a write is tried and rolled back, since SQLite opens files that it may not write without an
    /// error. An empty `-wal` and a `-shm` may be left beside a file that was not changed, even beside one that is
    /// refused.
    ///
    /// The tables of keys, pots and limits are read in full, to check that they are intact. In the tables that grow
    /// with every call, only what is held and the paths to the first and the last row are read. Damage in the middle of
    /// the settled rows, the records or the contents is an error for the caller who reaches it. `PRAGMA quick_check`
    /// finds it by hand.
    ///
    /// # Errors
    /// When the file is locked, may not be written, is damaged, is not a database, or was written by a later tollgate:
    /// see [`SqliteErrorKind`]. Nothing is written to it then, except to roll back what a dead process had begun.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        Self::options().open(path).await
    }

    /// Options for opening a file.
    #[must_use]
    pub fn options() -> SqliteOptions {
        SqliteOptions::new()
    }

    /// Works in the database of a pool of yours, beside your own tables.
    ///
    /// Keys are read through the pool. Writes use one connection that is taken out of the pool for good. Use WAL mode;
    /// in another mode every commit waits for the disk and for readers. A database in UTF-16 is refused.
    #[must_use]
    pub fn with_pool(pool: SqlitePool) -> Self {
        Self::options().with_pool(pool)
    }

    fn new(setup: Setup, readers: SqlitePool) -> Self {
        let same = if setup.is_own() { Same::of(setup.path()) } else { Same::unwatched() };
        let (writer, known) = (Writer::new(), AtomicBool::new(false));
        Sqlite { inner: Arc::new(Inner { setup: Arc::new(setup), readers, writer, known, same }) }
    }

    /// Creates the tables or brings them to this version, and sets WAL mode for a file that tollgate opened itself.
    ///
    /// If the tables are current, a write is tried and rolled back. Call it when you deploy: nothing else does. Before
    /// a migration to a later schema, stop older processes. They cannot write any more after it, and may misread what
    /// they still read.
    ///
    /// # Errors
    /// When the file cannot be written, another process keeps it locked, or a later tollgate has written it.
    pub async fn migrate(&self) -> Result<(), SqliteError> {
        schema::migrate(&self.inner.setup).await
    }

    /// The keys in the file.
    #[must_use]
    pub fn keys(&self) -> SqliteKeys {
        SqliteKeys::new(self.clone())
    }

    /// The budgets in the file.
    #[must_use]
    pub fn budgets(&self) -> SqliteBudgets {
        SqliteBudgets::new(self.clone())
    }

    /// The limits in the file.
    #[must_use]
    pub fn limits(&self) -> SqliteLimits {
        SqliteLimits::new(self.clone())
    }

    /// The keys, limits and budgets in the file, asked in one step.
    #[must_use]
    pub fn admission(&self) -> SqliteAdmission {
        SqliteAdmission::new(self.clone())
    }

    /// The audit records in the file.
    #[must_use]
    pub fn audit(&self) -> SqliteAudit {
        SqliteAudit::new(self.clone())
    }

    /// The prompts and answers that are kept in the file.
    #[must_use]
    pub fn contents(&self) -> SqliteContents {
        SqliteContents::new(self.clone())
    }

    /// Writes what is pending, moves all of it from the log into the file itself, and closes the file. Later calls
    /// through any handle fail, because it is closed. A pool of yours stays open.
    ///
    /// # Errors
    /// When the last writes failed.
    pub async fn close(&self) -> Result<(), StoreError> {
        if self.inner.setup.is_own() {
            self.inner.readers.close().await;
        }
        match self.inner.writer.close() {
            Some(answer) => answer.await.map(drop),
            None => Ok(()),
        }
    }

    fn path(&self) -> &Path {
        self.inner.setup.path()
    }

    async fn ask(&self, question: Question) -> Result<Reply, StoreError> {
        self.inner.same.check(self.path())?;
        self.inner.writer.ask(&self.inner.setup, question).await
    }

    /// The connections for reading, once the tables are known to be tollgate's.
    async fn readers(&self) -> Result<&SqlitePool, StoreError> {
        let Inner { readers, known, same, .. } = &*self.inner;
        same.check(self.path())?;
        if !known.load(Ordering::Relaxed) {
            let mut connection = readers.acquire().await.map_err(|error| self.error(error))?;
            let version = schema::version(&mut connection).await.map_err(|error| self.error(error))?;
            if let Some(kind) = schema::mismatch(version) {
                return Err(SqliteError::new(self.path(), kind).into());
            }
            known.store(true, Ordering::Relaxed);
        }
        Ok(readers)
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        SqliteError::of(self.path(), error).into()
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The writer answers each question with an answer of its kind.
fn unexpected() -> StoreError {
    StoreError::broken("the answer is for another kind of request")
}
