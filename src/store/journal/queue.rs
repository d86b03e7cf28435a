//! What calls have reported and the writer has not yet taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use super::line::{Intent, Seen};
use super::seal::{Deleted, Sealed};
use crate::domain::audit::AuditRecord;
use crate::domain::event::Event;
use crate::domain::outcome::Outcome;

/// How long the records of closed calls wait for others. Under load the journal is then woken a hundred times a second,
/// and not for each call. Nobody waits for these records, and a start rebuilds those that have an intent.
const LINGER: Duration = Duration::from_millis(10);

/// A call in flight, as the journal asks about it.
pub(crate) trait Witness: Send + Sync + 'static {
    /// The content of its intent.
    fn intent(&self) -> Intent;
    /// Its current state.
    fn seen(&self) -> Seen;
}

pub(super) enum Item {
    /// The sender is told when it need not wait any more.
    Intent(Arc<dyn Witness>, oneshot::Sender<()>),
    /// A call has closed. `Then` runs when that is written.
    Final(Closed, Option<OwnedSemaphorePermit>, Option<Then>),
    /// An event to deliver; the sender is told when it is written.
    Event(Box<Event>, Option<oneshot::Sender<()>>),
    /// Content is about to be stored; the sender is told when it need not wait any more.
    Sealed(Vec<Sealed>, oneshot::Sender<()>),
    /// Content was deleted.
    Deleted(Deleted),
    /// More lines may be removed; the [`Release`](super::release::Release) knows which.
    Released,
    /// Much has come of this call, so its state is to be written.
    Look(Uuid),
    /// The budgets of this call are settled.
    Heard(Uuid),
    /// They are not, and only a start will settle them.
    GivenUp(Uuid),
    /// The receiver is told when everything before is on the disk.
    Flush(oneshot::Sender<()>),
}

/// Runs once, on the writer's thread, or wherever it turns out that nothing will be written. It must not take long.
pub(super) struct Then(Option<Box<dyn FnOnce() + Send>>);

impl Then {
    pub(super) fn new(then: impl FnOnce() + Send + 'static) -> Self {
        Then(Some(Box::new(then)))
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        let then = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| then.map(|then| then()))).is_err() {
            tracing::error!("an action that runs after a call was written to the journal panicked");
        }
    }
}

pub(super) enum Closed {
    /// With how its budgets are settled, if any hold something for it.
    Call(Arc<Outcome>, Option<Settlement>),
    /// A call of an earlier process.
    Lost(Box<AuditRecord>),
}

impl Closed {
    pub(super) fn id(&self) -> Uuid {
        match self {
            Closed::Call(outcome, _) => outcome.id,
            Closed::Lost(record) => record.id,
        }
    }
}

pub(super) struct Settlement {
    /// The indexes of the pots that pay, if not all do.
    pub(super) paid: Option<Vec<usize>>,
    /// How long their store remembers that it was settled.
    pub(super) memory: Duration,
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    /// Somebody waits for one of the items, or a crash would lose it.
    is_urgent: bool,
    is_closed: bool,
    /// Nobody takes items any more.
    is_gone: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, item: Item) {
        let is_urgent = matches!(item, Item::Intent(..) | Item::Sealed(..) | Item::Flush(_));
        self.add(item, is_urgent);
    }

    /// The same for an item that nobody waits for, but that a crash would lose.
    pub(super) fn push_now(&self, item: Item) {
        self.add(item, true);
    }

    fn add(&self, item: Item, is_urgent: bool) {
        let wakes = {
            let mut waiting = self.lock();
            if waiting.is_gone {
                drop(waiting);
                // Dropped outside the lock, since that runs its `Then`.
                return drop(item);
            }
            let wakes = waiting.items.is_empty() || (is_urgent && !waiting.is_urgent);
            waiting.is_urgent |= is_urgent;
            waiting.items.push(item);
            wakes
        };
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Moves everything that waits into `items`, without waiting.
    pub(super) fn take_now(&self, items: &mut Vec<Item>) {
        let mut waiting = self.lock();
        waiting.is_urgent = false;
        items.append(&mut waiting.items);
    }

    /// The end: drops what is in the queue and what still comes.
    pub(super) fn abandon(&self) {
        let items = {
            let mut waiting = self.lock();
            (waiting.is_closed, waiting.is_gone) = (true, true);
            std::mem::take(&mut waiting.items)
        };
        drop(items);
    }

    /// Moves everything that waits into `items`, once there is anything or this time has passed. Returns `false` at the
    /// end.
    pub(super) fn take(&self, items: &mut Vec<Item>, most: Option<Duration>) -> bool {
        let idle = |waiting: &mut Waiting| waiting.items.is_empty() && !waiting.is_closed;
        let waiting = self.lock();
        let mut waiting = match most {
            None => self.wake.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner),
            Some(most) => self.wake.wait_timeout_while(waiting, most, idle).unwrap_or_else(PoisonError::into_inner).0,
        };
        if !waiting.items.is_empty() && !waiting.is_urgent && !waiting.is_closed {
            let lingers = |waiting: &mut Waiting| !waiting.is_urgent && !waiting.is_closed;
            let lingered = self.wake.wait_timeout_while(waiting, LINGER, lingers);
            waiting = lingered.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.is_urgent = false;
        items.append(&mut waiting.items);
        !(items.is_empty() && waiting.is_closed)
    }
}
