use std::error::Error;
use std::fmt;

use crate::body::BoxError;

/// A store could not answer. The cause is in [`source`](Error::source); it is for the log, never for the client.
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
    /// The store could not be asked, and nothing has changed. A retry may help.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Unavailable, source: source.into() }
    }

    /// The store was asked, but no answer came, so the operation may have been applied. Ask again with the same id.
    pub fn uncertain(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Uncertain, source: source.into() }
    }

    /// The stored data or the request makes no sense. A retry will not help.
    pub fn broken(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Broken, source: source.into() }
    }

    /// The store does not support this operation.
    pub fn unsupported(source: impl Into<BoxError>) -> Self {
        StoreError { kind: Kind::Unsupported, source: source.into() }
    }

    /// The store panicked. Most callers treat this like [`broken`](Self::broken).
    pub(crate) fn panicked() -> Self {
        StoreError { kind: Kind::Panicked, source: "it panicked".into() }
    }

    pub(crate) fn is_panic(&self) -> bool {
        self.kind == Kind::Panicked
    }

    /// Whether a retry may help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Uncertain)
    }

    /// Whether the store does not support the operation.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// Whether the operation may have been applied despite the error.
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
            Kind::Unsupported => "the store does not support this operation",
        })
    }
}

/// Displays an error and all its causes on one line, for the log.
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
