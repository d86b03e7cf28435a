//! Metrics that belong to no single call.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::metrics::{Metrics, figure};
use crate::audit::AuditLayer;
use crate::call::Settlements;
use crate::content::ContentLayer;

impl Metrics {
    /// Sets the number of settlements that wait for a store. This and the next two methods do no I/O: call them at an
    /// interval, or before each scrape.
    pub fn settlements(&self, settlements: &Settlements) {
        gauge!("tollgate_settlements_waiting").set(figure(settlements.waiting() as u64));
    }

    /// Sets whether a trail refuses calls, how many more calls it has room for, and how far behind its journal's sinks
    /// are. Where a stack has several trails, the gauges show the one that was passed last.
    pub fn audit(&self, audit: &AuditLayer) {
        let status = audit.status();
        gauge!("tollgate_audit_refusing").set(figure(status.is_refusing.into()));
        gauge!("tollgate_audit_places_left").set(figure(status.places_left as u64));
        for (sink, lines) in status.behind {
            gauge!("tollgate_audit_behind", "sink" => sink).set(figure(lines));
        }
    }

    /// Counts the bodies that should have been kept and were not.
    pub fn content(&self, content: &ContentLayer) {
        counter!("tollgate_content_dropped_total").absolute(content.dropped());
    }
}

pub(super) fn describe() {
    describe_gauge!("tollgate_settlements_waiting", "Settlements that are waiting for a store or a runtime");
    describe_gauge!("tollgate_audit_refusing", "1 if calls are refused because they cannot be recorded");
    describe_gauge!("tollgate_audit_places_left", "Calls that may still be open, or recorded and not yet written");
    describe_gauge!("tollgate_audit_behind", "Lines of the journal that a sink has not received yet");
    describe_counter!("tollgate_content_dropped_total", "Bodies that should have been kept and were not");
}
