//! Keys, budgets, limits, audit records and content in one SQLite file.
//!
//! Reach for it when one machine is enough: what is spent survives the process, and nothing else has to be run. Several
//! processes may share a file; they never overspend a budget between them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("tollgate-sqlite-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("tollgate.db");
//! use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
//! use tollgate::domain::principal::Principal;
//! use tollgate::store::key::{KeyRegistry, KeyStore};
//! use tollgate::store::sqlite::Sqlite;
//!
//! let sqlite = Sqlite::open(&path).await?;
//! sqlite.migrate().await?; // once, when you deploy
//!
//! let pepper = Pepper::new(b"32 random bytes from your vault.")?;
//! let key = VirtualKey::mint(Environment::Live)?;
//! let record = KeyRecord::new(&key, &pepper, Principal::new("ada"), "2026-11-24T09:00:00Z".parse()?);
//! assert!(sqlite.keys().put(&record).await?);
//! assert_eq!(sqlite.keys().find(&record.digest).await?.as_deref(), Some(&record));
//!
//! let budgets = sqlite.budgets(); // and `.limits()`, `.audit()`
//! sqlite.close().await?;
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(()) }
//! ```
//!
//! # What is safe when
//!
//! - The process dies (`kill -9`, a panic, out of memory): nothing that was answered is lost.
//! - The machine dies (power, kernel): no settlement, audit record or key that was answered is lost. Holds may be: of a
//!   process that runs at most those of the last 250 ms, while its disk does not fail; of one that had died before, or
//!   whose runtime had ended, those of its last 250 ms, unless another has worked on the file for as long since. A hold
//!   that was lost is still charged when it is settled, since a settlement carries all that it takes. So such a death
//!   may let budgets be overdrawn by what those holds would have kept from others, and by no more.
//! - Limits are worth no wait for the disk: the machine's death may give back what was counted of the last moments.
//!
//! This holds in WAL mode, into which [`migrate`](Sqlite::migrate) brings a file of our own; in a file of yours that is
//! in another mode every commit waits for the disk, and for its directory. It asks of the disk that it has what it says
//! it has, and of the file that it lies on this machine and not on a network.
//!
//! # How it works
//!
//! One task writes. Whatever queues while it commits is its next batch, decided in one `BEGIN IMMEDIATE` … `COMMIT` by
//! the rules of [`ledger`](crate::domain::ledger), and answered after the commit: under load a commit is shared by
//! hundreds. The task lives on the runtime that asked first, so let that be one that is always driven; if it ends, the
//! next ask starts another. It ends when the last handle is dropped. Call [`close`](Sqlite::close) at shutdown, after
//! your [settlements](crate::call) have drained.
//!
//! A process that shares the file is one more [`Session`](crate::store::Session): what it holds is forfeited when its
//! lease has passed without a word of it, and not before. Time never goes back: the file remembers the latest time that
//! it decided by, so a clock that is set back opens no window anew; one that ran ahead holds windows open until it is
//! caught up with.
//!
//! # The tables
//!
//! They begin with `tollgate_`, and nothing else in the file is touched. `tollgate_reservations` is the ledger: a
//! settled row is what makes settling twice settling once, and a forfeited one what is corrected by a gateway that comes back
//! with its journal. After 30 days no gateway tells of a call any more, and its row may be deleted if it is settled or forfeited;
//! audit records may be when you need them no more. Do it in slices: one large `DELETE` keeps everyone waiting. Run each of
//! these until it deletes nothing; none looks at what is younger:
//!
//! ```sql
//! -- calls that began more than 30 days ago, by the time that their ids begin with (UUIDv7)
//! DELETE FROM tollgate_reservations WHERE id IN (SELECT id FROM tollgate_reservations
//!     WHERE id < unhex(printf('%012x00000000000000000000', (unixepoch() - 2592000) * 1000)) AND state <> 'live' LIMIT 5000);
//! DELETE FROM tollgate_audit WHERE id IN (SELECT id FROM tollgate_audit
//!     WHERE opened_at < (unixepoch() - 2592000) * 1000000000 LIMIT 5000);
//! ```
//!
//! Rows of limits whose buckets are full again, and that no call is under way for, the writer deletes by itself. A pot keeps
//! its row.
//!
//! A row of a session that is gone and that cannot be read is passed over with an error in the log; what it holds stays
//! held.
//!
//! # Backups
//!
//! While it runs, copy it by `sqlite3 tollgate.db '.backup copy.db'` or `VACUUM INTO 'copy.db'`, and not by `cp`, which
//! leaves out what is in the log. Make the copy under `umask 077`: what it has of keys is for the eyes of its owner.
//! The pepper goes with it, and to another place: without it no key in the file opens.
//!
//! To restore, stop every process that has the file, remove its `-wal` and `-shm` (the log of another file would be
//! played into this one), put the copy in its place with mode 0600 and the owner it had, and call
//! [`migrate`](Sqlite::migrate), which brings it back to WAL. What was spent since the copy was made may be spent
//! again, and keys that were disabled since are valid again.

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
use self::writer::{Question, Reply, Writer};
use super::StoreError;

/// One file. A clone is another handle on the same writer.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Arc<Setup>,
    readers: SqlitePool,
    writer: Writer,
    /// Whether the tables were seen to be ours.
    known: AtomicBool,
}

impl Sqlite {
    /// Opens a file, `sqlite:` or `sqlite://` before it or not; parameters after a `?` are refused, and so is
    /// `:memory:`. Where there is none, an empty one is made, which only this user may read.
    ///
    /// What is in a file that exists is left as it is, and no table is made: that is [`migrate`](Self::migrate)'s. In
    /// one that is ours a write is tried and taken back, since SQLite opens what it may not write without a word of it.
    /// An empty `-wal` and a `-shm` may be left beside a file that was not touched, one that is refused too.
    ///
    /// The tables of keys, pots and limits are read through, to see that they are whole. Of what grows with every call only
    /// what is held is, and the way to the first row and the last: a damage in the middle of the ledger's settled rows, of records or
    /// of contents is an error of whoever comes upon it. `PRAGMA quick_check` by hand finds it.
    ///
    /// # Errors
    /// When it is locked, may not be written, is damaged or no database at all, or was written by a later tollgate: see
    /// [`SqliteErrorKind`]. Nothing is written to it then, but for the undoing of what a process began that died.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        Self::options().open(path).await
    }

    /// To open a file in another way than usual.
    #[must_use]
    pub fn options() -> SqliteOptions {
        SqliteOptions::new()
    }

    /// Works in the database of a pool of yours, between your own tables.
    ///
    /// Keys are read through the pool; what writes is one connection that is taken out of it for good. Let the file be
    /// in WAL mode, else every commit waits for the disk and for readers.
    #[must_use]
    pub fn with_pool(pool: SqlitePool) -> Self {
        Self::options().with_pool(pool)
    }

    fn new(setup: Setup, readers: SqlitePool) -> Self {
        let inner = Inner { setup: Arc::new(setup), readers, writer: Writer::new(), known: AtomicBool::new(false) };
        Sqlite { inner: Arc::new(inner) }
    }

    /// Makes the tables, or brings them to this version, and a file of our own into WAL mode. Where they are, a write
    /// is tried and taken back. Call it where you deploy: nothing else does. Stop older processes before one that leads
    /// to a later schema: they write no more from then on, and what they still read they may misread.
    ///
    /// # Errors
    /// When it cannot be written, another process keeps it locked, or a later tollgate has written it.
    pub async fn migrate(&self) -> Result<(), SqliteError> {
        schema::migrate(&self.inner.setup).await
    }

    /// The keys in it.
    #[must_use]
    pub fn keys(&self) -> SqliteKeys {
        SqliteKeys::new(self.clone())
    }

    /// The budgets in it.
    #[must_use]
    pub fn budgets(&self) -> SqliteBudgets {
        SqliteBudgets::new(self.clone())
    }

    /// The limits in it.
    #[must_use]
    pub fn limits(&self) -> SqliteLimits {
        SqliteLimits::new(self.clone())
    }

    /// The keys, the limits and the budgets in it, asked in one step.
    #[must_use]
    pub fn admission(&self) -> SqliteAdmission {
        SqliteAdmission::new(self.clone())
    }

    /// The audit records in it.
    #[must_use]
    pub fn audit(&self) -> SqliteAudit {
        SqliteAudit::new(self.clone())
    }

    /// What is kept of prompts and answers in it.
    #[must_use]
    pub fn contents(&self) -> SqliteContents {
        SqliteContents::new(self.clone())
    }

    /// Writes what is left to be written, leaves all of it in the file itself, and lets go of it. Whoever asks after
    /// that, through any handle, is told that it is closed. A pool of yours stays open.
    ///
    /// # Errors
    /// When the last of it could not be written.
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
        self.inner.writer.ask(&self.inner.setup, question).await
    }

    /// The way to read, once the tables are known to be ours.
    async fn readers(&self) -> Result<&SqlitePool, StoreError> {
        let Inner { readers, known, .. } = &*self.inner;
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
    StoreError::broken("an answer to another question")
}
