use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::chain::Head;
use super::queue::{Item, Queue};
use super::segment;
use super::sync::Sync;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::{Event, What};

/// What the threads of a journal, its calls and its sinks have in common.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    /// Of a segment.
    pub(super) size: u64,
    pub(super) keep: u64,
    pub(super) most: u64,
    pub(super) queue: Queue,
    pub(super) sync: Sync,
    /// Calls that may be open, or closed and not yet written.
    pub(super) places: Arc<Semaphore>,
    /// The last line that is written; `None` once no more will be.
    pub(super) written: watch::Sender<Option<Head>>,
    /// The last line that each sink has had, by its name.
    pub(super) acked: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Why calls must wait outside: a bit for each [`Trouble`].
    pub(super) troubles: AtomicU8,
    /// Held while one comes or goes, so that what is told of it is in order.
    pub(super) telling: Mutex<()>,
    /// Something is kept that is no record, and stops first where room is short.
    pub(super) has_sealer: AtomicBool,
    /// The first line of a call that is not done with; a line that is not written yet, if all are.
    pub(super) open_from: AtomicU64,
}

/// What keeps calls outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The segment that is written to is the last that there is room for.
    Room = 1,
    /// The disk does not take what is to be written,
    Write = 2,
    /// or does not keep what is.
    Sync = 4,
}

impl Shared {
    pub(super) fn written(&self, head: Head) {
        self.written.send_replace(Some(head));
    }

    /// Somebody should hear of this.
    pub(super) fn tell(&self, what: What) {
        self.queue.push(Item::Event(Box::new(Event::new(SystemClock.now(), what))));
    }

    /// Whether calls must wait outside.
    pub(super) fn is_failing(&self) -> bool {
        self.troubles.load(Ordering::Relaxed) != 0
    }

    /// There is this trouble, or no longer. Whether it has come now; of the first one and of the end of the last one somebody hears,
    /// as soon as something can be written.
    pub(super) fn trouble(&self, trouble: Trouble, reason: Option<&dyn Display>) -> bool {
        let bit = trouble as u8;
        // Every line that is written comes by here, and each is told of by one thread alone.
        if reason.is_some() == (self.troubles.load(Ordering::Relaxed) & bit != 0) {
            return false;
        }
        let _in_order = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match reason {
            Some(_) => self.troubles.fetch_or(bit, Ordering::Relaxed),
            None => self.troubles.fetch_and(!bit, Ordering::Relaxed),
        };
        match (before, reason) {
            (0, Some(reason)) => self.tell(What::AuditDegraded { reason: reason.to_string().into() }),
            (before, None) if before == bit => self.tell(What::AuditRestored),
            _ => {}
        }
        reason.is_some()
    }

    pub(super) fn has_sealer(&self) -> bool {
        self.has_sealer.load(Ordering::Relaxed)
    }

    pub(super) fn ack(&self, sink: &Arc<str>, seq: u64) {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).insert(sink.clone(), seq);
    }

    /// The last line that every sink has had, if there are any.
    pub(super) fn acked(&self) -> Option<u64> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()
    }

    /// Removes what everybody has had, beyond what is to be kept, as far as it is done with, and says how much there may still
    /// be beyond the next segment, what was kept to be looked at left aside.
    ///
    /// # Errors
    /// When there is more than there may be, all the same.
    pub(super) fn make_room(&self) -> io::Result<u64> {
        let segments = segment::list(&self.dir)?;
        let lens =
            segments.iter().map(|segment| Ok(fs::metadata(&segment.path)?.len())).collect::<io::Result<Vec<_>>>()?;
        let had = self.acked();
        // Without a sink this is where records stay.
        let had = had.map_or(0, |seq| seq.min(self.open_from.load(Ordering::Relaxed).saturating_sub(1)));
        let (mut total, mut kept) = (lens.iter().sum::<u64>(), 0);
        for ([segment, next], len) in segments.array_windows::<2>().zip(lens) {
            if next.first > had.saturating_add(1) {
                break;
            }
            match total.saturating_add(self.size) > self.keep.min(self.most) {
                true => {
                    fs::remove_file(&segment.path)?;
                    total -= len;
                }
                false => kept += len,
            }
        }
        let left = self.most.checked_sub(total.saturating_add(self.size));
        let full = "there is as much of it as there may be, and sinks have not had the oldest";
        Ok(left.ok_or_else(|| io::Error::other(full))?.saturating_add(kept))
    }
}
