use std::error::Error;
use std::fmt;

use crate::body::BoxError;

/// A store that could not answer. What went wrong is in [`source`](Error::source), for the log and never for the client.
#[derive(Debug)]
pub struct StoreError {
    kind: Kind,
    source: BoxError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Uncertain,
    Broken,
    Panicked,
    Unsupported,
}

impl StoreError {
    /// It could not be asked, and nothing has changed: coming back may help.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Unavailable, source: source.into() }
    }

    /// It was asked, and no answer came: what was asked may have been done. Ask again with the same id.
    pub fn uncertain(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Uncertain, source: source.into() }
    }

    /// What it holds, or was asked, makes no sense: asking again will not help.
    pub fn broken(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Broken, source: source.into() }
    }

    /// It is no part of what this store does.
    pub fn unsupported(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Unsupported, source: source.into() }
    }

    /// It panicked when it was asked. To most that is as good as broken.
    pub(crate) fn panicked() -> Self {
        StoreError { kind: Kind::Panicked, source: "it panicked".into() }
    }

    pub(crate) fn is_panic(&self) -> bool {
        self.kind == Kind::Panicked
    }

    /// Whether coming back may help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Uncertain)
    }

    /// Whether no such thing can be asked of it.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        self.kind == Kind::Uncertain
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unavailable => "the store cannot be reached",
            Kind::Uncertain => "the store did not answer",
            Kind::Broken | Kind::Panicked => "the store is broken",
            Kind::Unsupported => "the store does no such thing",
        })
    }
}

/// An error and all that caused it, in one line for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a StoreError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
