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

/// Records every call in an audit trail. See the [module](crate::audit). A clone shares the same trail.
pub struct AuditLayer {
    way: Way,
}

/// How records reach their sinks.
#[derive(Clone)]
pub(super) enum Way {
    /// Through a queue in memory.
    Queue(Arc<Queue>),
    /// Through a journal on disk.
    Journal(Trails),
}

/// The default number of calls that may be open, or recorded and not yet written.
const CAPACITY: usize = 65_536;

impl AuditLayer {
    /// Creates a layer that sends records to `sink` through a queue in memory.
    pub fn new(sink: impl AuditSink) -> Self {
        Self::with_capacity(sink, CAPACITY)
    }

    /// Like [`new`](Self::new), with room for `calls` calls that are open, or recorded and not yet written. The default
    /// is 65,536.
    pub fn with_capacity(sink: impl AuditSink, calls: usize) -> Self {
        let queue = Queue::new(Box::new(sink), calls.clamp(1, Semaphore::MAX_PERMITS));
        AuditLayer { way: Way::Queue(Arc::new(queue)) }
    }

    /// Creates a layer that records into this journal, which passes records on to its sinks. A call is admitted only
    /// after its intent has been written, and a crash loses no record. See [`journal`](crate::store::journal).
    ///
    /// This layer itself writes how a call ended. The intent, that a call is about to be sent, is written by the
    /// gateway; in a stack of single layers it is written by [`BudgetLayer`](crate::BudgetLayer) or
    /// [`AdmissionLayer`](crate::AdmissionLayer).
    #[must_use]
    pub fn journaled(journal: Journal) -> Self {
        AuditLayer { way: Way::Journal(Trails::new(journal)) }
    }

    /// Waits until every call that has closed so far is written, for at most 30 seconds.
    ///
    /// Without a journal, records that the sink has not taken by then are still sent as long as the process and this
    /// runtime live. After that they are lost. The log says how many calls that concerns.
    ///
    /// With a journal, it waits until everything is on disk, for at most 30 seconds; if that is not enough, the log
    /// says so. It then gives the sinks at most two seconds. What they have not taken is sent after the next start.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the writing.
    pub async fn flush(&self) {
        match &self.way {
            Way::Queue(queue) => queue.flush().await,
            Way::Journal(journal) => journal.flush().await,
        }
    }

    /// The current state of the trail. Does no I/O.
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
