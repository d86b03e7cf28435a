//! Detects a disk that hangs: it neither completes writes nor reports errors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::{Shared, Trouble};
use crate::domain::clock::{Clock, SystemClock};

/// How long a write may take; a call waits for at most this time.
const WRITE: Duration = Duration::from_secs(5);
/// How long written lines may not be on the disk. Calls do not wait for that, and a busy disk needs its time.
const SYNC: Duration = Duration::from_secs(10);

/// When unfinished work began; 0 if there is none.
#[derive(Default)]
pub(super) struct Since(AtomicU64);

impl Since {
    /// There is work now, if there was none before.
    pub(super) fn begin(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(micros(SystemClock.elapsed()).max(1), Ordering::Relaxed);
        }
    }

    /// All work is done.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Passes the work, with its start time, to somebody who does nothing else.
    pub(super) fn pass_on(&self, to: &Since) {
        to.0.store(self.0.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn is_longer_ago(&self, than: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            since => micros(SystemClock.elapsed()).saturating_sub(since) >= micros(than),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    /// Checks whether the disk makes progress. The thread that hangs cannot report it, so this is called by those that
    /// would wait for it next, and by those that ask for the status.
    pub(super) fn look_at_disk(&self) {
        let is_late = |since: &[&Since], most| since.iter().any(|since| since.is_longer_ago(most));
        let why = if is_late(&[&self.writing], WRITE) {
            Some("the disk has not completed a write for 5 seconds")
        } else if is_late(&self.sync.unsynced(), SYNC) {
            Some("written lines have not been synced to disk for 10 seconds")
        } else {
            None
        };
        if self.trouble(Trouble::Late, why.as_ref().map(|why| why as _)) {
            tracing::error!(why, path = %self.dir.display(), "the disk of the journal hangs; calls are refused until it responds");
        }
    }
}
