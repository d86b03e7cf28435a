//! The journal as one call uses it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use super::open::Journal;
use super::queue::{Closed, Item, Settlement, Then, Witness};
use super::ship::Shipments;
use super::{Head, Shared, moments};
use crate::domain::outcome::Outcome;

/// How long a call waits for its intent to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a flush waits for a disk that takes nothing.
const LONG: Duration = Duration::from_secs(30);
/// How long a flush waits for sinks, and how often it checks.
const MOMENT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// An open journal, for those who record calls in it.
#[derive(Clone)]
pub(crate) struct Trails {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    shipments: Shipments,
}

impl Trails {
    pub(crate) fn new(journal: Journal) -> Self {
        let (shared, shipments) = journal.into_parts();
        // What was left is delivered before the first call comes, if there is a runtime to do it on.
        shipments.start(&shared);
        shared.has_all_sinks.store(true, Ordering::Relaxed);
        shared.sync.look();
        Trails { inner: Arc::new(Inner { shared, shipments }) }
    }

    /// A place for one more call; `None` if it could not be recorded.
    pub(crate) fn begin(&self) -> Option<Trail> {
        self.inner.shipments.start(&self.inner.shared);
        let shared = &self.inner.shared;
        let place = shared.places.clone().try_acquire_owned().ok().filter(|_| !shared.is_failing())?;
        Some(Trail {
            journal: self.inner.clone(),
            place: Mutex::new(Some(place)),
            is_intended: AtomicBool::new(false),
            was_asked: AtomicBool::new(false),
        })
    }

    /// Whether no call gets a place, because it could not be recorded.
    pub(crate) fn is_failing(&self) -> bool {
        self.inner.shared.is_failing()
    }

    pub(crate) fn places_left(&self) -> usize {
        self.inner.shared.places.available_permits()
    }

    /// The last line that is written.
    pub(crate) fn head(&self) -> Option<Head> {
        *self.inner.shared.written.borrow()
    }

    /// How many lines each sink has not had.
    pub(crate) fn behind(&self) -> Vec<(Arc<str>, u64)> {
        let last = self.head().map_or(0, |head| head.seq);
        let acked = self.inner.shared.acked.lock().unwrap_or_else(PoisonError::into_inner);
        acked.iter().map(|(name, acked)| (name.clone(), last.saturating_sub(acked.had))).collect()
    }

    /// Waits until every call that has closed by now is on the disk, and briefly for sinks to have had it.
    pub(crate) async fn flush(&self) {
        let (Inner { shared, shipments }, (done, on_disk)) = (&*self.inner, oneshot::channel());
        shipments.start(shared);
        shared.queue.push(Item::Flush(done));
        if !matches!(tokio::time::timeout(LONG, on_disk).await, Ok(Ok(()))) {
            let calls = shared.calls - shared.places.available_permits();
            tracing::error!(
                calls,
                "the journal could not be written completely within 30 seconds: this many calls are open, or closed and not yet written; records that are only in memory are lost if the process ends now"
            );
        }
        let head = shared.written.borrow().map_or(0, |head| head.seq);
        let shipped = async {
            while shared.acked().is_some_and(|seq| seq < head) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(MOMENT, shipped).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// One call's place in the journal.
pub(crate) struct Trail {
    journal: Arc<Inner>,
    /// Taken when the call has closed.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    /// Its intent is written, or about to be.
    is_intended: AtomicBool,
    /// An intent was requested, and may still be written.
    was_asked: AtomicBool,
}

impl Trail {
    /// Records once that the call is about to be sent. Returns `false` if that failed.
    pub(crate) async fn intend(&self, witness: impl FnOnce() -> Arc<dyn Witness>) -> bool {
        if self.is_intended.swap(true, Ordering::Relaxed) {
            return true;
        }
        let (done, written) = oneshot::channel();
        {
            // Never after its final: nobody would close it again.
            let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            if place.is_none() {
                return false;
            }
            self.was_asked.store(true, Ordering::Relaxed);
            moments::at("held");
            self.journal.shared.queue.push(Item::Intent(witness(), done));
        }
        let is_written = matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(())));
        self.is_intended.store(is_written, Ordering::Relaxed);
        is_written
    }

    /// Records once how the call ended.
    pub(crate) fn close(&self, outcome: &Arc<Outcome>) {
        self.end(outcome, None);
    }

    /// The same for a call that money is held for, with the indexes of the pots that pay, if not all do. `settle`
    /// settles its budgets once the final is written, or certainly never will be. The budgets' store remembers that for
    /// `memory`.
    pub(crate) fn settle(
        &self,
        outcome: &Arc<Outcome>,
        paid: Option<Vec<usize>>,
        memory: Duration,
        settle: impl FnOnce() + Send + 'static,
    ) {
        self.end(outcome, Some((Settlement { paid, memory }, Then::new(settle))));
    }

    fn end(&self, outcome: &Arc<Outcome>, settled: Option<(Settlement, Then)>) {
        let (settlement, then) = settled.unzip();
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        if place.is_none() {
            return;
        }
        let (queue, closed) = (&self.journal.shared.queue, Closed::Call(outcome.clone(), settlement));
        match self.was_asked.load(Ordering::Relaxed) {
            true => queue.push(Item::Final(closed, place, then)),
            // The final of a refusal, whose answer may have been read already.
            false => queue.push_now(Item::Final(closed, place, then)),
        }
    }

    /// Requests a line with the call's current state. Does not wait for it.
    pub(crate) fn look(&self, id: Uuid) {
        if self.was_asked.load(Ordering::Relaxed) {
            self.journal.shared.queue.push(Item::Look(id));
        }
    }

    /// The budgets are settled.
    pub(crate) fn heard(&self, id: Uuid) {
        moments::at("budgets-told");
        if self.was_asked.load(Ordering::Relaxed) {
            self.journal.shared.queue.push(Item::Heard(id));
        }
    }

    /// Only the next start will settle them.
    pub(crate) fn given_up(&self, id: Uuid) {
        if self.was_asked.load(Ordering::Relaxed) {
            self.journal.shared.queue.push(Item::GivenUp(id));
        }
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").finish_non_exhaustive()
    }
}
