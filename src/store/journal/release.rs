//! Which segments may be removed. A line says so before it happens, so that a verification can tell removed segments
//! from stolen ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::{Item, Queue};

/// How long to wait for that line to be written, if there is no room until something is removed.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(1);

/// The most bytes that such a line takes.
pub(super) const LINE: u64 = 256;
/// The room that every segment keeps for these lines. Without it, a journal that fills its disk could remove nothing any
/// more, since the line that allows it would stand behind everything that waits for room.
pub(super) const KEPT: u64 = 64 * LINE;

/// The first line that must stay: as requested, as stated by the latest line, and as stated by the last written line.
#[derive(Default)]
pub(super) struct Release {
    asked: AtomicU64,
    made: Mutex<Made>,
    said: AtomicU64,
}

/// What the latest line states, and its number until it is written.
#[derive(Default)]
struct Made {
    before: u64,
    unwritten: Option<u64>,
}

impl Release {
    /// A written line says that everything before this line may be removed.
    pub(super) fn said(&self) -> u64 {
        self.said.load(Ordering::Acquire)
    }

    /// Requests a line that says that everything before `before` may be removed.
    pub(super) fn ask(&self, before: u64, queue: &Queue) {
        if self.asked.fetch_max(before, Ordering::Relaxed) < before {
            queue.push(Item::Released);
        }
    }

    /// What the next such line has to state, if there is anything new.
    pub(super) fn due(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Relaxed);
        (asked > self.made().before).then_some(asked)
    }

    /// The line `seq` states `before`.
    pub(super) fn put(&self, seq: u64, before: u64) {
        *self.made() = Made { before, unwritten: Some(seq) };
    }

    /// All lines up to this one are written. Returns whether that allows a removal.
    pub(super) fn written(&self, upto: u64) -> bool {
        let mut made = self.made();
        let is_written = made.unwritten.take_if(|seq| *seq <= upto).is_some();
        if is_written {
            self.said.fetch_max(made.before, Ordering::Release);
        }
        is_written
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::super::chain::{Head, LineHash};
    use super::super::line::{Released, Said, put};
    use super::*;

    #[test]
    fn no_such_line_takes_more_room_than_is_kept_for_it() {
        let (mut out, head) = (Vec::new(), Head { seq: u64::MAX - 1, hash: LineHash::NONE });
        put(&mut out, head, &Said::Released(Released { before: u64::MAX })).expect("a line");
        assert!(out.len() as u64 <= LINE, "{}", out.len());
    }
}
