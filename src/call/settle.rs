use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::left::{Left, Owed, Unbegun};
use super::waiting::{Fact, Waiting, tell};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::{Chain, StoreError};

/// The open calls, and the work that outlives requests: everything that a shutdown waits for. A clone is the same set.
///
/// Hooks run wherever a body is dropped, perhaps outside of any runtime. Work therefore runs on the current runtime, or
/// else on one that a call was opened on.
///
/// If a runtime ends before its work, what stores have not heard is kept. It continues when a call is opened on another
/// runtime, or when [`drain`](Self::drain) is called on one; [`waiting`](Self::waiting) counts it. The same applies to
/// settlements for which there was no runtime at all.
///
/// If no other runtime comes, they are lost as if the process had been killed: the log reports it, and holds are
/// charged whole, unless a journal settles them at the next start. Work started by [`spawn`](Self::spawn) ends with its
/// runtime.
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
    left: Arc<Left>,
    waiting: Arc<Waiting>,
    /// Whether the log has been told of calls that nobody meters.
    unmetered: AtomicBool,
}

impl Settlements {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a call until it has closed. A server that has closed its connections may still hold their calls in
    /// separate tasks, as hyper does for HTTP/2, and what those hold is settled when they are dropped.
    ///
    /// Also remembers the current runtime, unless one is known, and continues there with what another has left.
    pub(crate) fn open(&self) -> TaskTrackerToken {
        if self.inner.left.is_homeless() {
            self.take_over();
        }
        self.inner.tracker.token()
    }

    pub(super) fn is_first_unmetered(&self) -> bool {
        !self.inner.unmetered.swap(true, Ordering::Relaxed)
    }

    pub(super) fn left(&self) -> Arc<Left> {
        self.inner.left.clone()
    }

    /// Continues on the current runtime, if there is one, with what an ended runtime has left.
    fn take_over(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.inner.left.move_to(runtime).into_iter().for_each(|left| left(Some(self)));
        }
    }

    /// Runs `work` to its end, even if the call ends first. Can be called from anywhere, including `Drop`.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime() {
            let unbegun = Unbegun::new(self.inner.left.clone());
            let work = async move {
                unbegun.begins();
                work.await;
            };
            self.inner.tracker.spawn_on(work, &runtime);
        }
    }

    /// Tells a store until it has heard, since what it is told has already happened. A store that answers without
    /// waiting, such as the one in memory, is told inline.
    ///
    /// Called where calls are dropped, perhaps during a panic: a panic of the store must not escape, or the process
    /// aborts.
    pub(crate) fn settle(&self, call: Uuid, fact: impl Fact) {
        self.tell(Owed::new(call, fact, self.inner.left.clone()));
    }

    pub(super) fn tell<F: Fact>(&self, owed: Owed<F>) {
        let here = Handle::try_current().ok();
        let is_here = here.is_some();
        let (call, runtime) = (owed.call, here.or_else(|| self.inner.left.known()));
        let mut told = Box::pin(tell(owed, self.inner.waiting.clone()));
        let polled = {
            // Hooks may run outside of any runtime.
            let _entered = runtime.as_ref().filter(|_| !is_here).map(Handle::enter);
            catch_unwind(AssertUnwindSafe(|| told.as_mut().poll(&mut Context::from_waker(Waker::noop()))))
        };
        match (polled, runtime) {
            (Ok(Poll::Ready(())), _) => {}
            // A runtime that has shut down drops it at once, and it is left for another.
            (Ok(Poll::Pending), Some(runtime)) => drop(self.inner.tracker.spawn_on(told, &runtime)),
            (Ok(Poll::Pending), None) => drop(told),
            (Err(_), _) => {
                tracing::error!(%call, "{} is not settled yet: telling its store panicked", F::KIND.words());
            }
        }
    }

    /// Runs `work` as long as the runtime lives. A shutdown does not wait for it.
    pub(crate) fn spawn_untracked(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime() {
            runtime.spawn(work);
        }
    }

    fn runtime(&self) -> Option<Handle> {
        let runtime = Handle::try_current().ok().or_else(|| self.inner.left.known());
        if runtime.is_none() {
            tracing::error!("there is no runtime for background work: no call has run on one yet");
        }
        runtime
    }

    /// The number of calls that have not closed, plus the work that has not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.tracker.len() + self.inner.left.len()
    }

    /// Whether all calls have closed and all work has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of settlements that wait for a store that is away or does not answer, or for a runtime.
    ///
    /// Alert on it if it stays above zero for minutes; see [operations](crate::docs::operations).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiting.len() + self.inner.left.len()
    }

    /// Waits until all calls have closed and all work has ended.
    ///
    /// Call it after the server has stopped accepting calls, and with a timeout: it has no limit of its own, since
    /// streams may continue, and a store that is away is told until it is back. What a store has not heard when the
    /// process ends is forfeited, or settled by a journal at the next start.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the work.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        let mut most = usize::MAX;
        loop {
            if self.inner.left.is_homeless() {
                self.take_over();
            }
            self.inner.tracker.wait().await;
            // A runtime may have ended meanwhile. If no fewer are left than before, they stay.
            let left = self.inner.left.len();
            if left == 0 || left >= most || Handle::try_current().is_err() {
                return;
            }
            most = left;
        }
    }
}

/// The rejection for a store that must be asked and cannot answer.
pub(crate) fn unavailable(error: &StoreError) -> Rejection {
    Rejection::new(RejectionKind::StoreUnavailable, "the gateway cannot check this request now; try again in a moment")
        .retry_after(Duration::from_secs(1))
        .internal(Chain(error).to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::super::waiting::{Kind, LAST_PAUSE, MOST_WAITING, Place};
    use super::*;

    /// A store that is away, or hangs, until it is switched on; what it was told, and how often it was asked.
    #[derive(Clone, Default)]
    pub(crate) struct Store(pub(crate) Arc<Mutex<Said>>, pub(crate) Duration);

    #[derive(Default)]
    pub(crate) struct Said {
        is_there: bool,
        hangs: bool,
        asked: usize,
        told: usize,
        pub(crate) given_up: usize,
    }

    impl Store {
        pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Said) -> T) -> T {
            look(&mut self.0.lock().expect("no panic"))
        }

        pub(crate) fn is(&self, is_there: bool, hangs: bool) {
            self.with(|said| (said.is_there, said.hangs) = (is_there, hangs));
        }

        pub(crate) fn counts(&self) -> (usize, usize) {
            self.with(|said| (said.asked, said.told))
        }
    }

    impl Fact for Store {
        const KIND: Kind = Kind::Budget;

        fn is_nothing(&self) -> bool {
            false
        }

        fn memory(&self) -> Duration {
            self.1
        }

        fn given_up(&self) {
            self.with(|said| said.given_up += 1);
        }

        async fn tell(&self) -> Result<(), StoreError> {
            self.with(|said| said.asked += 1);
            while self.with(|said| said.hangs) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            match self.with(|said| said.is_there) {
                true => self.with(|said| said.told += 1),
                false => return Err(StoreError::unavailable("away")),
            }
            Ok(())
        }
    }

    pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

    fn place(waiting: &Arc<Waiting>, kind: Kind) -> Place {
        Place::take(Uuid::nil(), waiting.clone(), kind, false).expect("there is room")
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_for_a_store_one_speaks_and_all_are_told_when_it_is_back() {
        let (settlements, store) = (Settlements::new(), Store(Arc::default(), HOUR));
        let _open = settlements.open();
        for _ in 0..50 {
            settlements.settle(Uuid::now_v7(), store.clone());
        }
        let waiting = settlements.inner.waiting.clone();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(settlements.waiting(), 50);
        let (mut another, mut limit) = (place(&waiting, Kind::Budget), place(&waiting, Kind::RateLimit));
        assert!(!another.is_speaker(true), "somebody does");
        assert!(limit.is_speaker(true), "nobody does of these");
        assert!(another.is_speaker(false), "nor of what no waiting mends");
        store.is(true, false);
        tokio::time::sleep(LAST_PAUSE).await;
        assert_eq!(store.counts().1, 50);
        assert!(another.is_speaker(true), "nobody else is left");
        drop((another, limit));
        assert_eq!(settlements.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_slow_is_waited_for_and_one_that_never_comes_is_asked_for_again() {
        let (settlements, store) = (Settlements::new(), Store(Arc::default(), HOUR));
        let _open = settlements.open();
        store.is(true, true);
        settlements.settle(Uuid::now_v7(), store.clone());
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!((store.counts(), settlements.waiting()), ((1, 0), 1), "it waits, and is counted");
        store.is(true, false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(store.counts(), (1, 1));

        store.is(true, true);
        settlements.settle(Uuid::now_v7(), store.clone());
        tokio::time::sleep(Duration::from_secs(70)).await;
        assert_eq!(store.counts(), (3, 1), "once a minute");
        store.is(true, false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((store.counts().1, settlements.waiting()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_may_have_heard_is_told_no_more_when_it_may_have_forgotten() {
        let (settlements, store) = (Settlements::new(), Store(Arc::default(), HOUR));
        let _open = settlements.open();
        store.is(true, true);
        settlements.settle(Uuid::now_v7(), store.clone());
        tokio::time::sleep(HOUR).await;
        assert_eq!((store.counts().1, settlements.waiting()), (0, 0));
        assert_eq!(store.with(|said| said.given_up), 1);
        // A store that was away all the time has heard nothing.
        store.is(false, false);
        settlements.settle(Uuid::now_v7(), store.clone());
        tokio::time::sleep(HOUR * 5).await;
        store.is(true, false);
        tokio::time::sleep(LAST_PAUSE).await;
        assert_eq!(store.counts().1, 1);
        assert_eq!(store.with(|said| said.given_up), 1, "this one was told");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_place_to_wait_or_no_runtime_is_given_up_and_says_so() {
        let store = Store(Arc::default(), HOUR);
        let nowhere = std::thread::spawn({
            let store = store.clone();
            move || Settlements::new().settle(Uuid::now_v7(), store)
        });
        nowhere.join().expect("no panic");
        assert_eq!(store.with(|said| said.given_up), 1);

        let settlements = Settlements::new();
        let _open = settlements.open();
        let all = |_| place(&settlements.inner.waiting, Kind::Budget);
        let places: Vec<_> = (0..MOST_WAITING).map(all).collect();
        settlements.settle(Uuid::now_v7(), store.clone());
        tokio::time::sleep(LAST_PAUSE).await;
        assert_eq!((store.with(|said| said.given_up), store.counts().1), (2, 0));
        drop(places);
    }
}
