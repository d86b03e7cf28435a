use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::parts::{Parts, lost};
use crate::domain::audit::AuditRecord;
use crate::domain::outcome::Outcome;
use crate::domain::rejection::RejectionKind;
use crate::store::audit::AuditSink;
use crate::store::{Chain, StoreError, contained, patiently};

/// The most records that a sink gets at once.
const BATCH: usize = 256;
/// How long a record waits for others, so that a busy gateway wakes the writer fifty times a second, not for each call.
const LINGER: Duration = Duration::from_millis(20);
/// The pause before a sink is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a flush waits for a sink that takes nothing.
const LONG: Duration = Duration::from_secs(30);

/// Records on their way to one sink.
pub(super) struct Queue {
    sender: mpsc::UnboundedSender<Item>,
    writer: Arc<Writer>,
}

enum Item {
    Record(Arc<Outcome>, OwnedSemaphorePermit),
    /// Answered when everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// A place in the queue, reserved for one record.
pub(super) struct Place {
    queue: Arc<Queue>,
    permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn fill(self, outcome: Arc<Outcome>) {
        let Queue { sender, writer } = &*self.queue;
        if is_of_a_stranger(&outcome) && writer.places.available_permits() < writer.kept {
            return writer.leave_out();
        }
        // The receiver lives as long as the queue.
        let _ = sender.send(Item::Record(outcome, self.permit));
    }
}

/// Whether the call was refused for lack of a good key. Anyone who can reach the gateway can send any number of those.
fn is_of_a_stranger(outcome: &Outcome) -> bool {
    outcome.principal.is_none() && outcome.rejection == Some(RejectionKind::Unauthenticated)
}

impl Queue {
    pub(super) fn new(sink: Box<dyn AuditSink>, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let end = QueueEnd { receiver, batch: Vec::new(), permits: Vec::new() };
        let writer = Writer {
            sink,
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            kept: capacity / 4,
            left_out: AtomicU64::new(0),
            told: AtomicU64::new(0),
            hurry: Notify::new(),
            end: Mutex::new(Some(end)),
        };
        Queue { sender, writer: Arc::new(writer) }
    }

    /// Reserves a place for one more record; `None` if there is none.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        self.writer.start();
        let permit = self.writer.places.clone().try_acquire_owned().ok()?;
        Some(Place { queue: self.clone(), permit })
    }

    pub(super) fn places_left(&self) -> usize {
        self.writer.places.available_permits()
    }

    /// How many refusals were not recorded.
    pub(super) fn left_out(&self) -> u64 {
        self.writer.left_out.load(Ordering::Relaxed)
    }

    pub(super) async fn flush(&self) {
        self.writer.start();
        let (done, written) = oneshot::channel();
        if self.sender.send(Item::Flush(done)).is_err() {
            return;
        }
        self.writer.hurry.notify_one();
        if tokio::time::timeout(LONG, written).await.is_err() {
            let calls = self.writer.capacity - self.places_left();
            tracing::error!(
                calls,
                "the audit trail could not be written within 30 seconds: the records of this many calls are only in memory, and are lost if the process ends now"
            );
        }
    }
}

/// The receiving end of the queue.
struct QueueEnd {
    receiver: mpsc::UnboundedReceiver<Item>,
    /// Received but not yet written.
    batch: Vec<AuditRecord>,
    /// The places of the batch.
    permits: Vec<OwnedSemaphorePermit>,
}

struct Writer {
    sink: Box<dyn AuditSink>,
    /// Bounds the queue: a place is returned when its record is written.
    places: Arc<Semaphore>,
    /// The number of places.
    capacity: usize,
    /// The number of places that records of strangers must leave free.
    kept: usize,
    left_out: AtomicU64,
    /// How many of these the log has reported.
    told: AtomicU64,
    /// Notified when a flush waits for what is queued.
    hurry: Notify,
    /// Taken by the writing task, which puts it back if its runtime ends before the queue.
    end: Mutex<Option<QueueEnd>>,
}

impl Writer {
    fn start(self: &Arc<Self>) {
        let lock = || self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().is_none() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let end = lock().take();
        if end.is_some() {
            // Without the lock: a runtime that has shut down drops the task at once, and the drop puts the end back.
            runtime.spawn(Taken { end, writer: self.clone() }.run());
        }
    }

    /// Whether records must be made at all. If the sink panics, yes.
    fn is_read(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.sink.is_read())).unwrap_or(true)
    }

    fn leave_out(&self) {
        if self.left_out.fetch_add(1, Ordering::Relaxed) == self.told.load(Ordering::Relaxed) {
            tracing::warn!(
                "the audit queue is nearly full: refusals of calls without a valid key are only counted, not recorded"
            );
        }
    }

    /// Logs how many records were dropped, once there is enough room that the next report will not follow at once.
    fn tell_left_out(&self) {
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > self.told.load(Ordering::Relaxed) && self.places.available_permits() >= self.kept * 2 {
            let refusals = left_out - self.told.swap(left_out, Ordering::Relaxed);
            tracing::warn!(
                refusals,
                "refusals of calls without a valid key were not recorded, because the audit queue was nearly full"
            );
        }
    }

    /// Writes until the sink has all records, or refuses some for good: it finds those that the sink refuses, or that
    /// make it panic, and writes the others.
    async fn write(&self, records: &[AuditRecord]) {
        let mut parts = Parts::of(records.len());
        while let Some(part) = parts.following() {
            let part = &records[part];
            let Err(error) = self.told(part).await else {
                parts.taken();
                continue;
            };
            if part.len() == records.len() && part.len() > 1 {
                tracing::error!(error = %Chain(&error), records = part.len(), "the sink refused a batch of audit records; sending it again in parts to find the faulty ones");
            }
            for record in &records[parts.refused()] {
                lost(record, &Chain(&error));
            }
        }
    }

    /// Retries until the sink takes all records at once, or refuses them for good.
    async fn told(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = patiently(records.len(), contained(self.sink.write(records))).await {
            if !error.is_unavailable() {
                return Err(error);
            }
            tracing::error!(error = %Chain(&error), records = records.len(), "audit records could not be written; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        Ok(())
    }
}

struct Taken {
    end: Option<QueueEnd>,
    writer: Arc<Writer>,
}

impl Taken {
    async fn run(mut self) {
        let mut items = Vec::with_capacity(BATCH);
        while let Some(end) = &mut self.end {
            // What an earlier runtime received and did not write comes first.
            if end.batch.is_empty() && end.receiver.recv_many(&mut items, BATCH).await == 0 {
                return;
            }
            let mut flushes = Vec::new();
            let is_read = self.writer.is_read();
            end.take(items.drain(..), is_read, &mut flushes);
            if flushes.is_empty() && end.batch.len() < BATCH {
                // Waking up for every record would cost more than all other work for it, so records of the same moment
                // are batched.
                let _ = tokio::time::timeout(LINGER, self.writer.hurry.notified()).await;
                while end.batch.len() < BATCH && flushes.is_empty() {
                    let Ok(item) = end.receiver.try_recv() else { break };
                    end.take([item], is_read, &mut flushes);
                }
            }
            self.writer.write(&end.batch).await;
            end.batch.clear();
            end.permits.clear();
            self.writer.tell_left_out();
            for done in flushes {
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

impl QueueEnd {
    fn take(&mut self, items: impl IntoIterator<Item = Item>, is_read: bool, flushes: &mut Vec<oneshot::Sender<()>>) {
        for item in items {
            match item {
                Item::Record(..) if !is_read => {}
                Item::Record(outcome, permit) => {
                    self.batch.push(AuditRecord::new(&outcome));
                    self.permits.push(permit);
                }
                Item::Flush(done) => flushes.push(done),
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.writer.end.lock().unwrap_or_else(PoisonError::into_inner) = self.end.take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use async_trait::async_trait;

    use super::super::parts::tests::{ids, record};
    use super::{Arc, AuditRecord, AuditSink, BATCH, Duration, Mutex, Queue, StoreError};

    struct Never;

    #[async_trait]
    impl AuditSink for Never {
        async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
            std::future::pending().await
        }
    }

    /// Does not answer the first time.
    struct Once(AtomicUsize);

    #[async_trait]
    impl AuditSink for Once {
        async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    }

    /// Refuses parts with one of two records in them, and panics on another.
    #[derive(Clone, Default)]
    struct Picky(Arc<Mutex<Vec<u128>>>);

    #[async_trait]
    impl AuditSink for Picky {
        async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
            let ids = ids(records);
            assert!(!ids.contains(&200), "it panics of this one");
            if ids.contains(&7) || ids.contains(&9) {
                return Err(StoreError::broken("not this one"));
            }
            self.0.lock().expect("no panic under it").extend(ids);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_record_that_a_sink_refuses_keeps_no_other_out_of_it() {
        let picky = Picky::default();
        let queue = Queue::new(Box::new(picky.clone()), 1);
        let ids = 0..BATCH as u128;
        queue.writer.write(&ids.clone().map(record).collect::<Vec<_>>()).await;
        let written = picky.0.lock().expect("no panic under it").clone();
        let others: Vec<_> = ids.filter(|id| ![7, 9, 200].contains(id)).collect();
        assert_eq!(written, others, "each once, and in their order");
    }

    /// Refuses everything for good, and counts how often it is asked.
    #[derive(Clone, Default)]
    struct Gone(Arc<AtomicUsize>);

    #[async_trait]
    impl AuditSink for Gone {
        async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(StoreError::broken("there is nobody here"))
        }
    }

    #[tokio::test]
    async fn a_sink_that_refuses_all_is_not_asked_about_each_record() {
        let gone = Gone::default();
        let queue = Queue::new(Box::new(gone.clone()), 1);
        for batch in 1..=3 {
            queue.writer.write(&(0..BATCH as u128).map(record).collect::<Vec<_>>()).await;
            assert_eq!(gone.0.load(Ordering::Relaxed), batch * 5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_hangs_is_told_again_after_a_minute() {
        let records = [record(0)];
        let queue = Queue::new(Box::new(Once(AtomicUsize::new(0))), 1);
        let written = queue.writer.write(&records);
        tokio::time::timeout(Duration::from_secs(62), written).await.expect("it is told again");
    }

    #[test]
    fn a_runtime_that_has_shut_down_holds_nobody_up() {
        let (done, waits) = channel();
        // If it hangs, the test fails and leaves the thread behind.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let handle = runtime.handle().clone();
            drop(runtime);
            let _entered = handle.enter();
            let queue = Arc::new(Queue::new(Box::new(Never), 1));
            assert!(queue.place().is_some());
            done.send(()).expect("somebody waits");
        });
        waits.recv_timeout(Duration::from_secs(20)).expect("it does not wait for itself");
    }
}
