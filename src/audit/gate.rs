use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;

use super::layer::Way;
use crate::call::Call;
use crate::domain::dialect::Operation;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;

/// The policy of an [`AuditLayer`](super::AuditLayer).
#[derive(Clone)]
pub struct AuditGate {
    way: Way,
}

impl AuditGate {
    pub(super) fn new(way: Way) -> Self {
        AuditGate { way }
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
                let place =
                    queue.place().ok_or_else(|| full("the audit queue is full: its sink fails or is too slow"))?;
                call.on_close(move |outcome| place.fill(outcome.clone()));
            }
            Way::Journal(journal) => {
                let why = "the journal is full, or its disk accepts no writes";
                let trail = Arc::new(journal.begin().ok_or_else(|| full(why))?);
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
}

fn full(why: &'static str) -> Rejection {
    Rejection::new(RejectionKind::StoreUnavailable, "the gateway cannot record this request now; try again in a moment")
        .retry_after(Duration::from_secs(1))
        .internal(why)
}

impl fmt::Debug for AuditGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditGate").finish_non_exhaustive()
    }
}
