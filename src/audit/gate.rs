use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;

use super::layer::Way;
use crate::call::Call;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::dialect::Operation;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;

/// The policy of an [`AuditLayer`](super::AuditLayer).
#[derive(Clone)]
pub struct AuditGate {
    way: Way,
    /// The second of the process in which a refusal was last an error of the log; 0 for none.
    told: Arc<AtomicU64>,
}

/// How often a refusal is an error of the log. A log of each would fill what is left of a full disk.
const TOLD_EVERY: u64 = 10;

impl AuditGate {
    pub(super) fn new(way: Way) -> Self {
        AuditGate { way, told: Arc::default() }
    }
}

#[async_trait]
impl Gate for AuditGate {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.stand_alone(parts, call)
    }

    fn decide(&self, parts: &mut Parts, call: &Call) -> Option<Result<(), Rejection>> {
        Some(self.stand_alone(parts, call))
    }
}

impl AuditGate {
    fn stand_alone(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        call.pass_unplaced("AuditLayer")?;
        self.enter(parts, call)
    }

    /// Reserves a place in the trail for the call, filled when the call closes.
    pub(crate) fn enter(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if call.endpoint().operation == Operation::Other {
            return Ok(());
        }
        match &self.way {
            Way::Queue(queue) => {
                let why = "the audit queue is full: its sink fails or is too slow";
                let place = queue.place().ok_or_else(|| self.full(why))?;
                call.on_close(move |outcome| place.fill(outcome.clone()));
            }
            Way::Journal(journal) => {
                let why = "the journal is full or takes no lines: the log says why";
                let trail = Arc::new(journal.begin().ok_or_else(|| self.full(why))?);
                if !call.set_trail(trail.clone()) {
                    return Err(Rejection::misconfigured(
                        "this stack has several `AuditLayer::journaled`: use only one, and add several sinks to its journal",
                    ));
                }
                call.on_close(move |outcome| trail.close(outcome));
            }
        }
        call.set_client(&parts.headers);
        Ok(())
    }

    fn full(&self, why: &'static str) -> Rejection {
        let refused = "the gateway cannot record this request now; try again in a moment";
        let rejection = Rejection::new(RejectionKind::StoreUnavailable, refused).retry_after(Duration::from_secs(1));
        let (now, told) = (SystemClock.elapsed().as_secs().saturating_add(1), self.told.load(Ordering::Relaxed));
        if told != 0 && now < told.saturating_add(TOLD_EVERY) {
            return rejection;
        }
        self.told.store(now, Ordering::Relaxed);
        rejection.internal(why)
    }
}

impl fmt::Debug for AuditGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditGate").finish_non_exhaustive()
    }
}
