use std::sync::Arc;

use crate::store::journal::Head;

/// How a trail stands, for a readiness check and for gauges: see [`AuditLayer::status`](super::AuditLayer::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuditStatus {
    /// Whether no call is let through, because it could not be recorded: no place is left, or the journal's disk has no room,
    /// takes nothing, or hangs.
    pub is_refusing: bool,
    /// How many more calls may be open, or recorded and not yet written.
    pub places_left: usize,
    /// How many refusals of calls without a good key are not in the trail, because no more than a quarter of its places was
    /// left when they ended; none with a journal.
    pub left_out: u64,
    /// The last line of the journal that is written, which [`verify`](crate::store::journal::verify) takes as an anchor;
    /// `None` without a journal, and once its writer has ended.
    pub head: Option<Head>,
    /// How many lines of the journal each of its sinks has not had, by its name; of a sink of events, how many there are since the
    /// first event that it has not had.
    pub behind: Vec<(Arc<str>, u64)>,
}
