use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::cut::{Cut, Door};
use super::{Call, Shared};
use crate::domain::rejection::{Rejection, RejectionKind};

/// The calls in progress whose clients are connected, so that they can be ended from outside: a key was revoked, the
/// gateway shuts down, or a client does not read its answer. A clone is the same set.
///
/// A cut call drops its upstream request at once, and is settled as if the client had hung up. Only if it is cut
/// because its client is too slow, a [`Drain`](super::Drain) may still read the answer to its end. The client learns
/// the reason in its dialect: by the status if the head of the answer has not been sent, by an event in a stream, and
/// by a broken connection otherwise.
///
/// ```
/// use std::time::Duration;
/// use tollgate::GatewayLayer;
/// use tollgate::call::LiveCalls;
/// use tollgate::domain::rejection::{Rejection, RejectionKind};
/// # use uuid::Uuid;
///
/// let live = LiveCalls::with_client_timeout(Duration::from_secs(120));
/// let layer = GatewayLayer::new().live_calls(live.clone());
/// // … and where keys are revoked:
/// # let revoked = Uuid::nil();
/// let why = Rejection::new(RejectionKind::Unauthenticated, "this key was revoked");
/// let cut = live.cut(&why, |call| call.principal().is_some_and(|principal| principal.key == Some(revoked)));
/// # assert_eq!(cut, 0);
/// ```
#[derive(Clone, Default)]
pub struct LiveCalls {
    registry: Arc<Registry>,
}

#[derive(Default)]
struct Registry {
    client_timeout: Option<Duration>,
    calls: Mutex<Calls>,
    emptied: Notify,
}

#[derive(Default)]
struct Calls {
    by_id: HashMap<Uuid, Weak<Shared>, RandomState>,
    /// Whether a task looks for slow clients.
    is_watched: bool,
}

impl LiveCalls {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty set that cuts calls whose client has read nothing of what is ready for it for `timeout`, or up
    /// to a quarter longer.
    ///
    /// A silent provider does not count; it has its own [timeout](crate::upstream::Provider::idle_timeout). The host
    /// closes the connection.
    #[must_use]
    pub fn with_client_timeout(timeout: Duration) -> Self {
        let client_timeout = (!timeout.is_zero()).then_some(timeout);
        LiveCalls { registry: Arc::new(Registry { client_timeout, ..Registry::default() }) }
    }

    /// The number of calls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.calls().by_id.len()
    }

    /// Whether there are no calls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The calls, in no particular order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.registry.all()
    }

    /// Cuts the calls that `which` selects, for this reason, and returns their number.
    ///
    /// A refusal that is already on its way is sent unchanged. Answers that are [drained](super::Drain) without their
    /// client are not included.
    pub fn cut(&self, why: &Rejection, which: impl Fn(&Call) -> bool) -> usize {
        self.registry.all().iter().filter(|call| which(call)).filter(|call| call.cut(why, Cut::HungUp)).count()
    }

    /// Waits until there are no calls, and after `within` cuts the remaining ones and returns their number.
    ///
    /// Use it at shutdown, once no new calls are accepted. [`Settlements::drain`](super::Settlements::drain) then waits
    /// for the work that they leave behind. Clients that still wait for an answer are told to retry after one to five
    /// seconds, spread so that they do not all reach the remaining gateways at once.
    ///
    /// # Cancellation
    /// Dropping this future cuts nothing.
    pub async fn finish(&self, within: Duration) -> usize {
        if tokio::time::timeout(within, self.emptied()).await.is_ok() {
            return 0;
        }
        let why = Rejection::new(RejectionKind::ShuttingDown, "the gateway is shutting down; try again");
        let cut = |call: &Call| call.cut(&why.clone().retry_after(apart(call.id())), Cut::HungUp);
        self.registry.all().iter().filter(|call| cut(call)).count()
    }

    async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.registry.emptied.notified());
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Creates the door of a call that is about to open.
    pub(super) fn door(&self) -> Door {
        Door::new(self.clone())
    }

    /// Registers a call that has opened.
    pub(super) fn enter(&self, call: &Call) {
        let mut calls = self.registry.calls();
        calls.by_id.insert(call.id(), Arc::downgrade(&call.shared));
        if let Some(timeout) = self.registry.client_timeout.filter(|_| !std::mem::replace(&mut calls.is_watched, true))
        {
            drop(calls);
            let watch = Watch(Some(self.registry.clone()));
            call.settlements().spawn_untracked(watch.for_slow_clients(timeout));
        }
    }

    /// Removes a call whose client is gone.
    pub(super) fn leave(&self, id: Uuid) {
        let mut calls = self.registry.calls();
        calls.by_id.remove(&id);
        if calls.by_id.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

impl Registry {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Call> {
        let calls = self.calls();
        let found: Vec<_> = calls.by_id.values().filter_map(Weak::upgrade).collect();
        // Outside of the lock: dropping the last handle of a call runs hooks.
        drop(calls);
        found.into_iter().map(|shared| Call { shared, target: None, slot: None, edited: None }).collect()
    }
}

/// The `retry-after` for a client refused by a shutdown, spread by the id, most of which is random.
fn apart(id: Uuid) -> Duration {
    Duration::from_secs(1 + (id.as_u128() % 5) as u64)
}

/// The task that looks for slow clients. If it is dropped with its runtime, the next call starts another one.
struct Watch(Option<Arc<Registry>>);

impl Watch {
    async fn for_slow_clients(mut self, timeout: Duration) {
        let why = Rejection::new(RejectionKind::ClientTooSlow, "the client did not read the answer for too long");
        while let Some(registry) = &self.0 {
            tokio::time::sleep(timeout / 4).await;
            let mut calls = registry.calls();
            if calls.by_id.is_empty() {
                calls.is_watched = false;
                drop(calls);
                self.0 = None;
                return;
            }
            drop(calls);
            let now = Instant::now();
            for call in registry.all() {
                if call.takes_nothing_since(now).is_some_and(|since| now - since >= timeout) {
                    call.cut(&why, Cut::Slow);
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(registry) = &self.0 {
            registry.calls().is_watched = false;
        }
    }
}

impl fmt::Debug for LiveCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCalls")
            .field("len", &self.len())
            .field("client_timeout", &self.registry.client_timeout)
            .finish()
    }
}
