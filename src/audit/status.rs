use std::sync::Arc;

use crate::store::journal::Head;

/// The state of an audit trail, for readiness checks and gauges: see [`AuditLayer::status`](super::AuditLayer::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuditStatus {
    /// Whether all calls are refused because they could not be recorded: no place is left, or the journal's disk is
    /// full, fails or hangs.
    pub is_refusing: bool,
    /// How many more calls may be open, or recorded and not yet written.
    pub places_left: usize,
    /// How many refusals of calls without a good key were dropped, because at most a quarter of the places was left
    /// when they ended. Always zero with a journal.
    pub left_out: u64,
    /// The last line written to the journal, which [`verify`](crate::store::journal::verify) accepts as an anchor.
    /// `None` without a journal, and once its writer has ended.
    pub head: Option<Head>,
    /// For each sink of the journal, by name, how many lines it has not received. For a sink of events: the number of
    /// lines since the first event that it has not received.
    pub behind: Vec<(Arc<str>, u64)>,
}
