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

/// The calls under way whose clients are there, to be ended from outside: a key was revoked, the gateway shuts down, a
/// client takes nothing of its answer. A clone is the same set.
///
/// A call that is cut lets go of its provider at once, and is settled as if its client had hung up. The client is told
/// why, in its dialect: by the status where the head of the answer has not gone out, by an event in a stream, by a cut
/// connection in the middle of anything else.
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
    /// Whether somebody looks for clients that are too slow.
    is_watched: bool,
}

impl LiveCalls {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set, of which those are cut whose client has taken nothing for so long, or up to a quarter more, of what
    /// there is for it. A provider that is silent is not the client's fault, and has a
    /// [timeout](crate::upstream::Provider::idle_timeout) of its own. The connection is the host's to close.
    #[must_use]
    pub fn with_client_timeout(timeout: Duration) -> Self {
        let client_timeout = (!timeout.is_zero()).then_some(timeout);
        LiveCalls { registry: Arc::new(Registry { client_timeout, ..Registry::default() }) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.calls().by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends those calls, for this reason, and gives their number. A refusal that is on its way already goes out as it is; an
    /// answer that is read on without its client, as [`Drain`](super::Drain) has it, is not among them.
    pub fn cut(&self, why: &Rejection, which: impl Fn(&Call) -> bool) -> usize {
        self.registry.all().iter().filter(|call| which(call)).filter(|call| call.cut(why, Cut::HungUp)).count()
    }

    /// Waits until there is none, and after so long cuts those that are left, giving their number. For a shutdown, once no
    /// new calls are taken; [`Settlements::drain`](super::Settlements::drain) then waits for what they leave behind. Whoever
    /// waits for an answer still is told to come again after one to five seconds, each after another time, so that not all
    /// come at once to who is left.
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

    /// The door of a call that is about to be opened.
    pub(super) fn door(&self) -> Door {
        Door::new(self.clone())
    }

    /// A call has been opened.
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

    /// Its client is gone.
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
        // A call that is dropped here, as its last holder, runs hooks.
        drop(calls);
        found.into_iter().map(|shared| Call { shared, target: None, slot: None, edited: None }).collect()
    }
}

/// When whoever was kept out by a shutdown is to come again: not all at once. Most of an id is random.
fn apart(id: Uuid) -> Duration {
    Duration::from_secs(1 + (id.as_u128() % 5) as u64)
}

/// The task that looks for slow clients; dropped with its runtime, it leaves that to the next call.
struct Watch(Option<Arc<Registry>>);

impl Watch {
    async fn for_slow_clients(mut self, timeout: Duration) {
        let why = Rejection::new(RejectionKind::ClientTooSlow, "nothing was taken of the answer for too long");
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
