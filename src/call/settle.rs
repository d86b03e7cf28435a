use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::{Chain, StoreError, contained};

/// How long to wait before a store is told again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How much may wait for stores to be there again. Of what a store that is away has let through there is no end, since budgets
/// that refuse nothing are not asked about; so there is one here, before memory has it.
const MOST_WAITING: usize = 100_000;

/// The calls that are open, and work that must outlive the request that caused it, spawned from an `on_close` hook: all
/// that a shutdown waits for.
///
/// A clone is the same set. Hooks run wherever a body is dropped, perhaps outside of any runtime; so the runtime is
/// the current one, else that of the first call.
///
/// ```
/// use tollgate::call::{CallLayer, Settlements};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let settlements = Settlements::new();
/// let layer = CallLayer::new().settlements(settlements.clone());
/// // … serve, and after the server has stopped:
/// settlements.drain().await;
/// # drop(layer); }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Settlements {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tracker: TaskTracker,
    runtime: OnceLock<Handle>,
    waiting: Arc<Waiting>,
}

/// What stores could not be told yet.
#[derive(Debug, Default)]
struct Waiting {
    many: AtomicUsize,
    /// One of them says in the log, each time it fails, that they wait.
    has_speaker: AtomicBool,
}

impl Settlements {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a call until it has closed: a server that has let go of its connections may still hold calls of them in
    /// tasks of their own, as hyper's does for HTTP/2, and what those hold is settled when they are dropped. Remembers the
    /// runtime that the caller runs on, unless one is known.
    pub(crate) fn open(&self) -> TaskTrackerToken {
        if self.inner.runtime.get().is_none()
            && let Ok(handle) = Handle::try_current()
        {
            let _ = self.inner.runtime.set(handle);
        }
        self.inner.tracker.token()
    }

    /// Runs `work` to its end, whatever becomes of the call. Callable from anywhere, `Drop` included.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime() {
            self.inner.tracker.spawn_on(work, &runtime);
        }
    }

    /// Tells a store until it has heard: what it is told has happened already, whatever it can do about it now. A store
    /// that needs no waiting, as in memory, is told here and now.
    ///
    /// Called where calls are dropped, perhaps while a panic unwinds: one of the store's must not get out, or the
    /// process aborts.
    pub(crate) fn settle(&self, call: Uuid, fact: impl Fact) {
        let here = Handle::try_current().ok();
        let is_here = here.is_some();
        let Some(runtime) = self.or_known(here) else { return };
        let waiting = self.inner.waiting.clone();
        let mut told = Box::pin(async move {
            if let Err(error) = contained(fact.tell()).await {
                Box::pin(tell_again(call, fact, error, waiting)).await;
            }
        });
        let polled = {
            // Hooks may run outside of any.
            let _entered = (!is_here).then(|| runtime.enter());
            catch_unwind(AssertUnwindSafe(|| told.as_mut().poll(&mut Context::from_waker(Waker::noop()))))
        };
        match polled {
            Ok(Poll::Ready(())) => {}
            Ok(Poll::Pending) => drop(self.inner.tracker.spawn_on(told, &runtime)),
            // Not the store's, but of a runtime that has shut down: it has no timers any more.
            Err(_) => tracing::error!(%call, "no runtime to settle on: it has shut down"),
        }
    }

    /// Runs `work` for as long as the runtime lives; nobody waits for it.
    pub(crate) fn spawn_untracked(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime() {
            runtime.spawn(work);
        }
    }

    fn runtime(&self) -> Option<Handle> {
        self.or_known(Handle::try_current().ok())
    }

    fn or_known(&self, current: Option<Handle>) -> Option<Handle> {
        let runtime = current.or_else(|| self.inner.runtime.get().cloned());
        if runtime.is_none() {
            tracing::error!("no runtime to settle on: no call has run on one yet");
        }
        runtime
    }

    /// How many calls have not closed, and how much work has not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Whether all calls have closed, and all work has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.tracker.is_empty()
    }

    /// Waits until all calls have closed, and all work has ended. Call it after the server has stopped to take calls; with
    /// a timeout, if streams may go on for longer than you want to wait.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the work.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}

/// Something that has happened, and that a store must hear of.
pub(crate) trait Fact: Send + Sync + 'static {
    /// What it is, for the log.
    const WHAT: &'static str;

    /// Tells the store, which may have heard before.
    fn tell(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

async fn tell_again<F: Fact>(call: Uuid, fact: F, mut error: StoreError, waiting: Arc<Waiting>) {
    let Some(mut place) = Place::take(waiting) else {
        tracing::error!(%call, error = %Chain(&error), "{} is not settled: {MOST_WAITING} calls wait for that", F::WHAT);
        return;
    };
    let mut pause = FIRST_PAUSE;
    loop {
        if place.speaks() {
            let waiting = place.waiting.many.load(Ordering::Relaxed);
            tracing::error!(%call, waiting, error = %Chain(&error), "{} could not be settled", F::WHAT);
        }
        // What asking again will not help may still be mended by somebody: until then, what is held stays held.
        if !error.is_unavailable() {
            pause = LAST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        match contained(fact.tell()).await {
            Ok(()) => return,
            Err(next) => error = next,
        }
    }
}

/// A place among those that wait, left when it is dropped.
struct Place {
    waiting: Arc<Waiting>,
    is_speaker: bool,
}

impl Place {
    fn take(waiting: Arc<Waiting>) -> Option<Self> {
        let before = waiting.many.fetch_add(1, Ordering::Relaxed);
        let place = Place { waiting, is_speaker: false };
        (before < MOST_WAITING).then_some(place)
    }

    /// Whether it is the one that does, of thousands that say the same.
    fn speaks(&mut self) -> bool {
        self.is_speaker = self.is_speaker || !self.waiting.has_speaker.swap(true, Ordering::Relaxed);
        self.is_speaker
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.many.fetch_sub(1, Ordering::Relaxed);
        if self.is_speaker {
            self.waiting.has_speaker.store(false, Ordering::Relaxed);
        }
    }
}

/// The refusal for a store that must be asked and cannot answer.
pub(crate) fn unavailable(error: &StoreError) -> Rejection {
    Rejection::new(RejectionKind::StoreUnavailable, "the gateway cannot check this request now; try again in a moment")
        .retry_after(Duration::from_secs(1))
        .internal(Chain(error).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What a store that is away, until it is told to be there, was told.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<(bool, usize)>>);

    impl Fact for Store {
        const WHAT: &'static str = "a budget";

        async fn tell(&self) -> Result<(), StoreError> {
            let mut store = self.0.lock().expect("no panic");
            match store.0 {
                true => store.1 += 1,
                false => return Err(StoreError::unavailable("away")),
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_for_a_store_one_speaks_and_all_are_told_when_it_is_back() {
        let (settlements, store) = (Settlements::new(), Store::default());
        let _open = settlements.open();
        for _ in 0..50 {
            settlements.settle(Uuid::now_v7(), store.clone());
        }
        let waiting = settlements.inner.waiting.clone();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(waiting.many.load(Ordering::Relaxed), 50);
        let mut another = Place::take(waiting.clone()).expect("there is room");
        assert!(!another.speaks(), "somebody does");
        store.0.lock().expect("no panic").0 = true;
        tokio::time::sleep(LAST_PAUSE).await;
        assert_eq!(store.0.lock().expect("no panic").1, 50);
        assert!(another.speaks(), "nobody else is left");
        drop(another);
        assert_eq!(waiting.many.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waiting = Arc::new(Waiting::default());
        let mut places: Vec<_> = (0..MOST_WAITING).map(|_| Place::take(waiting.clone()).expect("room")).collect();
        assert!(Place::take(waiting.clone()).is_none());
        places.pop();
        assert!(Place::take(waiting).is_some());
    }
}
