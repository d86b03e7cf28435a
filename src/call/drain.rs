use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads answers to their end after their clients have disconnected, to learn what they cost.
///
/// When the connection is dropped, a provider may or may not stop, and does not state what it bills; the call is then
/// charged the most that it can have cost. A drained answer is charged what the provider states, for everything that
/// was asked for. That is worth it if the provider continues regardless (Bedrock does), and expensive if it would have
/// stopped. A clone shares the same places.
///
/// ```
/// use std::time::Duration;
/// use tollgate::GatewayLayer;
/// use tollgate::call::Drain;
/// let layer = GatewayLayer::new().drain(Drain::new(64, Duration::from_secs(120)).of(["bedrock"]));
/// ```
#[derive(Debug, Clone)]
pub struct Drain {
    places: Arc<Semaphore>,
    most: Duration,
    /// `None` for all upstreams.
    upstreams: Option<Arc<[Arc<str>]>>,
}

impl Drain {
    /// Drains at most `at_once` answers at a time, each for at most `most`. Beyond that, the upstream connection is
    /// dropped. A shutdown waits for drains in progress.
    #[must_use]
    pub fn new(at_once: usize, most: Duration) -> Self {
        let places = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Drain { places, most, upstreams: None }
    }

    /// Restricts draining to the upstreams with these names. The default is all upstreams.
    #[must_use]
    pub fn of<U: Into<Arc<str>>>(mut self, upstreams: impl IntoIterator<Item = U>) -> Self {
        self.upstreams = Some(upstreams.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it drains answers of this upstream; `None` is the host's own service.
    pub(crate) fn reads(&self, upstream: Option<&str>) -> bool {
        let Some(named) = &self.upstreams else { return true };
        upstream.is_some_and(|upstream| named.iter().any(|name| **name == *upstream))
    }

    /// How many more answers could be drained now.
    #[must_use]
    pub fn places_left(&self) -> usize {
        self.places.available_permits()
    }

    /// Takes a place, if one is free.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    pub(crate) fn most(&self) -> Duration {
        self.most
    }
}
