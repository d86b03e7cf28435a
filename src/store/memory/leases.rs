use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::store::Session;

/// Until when each session is presumed alive. There are as many as gateways share the store: a few.
pub(super) struct Leases {
    sessions: Vec<Alive>,
    /// No lease ends before this time. It may be too early, since a renewal does not move it.
    none_before: Timestamp,
}

struct Alive {
    id: Uuid,
    /// When the session was last heard from. Every call renews it, so the end of the lease is computed only on demand.
    since: Timestamp,
    lease: Duration,
}

impl Alive {
    fn until(&self) -> Timestamp {
        self.since.saturating_add(self.lease).unwrap_or(Timestamp::MAX)
    }
}

impl Default for Leases {
    fn default() -> Self {
        Leases { sessions: Vec::new(), none_before: Timestamp::MAX }
    }
}

impl Leases {
    /// Renews a session's lease. Returns whether the session was unknown: it may have fallen silent before.
    pub(super) fn renew(&mut self, session: Session, now: Timestamp) -> bool {
        let Session { id, lease, .. } = session;
        let said = Alive { id, since: now, lease };
        match self.sessions.iter_mut().find(|known| known.id == id) {
            // Time does not go back.
            Some(known) if known.lease == lease => known.since = now,
            Some(known) if known.until() >= said.until() => {}
            Some(known) => *known = said,
            None => {
                self.none_before = self.none_before.min(said.until());
                self.sessions.push(said);
                return true;
            }
        }
        false
    }

    /// Removes and returns the sessions that have been silent for longer than their lease. Costs one comparison unless
    /// a lease may have ended.
    pub(super) fn take_silent(&mut self, now: Timestamp) -> Vec<Uuid> {
        if now <= self.none_before {
            return Vec::new();
        }
        let silent = self.sessions.extract_if(.., |known| known.until() < now).map(|known| known.id).collect();
        self.none_before = self.sessions.iter().map(Alive::until).min().unwrap_or(Timestamp::MAX);
        silent
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}
