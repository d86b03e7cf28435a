//! Which segments may be removed. A line says so before it happens, so that a verification can tell removed segments
//! from stolen ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::queue::{Item, Queue};

/// How long to wait for that line to be written, if there is no room until something is removed.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(1);

/// The first line that must stay: as requested, as stated by the latest line, and as stated by the last written line.
#[derive(Default)]
pub(super) struct Release {
    asked: AtomicU64,
    /// The number of the line, and what it states; `None` if none is to be written.
    made: Mutex<Option<(u64, u64)>>,
    said: AtomicU64,
}

impl Release {
    /// A written line says that everything before this line may be removed.
    pub(super) fn said(&self) -> u64 {
        self.said.load(Ordering::Acquire)
    }

    /// Requests a line that says that everything before `before` may be removed.
    pub(super) fn ask(&self, before: u64, queue: &Queue) {
        if self.asked.fetch_max(before, Ordering::Relaxed) < before {
            queue.push(Item::Released(before));
        }
    }

    /// The line `seq` states `before`.
    pub(super) fn put(&self, seq: u64, before: u64) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((seq, before));
    }

    /// All lines up to this one are written. Returns whether that allows a removal.
    pub(super) fn written(&self, upto: u64) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, before)) = made.take_if(|(seq, _)| *seq <= upto) else { return false };
        self.said.fetch_max(before, Ordering::Release);
        true
    }

    /// Waits until more than `said` is stated, if more was requested, unless it `is_vain`. Returns whether it is.
    pub(super) fn wait(&self, said: u64, is_vain: impl Fn() -> bool) -> bool {
        let mut left = PATIENCE;
        while self.said() <= said && self.asked.load(Ordering::Relaxed) > said && !left.is_zero() && !is_vain() {
            // Polled rather than signalled: it takes a moment, and happens only when the journal is full.
            std::thread::sleep(PAUSE);
            left = left.saturating_sub(PAUSE);
        }
        self.said() > said
    }
}
