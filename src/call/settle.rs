use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::waiting::{Kind, Place, Waiting};
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::{Chain, StoreError, contained, so_far};

/// How long to wait before a store is told again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A store is told no more where it is about to forget that it was.
const ABOUT: u32 = 12;

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
        let Some(runtime) = self.or_known(here) else { return fact.given_up() };
        let waiting = self.inner.waiting.clone();
        let mut told = Box::pin(async move {
            let mut telling = pin!(contained(fact.tell()));
            match so_far(telling.as_mut()).await {
                Some(Ok(())) => {}
                said => Box::pin(tell_on(call, &fact, telling, said, waiting)).await,
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

    /// How much of what calls cost or used waits for a store that was told and has not taken it: it is away, or does not
    /// answer. Above zero for minutes is for an alert; see [operations](crate::docs::operations).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiting.len()
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
    /// What it is.
    const KIND: Kind;

    /// Tells the store, which may have heard before.
    fn tell(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether it is only that nothing came of a question.
    fn is_nothing(&self) -> bool;

    /// For how long the store knows that it was told.
    fn memory(&self) -> Duration;

    /// It has not heard, and is told no more.
    fn given_up(&self) {}
}

/// Goes on with what was not told at once: waits for the answer, and asks again once there is none to wait for.
async fn tell_on<F: Fact>(
    call: Uuid,
    fact: &F,
    telling: Pin<&mut impl Future<Output = Result<(), StoreError>>>,
    said: Option<Result<(), StoreError>>,
    waiting: Arc<Waiting>,
) {
    let Some(mut place) = Place::take(call, waiting, F::KIND, fact.is_nothing()) else { return fact.given_up() };
    let mut said = match said {
        Some(said) => said,
        None => place.outlast(telling).await,
    };
    let (mut pause, mut unsure_since) = (FIRST_PAUSE, None);
    while let Err(error) = said {
        place.say(&error);
        if error.may_have_applied() {
            unsure_since.get_or_insert_with(Instant::now);
        }
        // What asking again will not help may still be mended by somebody: until then, what is held stays held.
        if !error.is_unavailable() {
            pause = LAST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        let memory = fact.memory();
        if unsure_since.is_some_and(|since| since.elapsed() > memory - memory / ABOUT) {
            tracing::error!(%call, "{} is not settled: its store may have heard, and forgotten that it did", F::KIND.words());
            return fact.given_up();
        }
        said = place.outlast(pin!(contained(fact.tell()))).await;
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

    use super::super::waiting::MOST_WAITING;
    use super::*;

    /// What a store that is away, or hangs, until it is told to be there, was told, and how often it was asked.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<Said>>, Duration);

    #[derive(Default)]
    struct Said {
        is_there: bool,
        hangs: bool,
        asked: usize,
        told: usize,
        given_up: usize,
    }

    impl Store {
        fn with<T>(&self, look: impl FnOnce(&mut Said) -> T) -> T {
            look(&mut self.0.lock().expect("no panic"))
        }

        fn is(&self, is_there: bool, hangs: bool) {
            self.with(|said| (said.is_there, said.hangs) = (is_there, hangs));
        }

        fn counts(&self) -> (usize, usize) {
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

    const HOUR: Duration = Duration::from_secs(60 * 60);

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
