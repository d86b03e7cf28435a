use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Settlements;
use crate::store::{Chain, Session, StoreError, contained};

/// Sends heartbeats for a session to its store as long as calls hold anything there.
#[derive(Debug)]
pub(crate) struct Alive {
    session: Session,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holds: AtomicUsize,
    beats: AtomicBool,
}

/// One call's hold on a session: the session is kept alive until this is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Inner>);

impl Alive {
    pub(crate) fn new(lease: Duration) -> Self {
        Alive { session: Session::new(lease), inner: Arc::default() }
    }

    pub(crate) fn session(&self) -> Session {
        self.session
    }

    /// Starts a hold. From now on a task calls `beat` every third of a lease, until there are no more holds.
    pub(crate) fn hold<F>(&self, settlements: &Settlements, beat: impl Fn() -> F + Send + 'static) -> Held
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        self.inner.holds.fetch_add(1, Ordering::SeqCst);
        // Read before writing: every call comes through here.
        if !self.inner.beats.load(Ordering::SeqCst) && !self.inner.beats.swap(true, Ordering::SeqCst) {
            let (guard, pause) = (Beats(Some(self.inner.clone())), self.session.lease / 3);
            settlements.spawn_untracked(keep_alive(guard, pause, beat));
        }
        Held(self.inner.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn keep_alive<F>(mut guard: Beats, pause: Duration, beat: impl Fn() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut is_late = false;
    while let Some(inner) = &guard.0 {
        if !std::mem::take(&mut is_late) {
            tokio::time::sleep(pause).await;
        }
        if inner.holds.load(Ordering::SeqCst) == 0 {
            inner.beats.store(false, Ordering::SeqCst);
            // A new hold may have relied on this task in between, or may have started another one.
            if inner.holds.load(Ordering::SeqCst) == 0 || inner.beats.swap(true, Ordering::SeqCst) {
                guard.0 = None;
                continue;
            }
        }
        // A heartbeat that hangs must not prevent the next one, for which the lease leaves time.
        match tokio::time::timeout(pause, contained(beat())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "a heartbeat to a store failed");
            }
            Err(_) => {
                tracing::warn!("a heartbeat to a store timed out");
                is_late = true;
            }
        }
    }
}

/// Marks the end of the task: if the task is dropped with its runtime, the next call starts another one.
struct Beats(Option<Arc<Inner>>);

impl Drop for Beats {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            inner.beats.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Alive, Arc, AtomicUsize, Duration, Ordering, Settlements};

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_hangs_is_tried_again_within_the_lease_and_one_that_panics_is_not_the_last() {
        let (alive, beats) = (Alive::new(Duration::from_secs(9)), Arc::new(AtomicUsize::new(0)));
        let counted = beats.clone();
        let _held = alive.hold(&Settlements::new(), move || {
            let beat = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if beat == 0 {
                    std::future::pending::<()>().await;
                }
                assert_ne!(beat, 1, "a store that panics");
                Ok(())
            }
        });
        // At 3 s the heartbeat hangs, at 6 s it is tried again and panics, and from then on it succeeds.
        for (pause, begun) in [(2_900, 0), (3_000, 1), (200, 2), (3_100, 3)] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            assert_eq!(beats.load(Ordering::SeqCst), begun);
        }
    }
}
