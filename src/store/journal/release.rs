//! Which segments may go: that is a line of its own before any does, so that whoever proves the journal knows what it removed from
//! what somebody else took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::queue::{Item, Queue};

/// How long it is waited for that it is written, where there is no room until something has gone.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(1);

/// The first line that must stay, by what is asked for, by the line that is made of it, and by the last that is written.
#[derive(Default)]
pub(super) struct Release {
    asked: AtomicU64,
    /// Of the line, and what it says; nothing where none is to be written.
    made: Mutex<Option<(u64, u64)>>,
    said: AtomicU64,
}

impl Release {
    /// What stands before this line may go, by a line that is written.
    pub(super) fn said(&self) -> u64 {
        self.said.load(Ordering::Acquire)
    }

    /// Has it said that what stands before this line may go.
    pub(super) fn ask(&self, before: u64, queue: &Queue) {
        if self.asked.fetch_max(before, Ordering::Relaxed) < before {
            queue.push(Item::Released(before));
        }
    }

    /// This line says so.
    pub(super) fn put(&self, seq: u64, before: u64) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((seq, before));
    }

    /// All up to this line is written. Whether something may go by that.
    pub(super) fn written(&self, upto: u64) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, before)) = made.take_if(|(seq, _)| *seq <= upto) else { return false };
        self.said.fetch_max(before, Ordering::Release);
        true
    }

    /// Waits until more is said than this, where more was asked for, unless it `is_vain`. Whether it is.
    pub(super) fn wait(&self, said: u64, is_vain: impl Fn() -> bool) -> bool {
        let mut left = PATIENCE;
        while self.said() <= said && self.asked.load(Ordering::Relaxed) > said && !left.is_zero() && !is_vain() {
            // Looked at rather than told of: it is a moment, and only where the journal is full.
            std::thread::sleep(PAUSE);
            left = left.saturating_sub(PAUSE);
        }
        self.said() > said
    }
}
