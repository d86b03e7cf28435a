use std::sync::Arc;

use http::StatusCode;

use crate::domain::dialect::Dialect;
use crate::domain::rejection::RejectionKind;

/// How the door answers, independent of what it answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Manners {
    /// Whether the client gets a `server-timing` header.
    pub(super) server_timing: bool,
    /// The host's own statuses, instead of the dialects' defaults.
    statuses: Option<Arc<Vec<(Dialect, RejectionKind, StatusCode)>>>,
}

impl Manners {
    pub(super) fn set_status(&mut self, dialect: Dialect, kind: RejectionKind, status: StatusCode) {
        let is_error = status.is_client_error() || status.is_server_error();
        assert!(
            is_error,
            "{status} for `{}` is not an error status: clients would take the refusal for an answer",
            kind.as_str()
        );
        assert!(
            !kind.is_upstream(),
            "the status of `{}` cannot be set: it is not a refusal but the failure of an upstream",
            kind.as_str()
        );
        let statuses = Arc::make_mut(self.statuses.get_or_insert_default());
        statuses.retain(|(of, about, _)| (*of, *about) != (dialect, kind));
        statuses.push((dialect, kind, status));
    }

    /// The host's own status for such a refusal, if there is one.
    pub(super) fn status(&self, dialect: Dialect, kind: RejectionKind) -> Option<StatusCode> {
        let statuses = self.statuses.as_deref()?;
        statuses.iter().find(|(of, about, _)| (*of, *about) == (dialect, kind)).map(|(_, _, status)| *status)
    }
}
