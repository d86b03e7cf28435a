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
use crate::store::{Chain, StoreError, contained, in_time};

/// How long to wait before a store is told again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How much may wait for stores to be there again. Of what a store that is away has let through there is no end, since budgets
/// that refuse nothing are not asked about; so there is one here, before memory has it.
const MOST_WAITING: usize = 100_000;
/// How much of that may be questions that nothing came of, whose holds a lease ends too.
const MOST_OF_NOTHING: usize = MOST_WAITING / 2;

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
    /// Of each kind, and of stores that are away or broken, one says in the log, each time it fails, that they wait.
    has_speaker: [[AtomicBool; 2]; 2],
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
            if let Err(error) = told(&fact).await {
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

/// What is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Budget,
    RateLimit,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Kind::Budget => "a budget",
            Kind::RateLimit => "a rate limit",
        }
    }
}

/// Something that has happened, and that a store must hear of.
pub(crate) trait Fact: Send + Sync + 'static {
    /// What it is.
    const KIND: Kind;

    /// Tells the store, which may have heard before.
    fn tell(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether it is only that nothing came of a question.
    fn is_nothing(&self) -> bool;
}

/// In time, since one that hangs would never be told again.
async fn told<F: Fact>(fact: &F) -> Result<(), StoreError> {
    contained(in_time(fact.tell())).await
}

async fn tell_again<F: Fact>(call: Uuid, fact: F, mut error: StoreError, waiting: Arc<Waiting>) {
    let most = if fact.is_nothing() { MOST_OF_NOTHING } else { MOST_WAITING };
    let Some(mut place) = Place::take(waiting, most) else {
        tracing::error!(%call, error = %Chain(&error), "{} is not settled: {most} calls wait for that", F::KIND.words());
        return;
    };
    let mut pause = FIRST_PAUSE;
    loop {
        if place.speaks(F::KIND, error.is_unavailable()) {
            let waiting = place.waiting.many.load(Ordering::Relaxed);
            tracing::error!(%call, waiting, error = %Chain(&error), "{} could not be settled", F::KIND.words());
        }
        // What asking again will not help may still be mended by somebody: until then, what is held stays held.
        if !error.is_unavailable() {
            pause = LAST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        match told(&fact).await {
            Ok(()) => return,
            Err(next) => error = next,
        }
    }
}

/// A place among those that wait, left when it is dropped.
struct Place {
    waiting: Arc<Waiting>,
    /// Where it is the one that speaks.
    speaks: Option<(Kind, bool)>,
}

impl Place {
    fn take(waiting: Arc<Waiting>, most: usize) -> Option<Self> {
        let before = waiting.many.fetch_add(1, Ordering::Relaxed);
        let place = Place { waiting, speaks: None };
        (before < most).then_some(place)
    }

    /// Whether it is the one that does, of thousands that say the same.
    fn speaks(&mut self, kind: Kind, is_away: bool) -> bool {
        if self.speaks == Some((kind, is_away)) {
            return true;
        }
        self.fall_silent();
        let is_first = !self.waiting.has_speaker[kind as usize][usize::from(is_away)].swap(true, Ordering::Relaxed);
        self.speaks = is_first.then_some((kind, is_away));
        is_first
    }

    fn fall_silent(&mut self) {
        if let Some((kind, is_away)) = self.speaks.take() {
            self.waiting.has_speaker[kind as usize][usize::from(is_away)].store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.many.fetch_sub(1, Ordering::Relaxed);
        self.fall_silent();
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

    /// What a store that is away, or hangs, until it is told to be there, was told.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<(bool, usize)>>, bool);

    impl Fact for Store {
        const KIND: Kind = Kind::Budget;

        fn is_nothing(&self) -> bool {
            false
        }

        async fn tell(&self) -> Result<(), StoreError> {
            let is_there = self.0.lock().expect("no panic").0;
            if !is_there && self.1 {
                std::future::pending::<()>().await;
            }
            if !is_there {
                return Err(StoreError::unavailable("away"));
            }
            self.0.lock().expect("no panic").1 += 1;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_for_a_store_one_speaks_and_all_are_told_when_it_is_back() {
        for hangs in [false, true] {
            let (settlements, store) = (Settlements::new(), Store(Arc::default(), hangs));
            let _open = settlements.open();
            for _ in 0..50 {
                settlements.settle(Uuid::now_v7(), store.clone());
            }
            let waiting = settlements.inner.waiting.clone();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(waiting.many.load(Ordering::Relaxed), 50);
            let mut another = Place::take(waiting.clone(), MOST_WAITING).expect("there is room");
            assert!(!another.speaks(Kind::Budget, true), "somebody does");
            assert!(another.speaks(Kind::RateLimit, true), "nobody does of these");
            assert!(another.speaks(Kind::Budget, false), "nor of what no waiting mends");
            store.0.lock().expect("no panic").0 = true;
            // The pause, and what a question that hangs is given.
            tokio::time::sleep(LAST_PAUSE * 2).await;
            assert_eq!(store.0.lock().expect("no panic").1, 50);
            assert!(another.speaks(Kind::Budget, true), "nobody else is left");
            drop(another);
            assert_eq!(waiting.many.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waiting = Arc::new(Waiting::default());
        let take = |most| Place::take(waiting.clone(), most);
        let mut places: Vec<_> = (0..MOST_OF_NOTHING).map(|_| take(MOST_OF_NOTHING).expect("room")).collect();
        assert!(take(MOST_OF_NOTHING).is_none(), "the rest is for what came of something");
        places.extend((MOST_OF_NOTHING..MOST_WAITING).map(|_| take(MOST_WAITING).expect("room")));
        assert!(take(MOST_WAITING).is_none());
        places.pop();
        assert!(take(MOST_WAITING).is_some());
    }
}
