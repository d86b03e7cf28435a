use std::collections::HashMap;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::Session;

/// Until when each session is believed to be alive.
pub(super) struct Leases {
    until: HashMap<Uuid, Timestamp, RandomState>,
    /// No lease ends before: it may lie behind the truth, since renewing does not move it.
    none_before: Timestamp,
}

impl Default for Leases {
    fn default() -> Self {
        Leases { until: HashMap::default(), none_before: Timestamp::MAX }
    }
}

impl Leases {
    /// A session has said something.
    pub(super) fn renew(&mut self, session: Session, now: Timestamp) {
        let until = now.saturating_add(session.lease).unwrap_or(Timestamp::MAX);
        let known = self.until.entry(session.id).or_insert_with(|| {
            self.none_before = self.none_before.min(until);
            until
        });
        *known = until.max(*known);
    }

    /// Sessions that have been silent for longer than their lease; each is told once. Costs a comparison unless a lease
    /// could have ended.
    pub(super) fn take_silent(&mut self, now: Timestamp) -> Vec<Uuid> {
        if now <= self.none_before {
            return Vec::new();
        }
        let silent = self.until.extract_if(|_, until| *until < now).map(|(id, _)| id).collect();
        self.none_before = self.until.values().min().copied().unwrap_or(Timestamp::MAX);
        silent
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}
