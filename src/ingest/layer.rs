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
    /// Creates a layer with the defaults: 32 MiB per body (the limit of the Messages API), 512 MiB over all calls at
    /// once, and 30 seconds without a byte.
    #[must_use]
    pub fn new() -> Self {
        IngestLayer {
            max_body: 32 << 20,
            idle: Duration::from_secs(30),
            budget: Arc::new(Budget::new(512 << 20)),
            counter: None,
        }
    }

    /// Sets the largest accepted body, in bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets how many bytes of bodies may be in memory at once, over all calls that go through this layer and its
    /// clones.
    ///
    /// One body of an authenticated caller may use all the room that is free. Several bodies of the same caller
    /// together may use at most as much as they leave free: half of the total, if no other caller has any.
    ///
    /// If several such layers read the same call's body, the outermost counts it. An inner layer counts only what the
    /// body has grown by, whatever its own limits are. Copies made by a host's own layer in between are not counted.
    #[must_use]
    pub fn max_in_memory(mut self, bytes: usize) -> Self {
        self.budget = Arc::new(Budget::new(bytes));
        self
    }

    /// Sets how long a client may pause in the middle of its body, so that a hanging connection does not keep memory
    /// that others need. Zero means no limit. The total time of a body is not limited.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = if timeout.is_zero() { Duration::MAX } else { timeout };
        self
    }

    /// Counts the input tokens of requests with `counter`, for token limits, and for budgets with
    /// [`Estimator::Counted`](crate::budget::Estimator::Counted).
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
