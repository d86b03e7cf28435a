use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;

use super::queue::Queue;
use crate::call::Call;
use crate::domain::attribution::Attribution;
use crate::domain::dialect::Operation;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;

/// The policy of an [`AuditLayer`](super::AuditLayer).
#[derive(Clone)]
pub struct AuditGate {
    queue: Arc<Queue>,
}

impl AuditGate {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        AuditGate { queue }
    }
}

#[async_trait]
impl Gate for AuditGate {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.enter(parts, call)
    }

    fn decide(&self, parts: &mut Parts, call: &Call) -> Option<Result<(), Rejection>> {
        Some(self.enter(parts, call))
    }
}

impl AuditGate {
    /// Takes the call's place in the queue, to be filled when it closes.
    pub(crate) fn enter(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if call.endpoint().operation == Operation::Other {
            return Ok(());
        }
        let Some(place) = self.queue.place() else {
            return Err(Rejection::new(
                RejectionKind::StoreUnavailable,
                "the gateway cannot record this request now; try again in a moment",
            )
            .retry_after(Duration::from_secs(1))
            .internal("the audit queue is full: its sink fails, or is too slow"));
        };
        call.set_client(|| Attribution::of(&parts.headers, None));
        call.on_close_shared(move |outcome| place.fill(outcome.clone()));
        Ok(())
    }
}

impl fmt::Debug for AuditGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditGate").finish_non_exhaustive()
    }
}
