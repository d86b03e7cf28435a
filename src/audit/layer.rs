use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tower::Layer;

use super::gate::AuditGate;
use super::queue::Queue;
use super::status::AuditStatus;
use crate::call::CallService;
use crate::gate::{GateLayer, GateService};
use crate::store::audit::AuditSink;
use crate::store::journal::{Journal, Trails};

/// Records calls. See the [module](crate::audit). A clone is the same trail.
pub struct AuditLayer {
    way: Way,
}

/// How records come to their sinks.
#[derive(Clone)]
pub(super) enum Way {
    /// From memory.
    Queue(Arc<Queue>),
    /// By way of the disk.
    Journal(Trails),
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
        let queue = Queue::new(Box::new(sink), calls.clamp(1, Semaphore::MAX_PERMITS));
        AuditLayer { way: Way::Queue(Arc::new(queue)) }
    }

    /// Records into this journal, which hands records on to its sinks: a call is let through when it is written down that it
    /// goes, and a crash loses none. See [`journal`](crate::store::journal).
    ///
    /// By itself this layer writes how a call ended; that it is about to be sent is written by the gateway, and in a stack of
    /// single layers by [`BudgetLayer`](crate::BudgetLayer) or [`AdmissionLayer`](crate::AdmissionLayer).
    #[must_use]
    pub fn journaled(journal: Journal) -> Self {
        AuditLayer { way: Way::Journal(Trails::new(journal)) }
    }

    /// Waits until every call that has closed by now is written, half a minute at most. What the sink has not had by then it is
    /// told of as long as the process and this runtime live, and after that nobody is: of how many calls the log says.
    ///
    /// With a journal it waits until all is on the disk, half a minute at most, of which the log says when it was not enough, and
    /// then two seconds at most for sinks to have had it: what they have not had comes after the next start.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the writing.
    pub async fn flush(&self) {
        match &self.way {
            Way::Queue(queue) => queue.flush().await,
            Way::Journal(journal) => journal.flush().await,
        }
    }

    /// How it stands now. Asks no disk and no sink.
    #[must_use]
    pub fn status(&self) -> AuditStatus {
        match &self.way {
            Way::Queue(queue) => {
                let places_left = queue.places_left();
                let (is_refusing, left_out) = (places_left == 0, queue.left_out());
                AuditStatus { is_refusing, places_left, left_out, head: None, behind: Vec::new() }
            }
            Way::Journal(journal) => {
                let (places_left, head) = (journal.places_left(), journal.head());
                let is_refusing = places_left == 0 || journal.is_failing();
                AuditStatus { is_refusing, places_left, left_out: 0, head, behind: journal.behind() }
            }
        }
    }

    pub(crate) fn gate(&self) -> AuditGate {
        AuditGate::new(self.way.clone())
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = CallService<GateService<AuditGate, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        GateLayer::ours(self.gate()).layer(inner)
    }
}

impl Clone for AuditLayer {
    fn clone(&self) -> Self {
        AuditLayer { way: self.way.clone() }
    }
}

impl fmt::Debug for AuditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer").finish_non_exhaustive()
    }
}
