use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

use super::{Ingest, TokenCounter};
use crate::body::Budget;
use crate::call::CallService;

/// Reads and indexes request bodies. See the [module](crate::ingest).
#[derive(Clone)]
pub struct IngestLayer {
    pub(super) max_body: usize,
    pub(super) idle: Duration,
    pub(super) budget: Arc<Budget>,
    pub(super) counter: Option<Arc<dyn TokenCounter>>,
}

impl IngestLayer {
    /// 32 MiB a body, as the Messages API has it, 512 MiB over all calls at once, and 30 seconds without a byte.
    #[must_use]
    pub fn new() -> Self {
        IngestLayer {
            max_body: 32 << 20,
            idle: Duration::from_secs(30),
            budget: Arc::new(Budget::new(512 << 20)),
            counter: None,
        }
    }

    /// The largest body that is read, in bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The most bytes of bodies in memory at once, over all calls that go through this layer and its clones. Of a caller who is
    /// known several bodies may take as much as they leave: half of it, if nobody else has any.
    ///
    /// Of one call's body that several such layers read, one within another, the outermost counts it, and those within only by
    /// how much it is longer there, whatever their own limits are. A copy that a host's layer makes in between is the host's.
    #[must_use]
    pub fn max_in_memory(mut self, bytes: usize) -> Self {
        self.budget = Arc::new(Budget::new(bytes));
        self
    }

    /// How long a client may send nothing in the middle of its body: one whose connection hangs must not keep the room that
    /// others need. Zero is as long as it likes. There is no limit on the whole.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = if timeout.is_zero() { Duration::MAX } else { timeout };
        self
    }

    /// Has the input tokens of requests counted, for limits on tokens, and for budgets that are estimated
    /// [by it](crate::budget::Estimator::Counted).
    #[must_use]
    pub fn count_by(mut self, counter: impl TokenCounter) -> Self {
        self.counter = Some(Arc::new(counter));
        self
    }
}

impl Default for IngestLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for IngestLayer {
    type Service = CallService<Ingest<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(Ingest::new(inner, self.clone()))
    }
}

impl fmt::Debug for IngestLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestLayer")
            .field("max_body", &self.max_body)
            .field("budget", &self.budget)
            .field("counts", &self.counter.is_some())
            .finish()
    }
}
