use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tower::Layer;

use super::gate::AuditGate;
use super::queue::Queue;
use crate::call::CallService;
use crate::gate::{GateLayer, GateService};
use crate::store::audit::AuditSink;

/// Records calls. See the [module](crate::audit). A clone is the same trail.
pub struct AuditLayer {
    queue: Arc<Queue>,
}

/// Calls that may be open, or recorded and not yet written.
const CAPACITY: usize = 65_536;

impl AuditLayer {
    /// Records into `sink`.
    pub fn new(sink: impl AuditSink) -> Self {
        Self::with_capacity(sink, CAPACITY)
    }

    /// Records into `sink`, with room for so many calls that are open, or recorded and not yet written; 65,536 otherwise.
    pub fn with_capacity(sink: impl AuditSink, calls: usize) -> Self {
        AuditLayer { queue: Arc::new(Queue::new(Box::new(sink), calls.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Waits until every call that has closed by now is written.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the writing.
    pub async fn flush(&self) {
        self.queue.flush().await;
    }

    pub(crate) fn gate(&self) -> AuditGate {
        AuditGate::new(self.queue.clone())
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = CallService<GateService<AuditGate, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        GateLayer::new(self.gate()).layer(inner)
    }
}

impl Clone for AuditLayer {
    fn clone(&self) -> Self {
        AuditLayer { queue: self.queue.clone() }
    }
}

impl fmt::Debug for AuditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer").finish_non_exhaustive()
    }
}
