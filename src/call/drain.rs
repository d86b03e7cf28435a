use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads answers to their end whose clients have gone, to learn what they cost.
///
/// A provider that is hung up on stops, or does not, and nobody is told what it bills; a call is then charged the most that
/// it can have been. Read to its end, it is charged what it says, and that is all of what was asked for: worth it where a
/// provider goes on regardless (Bedrock does), and dear where it would have stopped. A clone shares its places.
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
    /// Those of all where none is named.
    upstreams: Option<Arc<[Arc<str>]>>,
}

impl Drain {
    /// At most so many answers at once, each for so long; what is beyond is hung up on. A shutdown waits for those under
    /// way.
    #[must_use]
    pub fn new(at_once: usize, most: Duration) -> Self {
        let places = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Drain { places, most, upstreams: None }
    }

    /// Only answers of the upstreams of these names; of all, unless said.
    #[must_use]
    pub fn of<U: Into<Arc<str>>>(mut self, upstreams: impl IntoIterator<Item = U>) -> Self {
        self.upstreams = Some(upstreams.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it reads what this one answers; `None` is the host's own.
    pub(crate) fn reads(&self, upstream: Option<&str>) -> bool {
        let Some(named) = &self.upstreams else { return true };
        upstream.is_some_and(|upstream| named.iter().any(|name| **name == *upstream))
    }

    /// How many more could be read now.
    #[must_use]
    pub fn places_left(&self) -> usize {
        self.places.available_permits()
    }

    /// One of the places, if there is one.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    pub(crate) fn most(&self) -> Duration {
        self.most
    }
}
