use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A journal could not be opened or set up.
#[derive(Debug)]
pub struct JournalError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Locked,
    Setting(&'static str),
    Io(io::Error),
}

impl JournalError {
    pub(super) fn locked(path: &Path) -> Self {
        JournalError { path: path.to_owned(), kind: Kind::Locked }
    }

    pub(super) fn setting(path: &Path, what: &'static str) -> Self {
        JournalError { path: path.to_owned(), kind: Kind::Setting(what) }
    }

    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        |error| JournalError { path: path.to_owned(), kind: Kind::Io(error) }
    }

    /// Whether another process writes to this journal.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self.kind, Kind::Locked)
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            Kind::Locked => write!(f, "{path}: another process is using this journal"),
            Kind::Setting(what) => write!(f, "{path}: {what}"),
            Kind::Io(error) => write!(f, "{path}: cannot keep a journal here: {error}"),
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::Io(error) => Some(error),
            _ => None,
        }
    }
}
