use std::sync::Arc;

use http::StatusCode;

use crate::domain::dialect::Dialect;
use crate::domain::rejection::RejectionKind;

/// How the door answers, whatever it is that it answers with.
#[derive(Debug, Clone, Default)]
pub(super) struct Manners {
    /// Whether the client is told how long its answer took.
    pub(super) server_timing: bool,
    /// The host's own statuses, in the place of those that the dialects have.
    statuses: Option<Arc<Vec<(Dialect, RejectionKind, StatusCode)>>>,
}

impl Manners {
    pub(super) fn set_status(&mut self, dialect: Dialect, kind: RejectionKind, status: StatusCode) {
        let is_error = status.is_client_error() || status.is_server_error();
        assert!(is_error, "{status} for `{}`: a client would take a refusal for an answer", kind.as_str());
        assert!(!kind.is_upstream(), "`{}` is no refusal: an upstream failed", kind.as_str());
        let statuses = Arc::make_mut(self.statuses.get_or_insert_default());
        statuses.retain(|(of, about, _)| (*of, *about) != (dialect, kind));
        statuses.push((dialect, kind, status));
    }

    /// The host's own status of such a refusal, if it has one.
    pub(super) fn status(&self, dialect: Dialect, kind: RejectionKind) -> Option<StatusCode> {
        let statuses = self.statuses.as_deref()?;
        statuses.iter().find(|(of, about, _)| (*of, *about) == (dialect, kind)).map(|(_, _, status)| *status)
    }
}
