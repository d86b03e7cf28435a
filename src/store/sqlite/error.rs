use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::body::BoxError;
use crate::store::StoreError;

/// A file cannot be used. The message is for the operator: it names the file and the remedy. Clients only ever see the
/// [`StoreError`] around it, which names neither.
#[derive(Debug, Clone)]
pub struct SqliteError {
    path: PathBuf,
    kind: SqliteErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What is wrong with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteErrorKind {
    /// The path is not that of a file: it is a URL with parameters, or `:memory:`.
    NotAPath,
    /// The directory does not exist.
    NoDirectory,
    /// The path is a directory.
    IsDirectory,
    /// The file, its directory, or the `-wal` or `-shm` beside it may not be written; [`path`](SqliteError::path) says
    /// which.
    ReadOnly,
    /// The file cannot be opened or created.
    CannotOpen,
    /// The file was removed, moved or replaced while it was open.
    Removed,
    /// The file is not an SQLite database.
    NotADatabase,
    /// The file is a damaged SQLite database.
    Corrupt,
    /// The database keeps its text in UTF-16, in which the names of pots and limits would not be found again.
    Utf16,
    /// Another process has kept the file locked for longer than the timeout.
    Locked,
    /// The pool had no free connection within its timeout.
    NoConnection,
    /// A later tollgate has written the file, with a schema that this version does not know.
    NewerSchema {
        /// The schema of the file.
        found: i64,
        /// The latest schema that this tollgate knows.
        known: i64,
    },
    /// [`migrate`](super::Sqlite::migrate) has not been run on the file, or not the one of this version.
    NotMigrated,
    /// The disk is too slow for the load, or hangs: thousands of questions are waiting already.
    Behind,
    /// The disk is full.
    Full,
    /// The disk could not be read or written.
    Io,
    /// The file or its pool was closed, or the thread that worked on it has ended.
    Closed,
    /// Any other error of SQLite or its driver.
    Other,
}

impl SqliteError {
    pub(super) fn new(path: &Path, kind: SqliteErrorKind) -> Self {
        SqliteError { path: path.to_owned(), kind, source: None }
    }

    pub(super) fn with(path: &Path, kind: SqliteErrorKind, source: impl Into<BoxError>) -> Self {
        SqliteError { path: path.to_owned(), kind, source: Some(Arc::from(source.into())) }
    }

    pub(super) fn of(path: &Path, error: sqlx::Error) -> Self {
        Self::with(path, kind(&error), error)
    }

    /// The same error for a file beside this one.
    pub(super) fn about(self, path: PathBuf) -> Self {
        SqliteError { path, ..self }
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> SqliteErrorKind {
        self.kind
    }

    /// The file that the error is about: the database, or its `-wal` or `-shm`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The primary result codes are those of <https://www.sqlite.org/rescode.html>; the driver passes on extended ones.
fn kind(error: &sqlx::Error) -> SqliteErrorKind {
    let database = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::PoolTimedOut => return SqliteErrorKind::NoConnection,
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return SqliteErrorKind::Closed,
        sqlx::Error::Io(_) => return SqliteErrorKind::Io,
        _ => return SqliteErrorKind::Other,
    };
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    match code & 0xff {
        1 if database.message().contains("no such table: tollgate_") => SqliteErrorKind::NotMigrated,
        // The last code can occur when two connections open the log at once.
        5 | 6 | 15 => SqliteErrorKind::Locked,
        8 => SqliteErrorKind::ReadOnly,
        10 => SqliteErrorKind::Io,
        11 => SqliteErrorKind::Corrupt,
        13 => SqliteErrorKind::Full,
        14 => SqliteErrorKind::CannotOpen,
        26 => SqliteErrorKind::NotADatabase,
        _ => SqliteErrorKind::Other,
    }
}

impl SqliteErrorKind {
    /// Whether the error is about the file as a whole, and not perhaps about one question only. Damage often is: it
    /// lies somewhere, and others may not come there.
    pub(super) fn is_of_the_file(self) -> bool {
        !matches!(self, SqliteErrorKind::Other | SqliteErrorKind::Corrupt)
    }

    /// Whether the error may go away without any change to the file.
    fn may_pass(self) -> bool {
        use SqliteErrorKind::{
            Behind, CannotOpen, Closed, Full, Io, Locked, NoConnection, NoDirectory, ReadOnly, Removed,
        };
        matches!(
            self,
            Behind | CannotOpen | Closed | Full | Io | Locked | NoConnection | NoDirectory | ReadOnly | Removed
        )
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            SqliteErrorKind::NotAPath => {
                write!(
                    f,
                    "{path} is not a file path; remove what follows `?`, and use `store::memory` to keep data in memory"
                )
            }
            SqliteErrorKind::NoDirectory => write!(f, "{path}: its directory does not exist; create it first"),
            SqliteErrorKind::IsDirectory => write!(f, "{path} is a directory; name a file in it"),
            SqliteErrorKind::ReadOnly => {
                write!(
                    f,
                    "{path} cannot be written; let this process write the file, the files beside it and their directory"
                )
            }
            SqliteErrorKind::CannotOpen => {
                write!(f, "{path} cannot be opened; check the permissions of the file and of its directory")
            }
            SqliteErrorKind::Removed => {
                write!(
                    f,
                    "{path} was removed, moved or replaced while it was open; put the right file there and restart the gateway"
                )
            }
            SqliteErrorKind::NotADatabase => {
                write!(f, "{path} is not a SQLite database, or is encrypted; name another file")
            }
            SqliteErrorKind::Corrupt => {
                write!(f, "{path} is damaged; restore it from a backup, or save what `sqlite3 {path} .recover` finds")
            }
            SqliteErrorKind::Utf16 => {
                write!(f, "{path} keeps its text in UTF-16, and tollgate needs UTF-8; name another file")
            }
            SqliteErrorKind::Locked => write!(f, "{path} is locked by another process; end it, or wait longer"),
            SqliteErrorKind::NoConnection => {
                write!(f, "{path}: its pool has no free connection; give the pool more of them")
            }
            SqliteErrorKind::NewerSchema { found, known } => {
                write!(
                    f,
                    "{path} has schema {found}, but this version of tollgate knows {known}; run the version that wrote it"
                )
            }
            SqliteErrorKind::NotMigrated => {
                write!(f, "{path} does not have the current tollgate tables; call `migrate` once")
            }
            SqliteErrorKind::Behind => {
                write!(
                    f,
                    "{path}: thousands of requests to it are already waiting; check whether its disk hangs or is too slow for so many calls"
                )
            }
            SqliteErrorKind::Full => write!(f, "{path}: the disk is full; free some space"),
            SqliteErrorKind::Io => write!(f, "{path}: the disk failed to read or write"),
            SqliteErrorKind::Closed => {
                write!(f, "{path}, its pool or its worker thread was closed; open the file again")
            }
            SqliteErrorKind::Other => write!(f, "{path} could not be used"),
        }
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The operation was not applied.
impl From<SqliteError> for StoreError {
    fn from(error: SqliteError) -> Self {
        if error.kind.may_pass() { StoreError::unavailable(error) } else { StoreError::broken(error) }
    }
}

/// For operations that must not be lost: a file that somebody has to repair is tried again until it works.
pub(super) fn mendable(error: StoreError) -> StoreError {
    let source = error.source().and_then(|source| source.downcast_ref::<SqliteError>());
    match source.is_some_and(|error| error.kind != SqliteErrorKind::Other) && !error.is_unavailable() {
        true => StoreError::unavailable(error),
        false => error,
    }
}
