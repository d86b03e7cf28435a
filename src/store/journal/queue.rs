//! What calls have said and the writer has not yet taken.

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

/// How long the records of closed calls wait for others, so that a busy gateway is woken for its journal a hundred times a
/// second and not for each call. Nobody waits for these, and of those that have an intent a start makes one anew.
const LINGER: Duration = Duration::from_millis(10);

/// A call that is under way, as the journal asks about it.
pub(crate) trait Witness: Send + Sync + 'static {
    /// What stands in its intent.
    fn intent(&self) -> Intent;
    /// How it stands now.
    fn seen(&self) -> Seen;
}

pub(super) enum Item {
    /// Whoever waits may stop waiting.
    Intent(Arc<dyn Witness>, oneshot::Sender<()>),
    /// A call has closed; what is to be done when that is written is done.
    Final(Closed, Option<OwnedSemaphorePermit>, Option<Then>),
    /// Somebody should hear of it.
    Event(Box<Event>),
    /// Content is about to be kept; whoever waits may stop waiting.
    Sealed(Vec<Sealed>, oneshot::Sender<()>),
    /// Content is kept no longer.
    Deleted(Deleted),
    /// What stands before this line may go.
    Released(u64),
    /// So much has come of this call that it is to be written how it stands.
    Look(Uuid),
    /// The budgets have heard how this call ended.
    Heard(Uuid),
    /// They have not, and nobody tells them any more but a start.
    GivenUp(Uuid),
    /// Everything before is on the disk when the other end hears.
    Flush(oneshot::Sender<()>),
}

/// Done once, on the thread that writes, or wherever it turns out that nothing will be written. Must not take long.
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
            tracing::error!("what was to be done after a call had been written down panicked");
        }
    }
}

pub(super) enum Closed {
    /// With how its budgets are told, where any hold something for it.
    Call(Arc<Outcome>, Option<Settlement>),
    /// Of an earlier process.
    Lost(Box<AuditRecord>),
}

pub(super) struct Settlement {
    /// The places of the pots that pay, if not all do.
    pub(super) paid: Option<Vec<usize>>,
    /// For how long their store knows that it was told.
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
    /// Somebody waits for one of them.
    is_urgent: bool,
    is_closed: bool,
    /// Nobody takes anything any more.
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

    /// The same, though nobody waits: after a crash there would be nothing of it.
    pub(super) fn push_now(&self, item: Item) {
        self.add(item, true);
    }

    fn add(&self, item: Item, is_urgent: bool) {
        let wakes = {
            let mut waiting = self.lock();
            if waiting.is_gone {
                drop(waiting);
                // Outside of the lock: what is to be done after it is done when it is dropped.
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

    /// All that waits, into `items`, here and now.
    pub(super) fn take_now(&self, items: &mut Vec<Item>) {
        let mut waiting = self.lock();
        waiting.is_urgent = false;
        items.append(&mut waiting.items);
    }

    /// The end: what is in it is dropped, and whatever comes.
    pub(super) fn abandon(&self) {
        let items = {
            let mut waiting = self.lock();
            (waiting.is_closed, waiting.is_gone) = (true, true);
            std::mem::take(&mut waiting.items)
        };
        drop(items);
    }

    /// All that waits, into `items`, once there is anything or so long has passed. `false` at the end.
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
