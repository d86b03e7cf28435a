//! What happens when the thread that syncs the journal to the disk ends.

use std::sync::Arc;

use super::shared::{Shared, Trouble};

/// Held by that thread. If it ends by a panic, no call is let through any more, since nothing is known to reach the
/// disk. Calls that were let through are written to their end, as far as there is a segment for them.
pub(super) struct SyncEnd(pub(super) Arc<Shared>);

impl Drop for SyncEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the thread that syncs the journal to disk panicked; calls are refused until a restart");
            self.0.trouble(Trouble::Sync, Some(&"the thread that syncs the journal to disk panicked"));
            self.0.sync.abandon();
        }
    }
}

/// Sleeps for this long at each part of a segment. `u64::MAX` panics instead, and so ends the thread.
#[cfg(test)]
pub(super) fn slowly(millis: u64) {
    assert_ne!(millis, u64::MAX, "as a test wants it");
    std::thread::sleep(std::time::Duration::from_millis(millis));
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, TryLockError};
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::queue::Item;
    use super::super::sync::tests::{journal, told, until, write_a_line};

    #[test]
    fn a_panic_of_the_thread_that_syncs_keeps_calls_out_and_nobody_waiting_and_the_lock_stays() {
        let (dir, trails, shared) = journal("panicked-sync");
        shared.sync.is_slow.store(u64::MAX, Ordering::Relaxed);
        let (taken, is_taken) = channel();
        let waiting = shared.clone();
        // As the writer does: the first is there from the start, and the second never is.
        std::thread::spawn(move || [(); 2].map(|()| taken.send(waiting.sync.take_next().is_ok())));
        let took = || is_taken.recv_timeout(Duration::from_secs(30)).expect("it waits no longer");
        assert_eq!((took(), took()), (true, false));

        until("it is told", || trails.is_failing());
        assert!(trails.begin().is_none());
        let (done, is_done) = oneshot::channel();
        shared.queue.push(Item::Flush(done));
        let (ended, has_ended) = channel();
        std::thread::spawn(move || ended.send(is_done.blocking_recv()));
        let flushed = has_ended.recv_timeout(Duration::from_secs(30)).expect("it waits no longer");
        flushed.expect_err("it is not known to be on the disk");

        // It is written all the same, and no other process may.
        let last = || trails.head().map(|head| head.seq);
        let before = last();
        write_a_line(&shared);
        until("it is written", || last() > before);
        let lock = File::open(dir.join("lock")).expect("there");
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        drop((lock, trails, shared));
        assert_eq!(told(&dir), ["audit_degraded"]);
        fs::remove_dir_all(&dir).expect("ours");
    }
}
