//! Moves bodies from the queue to the sink, and deletes expired ones.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::horizon::Horizon;
use super::layer::{Settings, Shared};
use super::prepare::prepared;
use super::queue::{Item, Taken};
use crate::domain::clock::{Clock, SystemClock};
use crate::store::journal::Sealer;
use crate::store::{Chain, patiently};

/// The most that a sink gets at once: bodies, and bytes without the last body's.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;
/// The pause before a sink is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Why bodies are given up that could be kept.
const SHORT: &str = "the journal is short of space, and audit records take precedence over content";
/// How often expired content is searched for: with a long retention, and with a short one.
const SWEEP: Duration = Duration::from_secs(60);
const SWEEP_SOON: Duration = Duration::from_secs(1);

/// Queues a body to be kept.
pub(super) fn push(shared: &Arc<Shared>, taken: Taken) {
    shared.queue.push(taken);
    start(shared);
}

/// Starts the task that sends waiting bodies to the sink, if there is a runtime.
pub(super) fn start(shared: &Arc<Shared>) {
    if let Ok(runtime) = Handle::try_current()
        && shared.queue.has_any()
        && !shared.is_running.swap(true, Ordering::AcqRel)
    {
        runtime.spawn(run(Running(shared.clone())));
    }
}

/// Starts the task that deletes expired content.
pub(super) fn sweep_too(shared: &Arc<Shared>) {
    if let Some(retention) = shared.settings.retention
        && !shared.is_sweeping.load(Ordering::Relaxed)
        && let Ok(runtime) = Handle::try_current()
        && !shared.is_sweeping.swap(true, Ordering::AcqRel)
    {
        runtime.spawn(sweep(Sweeping(Arc::downgrade(shared)), retention, SystemClock));
    }
}

/// Marks the end of the task, however it ends: its runtime may end before the queue.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
    }
}

/// Runs until the queue is empty.
async fn run(running: Running) {
    let shared = running.0.clone();
    loop {
        let items = shared.queue.take(BATCH, BATCH_BYTES);
        if items.is_empty() {
            drop(running);
            // A body queued in between has found this task running.
            start(&shared);
            return;
        }
        let (mut bodies, mut flushes) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Body(taken) => bodies.push(*taken),
                Item::Flush(done) => flushes.push(done),
            }
        }
        if !bodies.is_empty() {
            let in_hand = InHand { shared: shared.clone(), count: bodies.len() };
            // In a separate task: a sink that panics loses its batch, and not those that wait after it.
            let kept = Handle::current().spawn(async move {
                keep(&in_hand.shared, bodies).await;
                in_hand.put();
            });
            let _ = kept.await;
        }
        for done in flushes {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Bodies taken from the queue. They count as dropped unless their fate is known.
struct InHand {
    shared: Arc<Shared>,
    count: usize,
}

impl InHand {
    /// Their fate is known.
    fn put(mut self) {
        self.count = 0;
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        give_up(&self.shared, self.count, "the sink panicked, or the runtime has shut down");
    }
}

async fn keep(shared: &Arc<Shared>, bodies: Vec<Taken>) {
    let count = bodies.len();
    let Settings { sink, redactor, sealer, .. } = &shared.settings;
    // The remaining disk space is for records.
    let is_short = || sealer.as_ref().is_some_and(Sealer::is_short);
    if is_short() {
        return give_up(shared, count, SHORT);
    }
    let redactor = redactor.clone();
    let made = tokio::task::spawn_blocking(move || {
        bodies.into_iter().map(|taken| prepared(taken, redactor.as_deref())).unzip::<_, _, Vec<_>, Vec<_>>()
    });
    // They give back their room when the sink has them.
    let Ok((contents, _shares)) = made.await else { return give_up(shared, count, "the bodies could not be prepared") };
    if let Some(sealer) = sealer
        && !sealer.seal(&contents).await
    {
        return give_up(shared, count, "the journal could not record the hashes of the bodies");
    }
    let mut pause = FIRST_PAUSE;
    while let Err(error) = patiently(contents.len(), sink.write(&contents)).await {
        tracing::error!(error = %Chain(&error), bodies = count, "content could not be kept");
        if !error.is_unavailable() {
            return give_up(shared, count, "the sink refused the bodies");
        }
        tokio::time::sleep(pause).await;
        if is_short() {
            return give_up(shared, count, SHORT);
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
    shared.queue.kept();
}

fn give_up(shared: &Shared, count: usize, why: &'static str) {
    for _ in 0..count {
        shared.queue.drop_one(why);
    }
}

struct Sweeping(Weak<Shared>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.is_sweeping.store(false, Ordering::Release);
        }
    }
}

/// Runs until nobody has the layer any more.
async fn sweep(sweeping: Sweeping, retention: Duration, clock: impl Clock) {
    let mut horizon = Horizon::new(retention);
    while let Some(shared) = sweeping.0.upgrade() {
        if let Some(end) = horizon.look(clock.now(), clock.elapsed()) {
            delete_before(&shared.settings, end).await;
        }
        drop(shared);
        tokio::time::sleep(retention.clamp(SWEEP_SOON, SWEEP)).await;
    }
}

async fn delete_before(Settings { sink, sealer, .. }: &Settings, end: Timestamp) {
    let mut deleted = 0_u64;
    loop {
        match patiently(0, sink.delete_before(end)).await {
            Ok(0) => break,
            Ok(bodies) => deleted += bodies,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "content that is past its retention could not be deleted");
                break;
            }
        }
    }
    if deleted > 0 {
        tracing::info!(bodies = deleted, %end, "content that is past its retention was deleted");
        if let Some(sealer) = sealer {
            sealer.deleted_before(end, deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::super::ContentLayer;
    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::domain::content::Content;
    use crate::store::StoreError;
    use crate::store::content::ContentSink;

    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    const DAY: Duration = Duration::from_secs(86_400);

    /// Keeps nothing, and remembers up to when it was told to delete.
    #[derive(Clone, Default)]
    struct Ends(Arc<Mutex<Vec<Timestamp>>>);

    #[async_trait]
    impl ContentSink for Ends {
        async fn write(&self, _: &[Content]) -> Result<(), StoreError> {
            Ok(())
        }

        async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError> {
            self.0.lock().expect("no panic").push(end);
            Ok(0)
        }
    }

    /// A machine with an adjustable clock: the elapsed time is right, the time of day is wrong.
    #[derive(Debug, Clone)]
    struct Machine {
        right: Arc<ManualClock>,
        ahead: Arc<Mutex<Duration>>,
    }

    impl Clock for Machine {
        fn now(&self) -> Timestamp {
            self.right.now() + *self.ahead.lock().expect("no panic")
        }

        fn elapsed(&self) -> Duration {
            self.right.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_years_ahead_for_a_while_has_nothing_deleted() {
        let (ends, start) = (Ends::default(), "2026-11-28T09:00:00Z".parse().expect("a time"));
        let machine = Machine { right: Arc::new(ManualClock::at(start)), ahead: Arc::default() };
        let layer = ContentLayer::new(ends.clone());
        let shared = &layer.shared;
        let swept = sweep(Sweeping(Arc::downgrade(shared)), DAY * 30, machine.clone());
        let minutes = async {
            for minute in 0..3 * 1_440 {
                // Wrong at the start, until the time is fetched, and once more for hours.
                let is_wrong = minute < 30 || (1_000..1_600).contains(&minute);
                *machine.ahead.lock().expect("no panic") = if is_wrong { YEARS } else { Duration::ZERO };
                tokio::time::sleep(SWEEP).await;
                machine.right.advance(SWEEP);
            }
        };
        tokio::select! {
            biased;
            () = minutes => {}
            () = swept => panic!("the layer is there"),
        }
        let ends = ends.0.lock().expect("no panic").clone();
        assert!(ends.iter().all(|end| *end <= machine.right.now() - DAY * 30), "{:?}", ends.iter().max());
        assert!(ends.len() > 4_000 && ends.windows(2).all(|two| two[0] <= two[1]), "and it is deleted all the time");
        assert!(*ends.last().expect("one") >= machine.right.now() - DAY * 30 - SWEEP * 2);
    }
}
