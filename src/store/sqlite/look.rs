//! Looks at a file from outside, before anything is written to it.
//!
//! Only SQLite itself opens the file, or the index of its log: a process that opens and closes a file by other means
//! drops the locks that its own connections hold on it (<https://www.sqlite.org/howtocorrupt.html>, 2.2).

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::{SqliteError, SqliteErrorKind};

const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// The path in the form that SQLite gets: absolute, so that no name can be taken for a URI.
///
/// A path that others would read as more than a path is refused: a file of that name is not what was meant.
pub(super) fn stated(path: &Path) -> Result<PathBuf, SqliteError> {
    let text = path.to_str().unwrap_or_default();
    let url = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
    let is_more = url.is_some_and(|url| url.is_empty() || url.contains('?'));
    if is_more || url.unwrap_or(text) == ":memory:" {
        return Err(SqliteError::new(path, SqliteErrorKind::NotAPath));
    }
    let path = url.map_or(path, Path::new);
    Ok(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Refuses problems that are visible from outside, and creates an empty file if there is none.
pub(super) fn look(path: &Path) -> Result<(), SqliteError> {
    let refused = |kind| Err(SqliteError::new(path, kind));
    let directory = path.parent().unwrap_or(path);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return refused(SqliteErrorKind::IsDirectory),
        // A file without any write permission was meant to have none. That root could write it all the same is no
        // reason to do so.
        Ok(found) if found.permissions().readonly() => return refused(SqliteErrorKind::ReadOnly),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return make(path, directory),
        Err(error) => return Err(SqliteError::with(path, SqliteErrorKind::CannotOpen, error)),
    }
    // The log and its index are files beside it.
    if fs::metadata(directory).is_ok_and(|found| found.permissions().readonly()) {
        return refused(SqliteErrorKind::ReadOnly);
    }
    [LOG, INDEX].iter().find_map(|ending| unwritable(&beside(path, ending))).map_or(Ok(()), Err)
}

/// The problem with a log or its index that exists and cannot be written.
fn unwritable(path: &Path) -> Option<SqliteError> {
    if fs::metadata(path).ok()?.permissions().readonly() {
        return Some(SqliteError::new(path, SqliteErrorKind::ReadOnly));
    }
    // There are locks on the index, but none on the log.
    if !path.as_os_str().as_encoded_bytes().ends_with(LOG.as_bytes()) {
        return None;
    }
    let error = OpenOptions::new().write(true).open(path).err().filter(is_refusal)?;
    Some(SqliteError::with(path, SqliteErrorKind::ReadOnly, error))
}

/// Names the file that prevents a write, which SQLite does not say.
pub(super) fn blame(error: SqliteError) -> SqliteError {
    if error.kind() != SqliteErrorKind::ReadOnly {
        return error;
    }
    let path = error.path();
    let of_the_log = unwritable(&beside(path, LOG)).map(|_| LOG);
    match of_the_log.or_else(|| is_alien(path).then_some(INDEX)) {
        Some(ending) => error.clone().about(beside(path, ending)),
        None => error,
    }
}

/// Whether the index is another user's, and has another owner or other rights than the file, which SQLite never gives
/// it.
#[cfg(unix)]
fn is_alien(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let rights = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.mode()));
    match (rights(path), rights(&beside(path, INDEX)), fs::metadata("/proc/self")) {
        (Ok(file), Ok(index), Ok(us)) => index != file && index.0 != us.uid(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_alien(_: &Path) -> bool {
    false
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Creates an empty file that only its owner may read: it will hold digests of keys. SQLite gives its log the same
/// rights.
fn make(path: &Path, directory: &Path) -> Result<(), SqliteError> {
    match fs::metadata(directory) {
        Ok(found) if found.permissions().readonly() => return Err(SqliteError::new(path, SqliteErrorKind::ReadOnly)),
        Ok(_) => {}
        Err(error) => return Err(SqliteError::with(path, SqliteErrorKind::NoDirectory, error)),
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if is_refusal(&error) => Err(SqliteError::with(path, SqliteErrorKind::ReadOnly, error)),
        Err(error) => Err(SqliteError::with(path, SqliteErrorKind::CannotOpen, error)),
    }
}
