use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::domain::audit::AuditRecord;
use crate::store::audit::AuditSink;
use crate::store::{Chain, StoreError};

/// Most records that a sink is handed at once.
const BATCH: usize = 256;
/// How long to wait before a sink is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Records on their way to one sink.
pub(super) struct Queue {
    sender: mpsc::Sender<Item>,
    writer: Arc<Writer>,
}

enum Item {
    Record(AuditRecord),
    /// Everything before it is written when the other end hears.
    Flush(oneshot::Sender<()>),
}

/// A place in the queue, kept for one record.
pub(super) struct Place(mpsc::OwnedPermit<Item>);

impl Place {
    pub(super) fn fill(self, record: AuditRecord) {
        self.0.send(Item::Record(record));
    }
}

impl Queue {
    pub(super) fn new(sink: Box<dyn AuditSink>, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        let end = QueueEnd { receiver, batch: Vec::new() };
        Queue { sender, writer: Arc::new(Writer { sink, end: Mutex::new(Some(end)) }) }
    }

    /// A place for one more record; `None` if there is none.
    pub(super) fn place(&self) -> Option<Place> {
        self.writer.start();
        self.sender.clone().try_reserve_owned().ok().map(Place)
    }

    pub(super) async fn flush(&self) {
        self.writer.start();
        let (done, written) = oneshot::channel();
        if self.sender.send(Item::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

/// The end that records come out of.
struct QueueEnd {
    receiver: mpsc::Receiver<Item>,
    /// Taken out and not written.
    batch: Vec<AuditRecord>,
}

struct Writer {
    sink: Box<dyn AuditSink>,
    /// Taken by the task that writes, which puts it back when its runtime ends before the queue does.
    end: Mutex<Option<QueueEnd>>,
}

impl Writer {
    fn start(self: &Arc<Self>) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(Taken { end: end.take(), writer: self.clone() }.run());
        }
    }

    /// Until the sink has them, or says that it never will.
    async fn write(&self, records: &[AuditRecord]) {
        if records.is_empty() {
            return;
        }
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.sink.write(records).await {
            tracing::error!(error = %Chain(&error), records = records.len(), "audit records could not be written");
            if !error.is_unavailable() {
                records.iter().for_each(|record| lost(record, &error));
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// The last place for what no sink takes.
fn lost(record: &AuditRecord, error: &StoreError) {
    let record = serde_json::to_string(record).unwrap_or_default();
    tracing::error!(%error, record, "an audit record is in this log only");
}

struct Taken {
    end: Option<QueueEnd>,
    writer: Arc<Writer>,
}

impl Taken {
    async fn run(mut self) {
        let mut items = Vec::with_capacity(BATCH);
        while let Some(QueueEnd { receiver, batch }) = &mut self.end {
            let mut flushes = Vec::new();
            // What an earlier runtime had taken out and not written comes first.
            if batch.is_empty() && receiver.recv_many(&mut items, BATCH).await == 0 {
                return;
            }
            for item in items.drain(..) {
                match item {
                    Item::Record(record) => batch.push(record),
                    Item::Flush(done) => flushes.push(done),
                }
            }
            self.writer.write(batch).await;
            batch.clear();
            for done in flushes {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.writer.end.lock().unwrap_or_else(PoisonError::into_inner) = self.end.take();
    }
}
