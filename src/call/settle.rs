use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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

/// The calls that are open, and work that must outlive the request that caused it, spawned from an `on_close` hook: all
/// that a shutdown waits for.
///
/// A clone is the same set. Hooks run wherever a body is dropped, perhaps outside of any runtime; so the runtime is
/// the current one, else one that a call has been opened on.
///
/// A runtime may end before that: what stores have not been told by then waits for a call that is opened on another, or for
/// [`drain`](Self::drain) there, and so does what there was no runtime for at all; [`waiting`](Self::waiting) counts it. Where
/// none comes, it is told to nobody, as if the process had been killed: the log says so, and what was held is charged whole,
/// unless a journal tells it at the next start. Work that was [spawned](Self::spawn) ends with its runtime.
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
}

impl Settlements {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a call until it has closed: a server that has let go of its connections may still hold calls of them in
    /// tasks of their own, as hyper's does for HTTP/2, and what those hold is settled when they are dropped. Remembers the
    /// runtime that the caller runs on, unless one is known, and goes on there with what another has left.
    pub(crate) fn open(&self) -> TaskTrackerToken {
        if self.inner.left.is_homeless() {
            self.take_over();
        }
        self.inner.tracker.token()
    }

    pub(super) fn left(&self) -> Arc<Left> {
        self.inner.left.clone()
    }

    /// Goes on here with what a runtime has left that is gone, where there is one here.
    fn take_over(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.inner.left.move_to(runtime).into_iter().for_each(|left| left(Some(self)));
        }
    }

    /// Runs `work` to its end, whatever becomes of the call. Callable from anywhere, `Drop` included.
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

    /// Tells a store until it has heard: what it is told has happened already, whatever it can do about it now. A store
    /// that needs no waiting, as in memory, is told here and now.
    ///
    /// Called where calls are dropped, perhaps while a panic unwinds: one of the store's must not get out, or the
    /// process aborts.
    pub(crate) fn settle(&self, call: Uuid, fact: impl Fact) {
        self.tell(Owed::new(call, fact, self.inner.left.clone()));
    }

    pub(super) fn tell<F: Fact>(&self, owed: Owed<F>) {
        let here = Handle::try_current().ok();
        let is_here = here.is_some();
        let (call, runtime) = (owed.call, here.or_else(|| self.inner.left.known()));
        let mut told = Box::pin(tell(owed, self.inner.waiting.clone()));
        let polled = {
            // Hooks may run outside of any.
            let _entered = runtime.as_ref().filter(|_| !is_here).map(Handle::enter);
            catch_unwind(AssertUnwindSafe(|| told.as_mut().poll(&mut Context::from_waker(Waker::noop()))))
        };
        match (polled, runtime) {
            (Ok(Poll::Ready(())), _) => {}
            // One that has shut down drops it here and now, and it is left for another.
            (Ok(Poll::Pending), Some(runtime)) => drop(self.inner.tracker.spawn_on(told, &runtime)),
            (Ok(Poll::Pending), None) => drop(told),
            (Err(_), _) => {
                tracing::error!(%call, "{} is not settled yet: what tells its store panicked", F::KIND.words());
            }
        }
    }

    /// Runs `work` for as long as the runtime lives; nobody waits for it.
    pub(crate) fn spawn_untracked(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime() {
            runtime.spawn(work);
        }
    }

    fn runtime(&self) -> Option<Handle> {
        let runtime = Handle::try_current().ok().or_else(|| self.inner.left.known());
        if runtime.is_none() {
            tracing::error!("no runtime to work on: no call has run on one yet");
        }
        runtime
    }

    /// How many calls have not closed, and how much work has not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.tracker.len() + self.inner.left.len()
    }

    /// Whether all calls have closed, and all work has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much of what calls cost or used waits for a store that was told and has not taken it, since it is away or does not
    /// answer, or for a runtime. Above zero for minutes is for an alert; see [operations](crate::docs::operations).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiting.len() + self.inner.left.len()
    }

    /// Waits until all calls have closed, and all work has ended. Call it after the server has stopped to take calls, and with
    /// a timeout: it has no end of its own, since streams may go on, and a store that is away is told until it is back. What it
    /// has not heard when the process ends is forfeited, or told again by a journal.
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
            // One may have ended meanwhile; what is left once more is left for good.
            let left = self.inner.left.len();
            if left == 0 || left >= most || Handle::try_current().is_err() {
                return;
            }
            most = left;
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
pub(super) mod tests {
    use std::sync::Mutex;

    use super::super::waiting::{Kind, LAST_PAUSE, MOST_WAITING, Place};
    use super::*;

    /// What a store that is away, or hangs, until it is told to be there, was told, and how often it was asked.
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
        // One that was away all the time has heard nothing.
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
