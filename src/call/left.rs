//! The runtime on which work continues, and the settlements that were still open when an earlier runtime ended.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use super::Settlements;
use super::waiting::{Fact, MOST_WAITING};

/// Settles from there; with `None` nobody will settle, and it is given up.
type Telling = Box<dyn FnOnce(Option<&Settlements>) + Send>;

/// The known runtime, and what is to be taken over from one that has ended.
pub(super) struct Left {
    runtime: Mutex<Option<Handle>>,
    all: Mutex<Vec<Telling>>,
    /// No runtime is known, or the known one has dropped its work.
    is_homeless: AtomicBool,
}

impl Left {
    pub(super) fn is_homeless(&self) -> bool {
        self.is_homeless.load(Ordering::Acquire)
    }

    /// The runtime for work that comes from outside of any runtime.
    pub(super) fn known(&self) -> Option<Handle> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the runtime for further work. Returns what is to continue there.
    pub(super) fn move_to(&self, runtime: Handle) -> Vec<Telling> {
        // Set before taking: whatever is left behind from here on sets it again.
        self.is_homeless.store(false, Ordering::Release);
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
        std::mem::take(&mut *self.all())
    }

    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Telling>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<F: Fact>(&self, call: Uuid, fact: F, unsure_since: Instant) {
        let mut all = self.all();
        if all.len() >= MOST_WAITING {
            drop(all);
            tracing::error!(%call, "{} is not settled: too many settlements are waiting for a runtime ({MOST_WAITING})", F::KIND.words());
            return fact.given_up();
        }
        all.push(Box::new(move |settlements| match settlements {
            Some(settlements) => settlements.tell(Owed {
                call,
                fact: Some(fact),
                unsure_since: Some(unsure_since),
                left: settlements.left(),
            }),
            None => fact.given_up(),
        }));
        self.is_homeless.store(true, Ordering::Release);
    }
}

impl Default for Left {
    fn default() -> Self {
        Left { runtime: Mutex::default(), all: Mutex::default(), is_homeless: AtomicBool::new(true) }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.all());
        if !all.is_empty() {
            tracing::error!(
                calls = all.len(),
                "calls are not settled: their runtime has shut down, and no other one took over"
            );
        }
        all.into_iter().for_each(|left| left(None));
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Left").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A settlement that a store still has to hear. If it is dropped before that, it is left for another runtime.
pub(super) struct Owed<F: Fact> {
    pub(super) call: Uuid,
    pub(super) fact: Option<F>,
    /// Since when the store may have heard.
    pub(super) unsure_since: Option<Instant>,
    left: Arc<Left>,
}

impl<F: Fact> Owed<F> {
    pub(super) fn new(call: Uuid, fact: F, left: Arc<Left>) -> Self {
        Owed { call, fact: Some(fact), unsure_since: None, left }
    }
}

impl<F: Fact> Drop for Owed<F> {
    fn drop(&mut self) {
        if let Some(fact) = self.fact.take() {
            // The last request may still reach the store.
            self.left.add(self.call, fact, self.unsure_since.unwrap_or_else(Instant::now));
        }
    }
}

/// Work given to a runtime. If it is dropped before it begins, that runtime has shut down.
pub(super) struct Unbegun(Option<Arc<Left>>);

impl Unbegun {
    pub(super) fn new(left: Arc<Left>) -> Self {
        Unbegun(Some(left))
    }

    pub(super) fn begins(mut self) {
        self.0 = None;
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(left) = &self.0 {
            tracing::error!("there is no runtime for background work: the one in use has shut down");
            left.is_homeless.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::super::settle::tests::{HOUR, Store};
    use super::*;

    fn runtime(is_paused: bool) -> Runtime {
        Builder::new_current_thread().enable_all().start_paused(is_paused).build().expect("a runtime")
    }

    /// A runtime that has ended after a call was opened on it and a store was told that hangs or is away.
    fn ended(store: &Store, hangs: bool) -> Settlements {
        let (settlements, first) = (Settlements::new(), runtime(false));
        store.is(false, hangs);
        first.block_on(async {
            drop(settlements.open());
            settlements.settle(Uuid::now_v7(), store.clone());
            tokio::task::yield_now().await;
        });
        drop(first);
        assert_eq!((settlements.waiting(), settlements.is_empty()), (1, false));
        settlements
    }

    #[test]
    fn what_a_runtime_did_not_come_to_tell_is_told_on_the_next_that_a_call_is_opened_on() {
        for hangs in [true, false] {
            let store = Store(Arc::default(), HOUR);
            let settlements = ended(&store, hangs);
            store.is(true, false);
            runtime(false).block_on(async {
                drop(settlements.open());
                assert_eq!((store.counts().1, settlements.waiting()), (1, 0));
            });
            assert!(settlements.is_empty());
        }
    }

    #[test]
    fn who_is_outside_of_any_runtime_hands_it_to_one_that_goes_on() {
        let store = Store(Arc::default(), HOUR);
        let settlements = ended(&store, false);
        let (outside, elsewhere) = (settlements.clone(), store.clone());
        // Like the thread of a journal, which outlives all runtimes.
        let settle = move || outside.settle(Uuid::now_v7(), elsewhere.clone());
        thread::scope(|scope| drop(scope.spawn(&settle)));
        assert_eq!((store.counts().1, settlements.waiting()), (0, 2));
        let second = runtime(true);
        second.block_on(async {
            let draining = settlements.drain();
            let back = async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                thread::scope(|scope| drop(scope.spawn(&settle)));
                store.is(true, false);
            };
            tokio::join!(draining, back);
        });
        assert_eq!((store.counts().1, settlements.waiting(), settlements.len()), (3, 0, 0));
        assert_eq!(store.with(|said| said.given_up), 0);
    }

    #[test]
    fn a_store_that_needs_no_runtime_is_told_without_one_and_any_other_when_there_is_one() {
        let (settlements, store) = (Settlements::new(), Store(Arc::default(), HOUR));
        store.is(true, false);
        settlements.settle(Uuid::now_v7(), store.clone());
        assert_eq!((store.counts(), settlements.waiting()), ((1, 1), 0));
        store.is(false, false);
        settlements.settle(Uuid::now_v7(), store.clone());
        assert_eq!((store.counts(), settlements.waiting()), ((2, 1), 1));
        store.is(true, false);
        runtime(false).block_on(settlements.drain());
        assert_eq!((store.counts(), settlements.waiting()), ((3, 2), 0));
    }

    #[test]
    fn where_no_runtime_comes_or_comes_too_late_it_is_given_up() {
        let store = Store(Arc::default(), HOUR);
        drop(ended(&store, true));
        assert_eq!(store.with(|said| said.given_up), 1);

        // It may have heard before the first runtime ended, and has forgotten by now.
        let settlements = ended(&store, true);
        store.is(true, false);
        runtime(true).block_on(async {
            tokio::time::sleep(HOUR).await;
            settlements.drain().await;
        });
        assert_eq!((store.counts().1, settlements.waiting()), (0, 0));
        assert_eq!(store.with(|said| said.given_up), 2);
    }

    #[test]
    fn since_when_a_store_may_have_heard_is_known_to_whoever_goes_on_with_it() {
        let (settlements, store) = (Settlements::new(), Store(Arc::default(), HOUR));
        store.is(true, false);
        runtime(true).block_on(async {
            let mut owed = Owed::new(Uuid::now_v7(), store.clone(), settlements.left());
            owed.unsure_since = Some(Instant::now());
            tokio::time::sleep(HOUR).await;
            drop(owed);
            settlements.drain().await;
        });
        assert_eq!((store.counts().1, store.with(|said| said.given_up)), (0, 1));
    }

    #[test]
    fn work_that_a_runtime_could_not_begin_makes_the_next_one_known() {
        let (settlements, first, second) = (Settlements::new(), runtime(false), runtime(false));
        first.block_on(async { drop(settlements.open()) });
        drop(first);
        let done = Arc::new(AtomicUsize::new(0));
        let work = || {
            let done = done.clone();
            async move {
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        settlements.spawn(work());
        second.block_on(async { drop(settlements.open()) });
        settlements.spawn(work());
        second.block_on(settlements.drain());
        assert_eq!(done.load(Ordering::Relaxed), 1, "the first had nowhere to go");
    }
}
