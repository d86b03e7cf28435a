use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot, watch};

use super::chain::Head;
use super::late::Since;
use super::ongoing::Ongoing;
use super::queue::{Item, Queue};
use super::release::Release;
use super::segment;
use super::sync::Sync;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::{Event, What};

/// What the threads of a journal, its calls and its sinks share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    /// The size of a segment.
    pub(super) size: u64,
    pub(super) keep: u64,
    pub(super) most: u64,
    pub(super) queue: Queue,
    pub(super) sync: Sync,
    /// Lines are being written.
    pub(super) writing: Since,
    /// Places for calls that are open, or closed and not yet written, and how many there are in all.
    pub(super) places: Arc<Semaphore>,
    pub(super) calls: usize,
    /// The last written line; `None` once no more will be written.
    pub(super) written: watch::Sender<Option<Head>>,
    /// The position of each sink, by its name.
    pub(super) acked: Mutex<BTreeMap<Arc<str>, Acked>>,
    /// One of the sinks takes records: only what such sinks have had may be removed.
    pub(super) has_record_sink: AtomicBool,
    /// All sinks are known. Nothing is removed before, since a sink that is added later would miss it.
    pub(super) has_all_sinks: AtomicBool,
    /// Why calls must wait: one bit for each [`Trouble`].
    pub(super) troubles: AtomicU8,
    /// The problems that were reported and have not ended, according to the lines that are made.
    pub(super) ongoing: Mutex<Ongoing>,
    /// Held while a trouble begins or ends, so that the reports stay in order.
    pub(super) telling: Mutex<()>,
    /// Content is kept; it stops first if room is short.
    pub(super) has_sealer: AtomicBool,
    /// The first line of a call that is not done with; otherwise a line that is not written yet.
    pub(super) open_from: AtomicU64,
    /// The same, without calls whose budgets only a start would settle: what is kept for those gives way if there is no
    /// room.
    pub(super) needed_from: AtomicU64,
    /// The call that began at that line has ended, but its budgets are not settled.
    pub(super) is_untold: AtomicBool,
    pub(super) release: Release,
}

/// The position of a sink.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Acked {
    /// The line up to which it has had everything.
    pub(super) had: u64,
    /// The line up to which nothing is kept for it: what it has not had of that is kept elsewhere.
    pub(super) taken: u64,
}

/// What keeps calls waiting, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no room for a segment after the current one.
    Room = 1,
    /// The disk does not accept writes.
    Write = 2,
    /// The disk does not sync what is written.
    Sync = 4,
    /// The disk has lost a part of it. That lasts until the process ends.
    Lost = 8,
    /// The disk hangs.
    Late = 16,
    /// An earlier process reported a trouble, and its end is not yet reported. This keeps no call waiting.
    Before = 32,
}

impl Shared {
    pub(super) fn written(&self, head: Head) {
        self.written.send_replace(Some(head));
    }

    /// Reports this as an event.
    pub(super) fn tell(&self, what: What) {
        self.tell_of(Event::new(SystemClock.now(), what), None);
    }

    /// Takes this event, to be written at once, since nobody would tell of it again. The sender is told when it is.
    pub(super) fn tell_of(&self, event: Event, done: Option<oneshot::Sender<()>>) {
        self.queue.push_now(Item::Event(Box::new(event), done));
    }

    /// Whether calls must wait.
    pub(super) fn is_failing(&self) -> bool {
        self.look_at_disk();
        self.troubles.load(Ordering::Relaxed) & !(Trouble::Before as u8) != 0
    }

    /// A trouble begins (with a reason) or ends. Returns whether it is new. The first one and the end of the last one
    /// are reported as soon as something can be written.
    pub(super) fn trouble(&self, trouble: Trouble, reason: Option<&dyn Display>) -> bool {
        let bit = trouble as u8;
        // Every written line comes by here.
        if reason.is_some() == (self.troubles.load(Ordering::Relaxed) & bit != 0) {
            return false;
        }
        let _in_order = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is seen, so that whoever closes the journal because all is well closes it behind this report.
        match (self.troubles.load(Ordering::Relaxed), reason) {
            (0, Some(reason)) => self.tell(What::AuditDegraded { reason: reason.to_string().into() }),
            (before, None) if before == bit => self.tell(What::AuditRestored),
            _ => {}
        }
        match reason {
            Some(_) => self.troubles.fetch_or(bit, Ordering::Relaxed),
            None => self.troubles.fetch_and(!bit, Ordering::Relaxed),
        };
        reason.is_some()
    }

    pub(super) fn ongoing(&self) -> MutexGuard<'_, Ongoing> {
        self.ongoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_sealer(&self) -> bool {
        self.has_sealer.load(Ordering::Relaxed)
    }

    /// A sink has moved on. Under the lock for all sinks: of two that move at once, the later one knows of both.
    pub(super) fn ack(&self, sink: &Arc<str>, come_on: impl FnOnce(&mut Acked)) {
        let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        come_on(acked.entry(sink.clone()).or_default());
    }

    /// The last line that every sink has had, if there are sinks.
    pub(super) fn acked(&self) -> Option<u64> {
        self.least(|acked| acked.had)
    }

    /// Whether there is little room, and this sink prevents that some is made.
    pub(super) fn is_short_by(&self, sink: &str) -> bool {
        if !self.sync.is_short() || !self.has_record_sink.load(Ordering::Relaxed) {
            return false;
        }
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = acked.get(sink).map(|acked| acked.taken);
        acked.values().map(|acked| acked.taken).min() == taken
    }

    /// The line up to which no sink needs anything kept.
    fn taken(&self) -> Option<u64> {
        self.least(|acked| acked.taken)
    }

    fn least(&self, of: impl Fn(&Acked) -> u64) -> Option<u64> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).values().map(of).min()
    }

    /// Removes, once all sinks are known, what all of them have had, beyond what is to be kept and as far as nothing
    /// needs it. Returns how much more the journal may grow beyond the next segment, not counting what is only kept to
    /// be looked at. Removals take time, so `meanwhile` is called after each.
    ///
    /// # Errors
    /// When the journal is too large all the same.
    pub(super) fn make_room(&self, mut meanwhile: impl FnMut() -> bool) -> io::Result<u64> {
        let segments = segment::list(&self.dir)?;
        let lens =
            segments.iter().map(|segment| Ok(fs::metadata(&segment.path)?.len())).collect::<io::Result<Vec<_>>>()?;
        // Without a sink of records, segments stay, whoever gets the events.
        let had = self.taken().filter(|_| self.has_record_sink.load(Ordering::Relaxed)).unwrap_or(0);
        let open_from = self.open_from.load(Ordering::Acquire);
        let needed_from = self.needed_from.load(Ordering::Acquire);
        // What is stated by now is on the disk once what was written meanwhile is.
        let released = self.release.said();
        let (mut total, mut kept) = (lens.iter().sum::<u64>(), 0);
        let is_refusing = self.troubles.load(Ordering::Relaxed) & Trouble::Room as u8 != 0;
        // The size once everything that was requested is removed.
        let mut planned = total;
        // Before all sinks are known, no call may be let through that would have to be refused later. What replaces a
        // line must be on the disk before that line is removed.
        if !self.has_all_sinks.load(Ordering::Relaxed) || !meanwhile() {
            return Ok(self.most.saturating_sub(total.saturating_add(self.size)));
        }
        let mut full = "the journal has reached its maximum size";
        for ([segment, next], len) in segments.array_windows::<2>().zip(lens) {
            if next.first > had.saturating_add(1) {
                full = "the journal has reached its maximum size, and sinks have not received its oldest lines";
                break;
            }
            let is_full = is_refusing || planned.saturating_add(self.size) > self.most;
            if next.first > open_from && (next.first > needed_from || !is_full) {
                full = match self.is_untold.load(Ordering::Relaxed) {
                    true => {
                        "the journal has reached its maximum size, and its oldest call is not settled with its budgets"
                    }
                    false => "the journal has reached its maximum size, and its oldest call is still running",
                };
                break;
            }
            let is_due = planned.saturating_add(self.size) > self.keep.min(self.most);
            // Near the limit, one more removal is requested, so that it is allowed when the next segment is wanted.
            if is_due || planned.saturating_add(self.size.saturating_mul(2)) > self.most {
                planned -= len;
                self.release.ask(next.first, &self.queue);
            }
            if !is_due || next.first > released {
                kept += len;
                continue;
            }
            if next.first > open_from {
                tracing::error!(
                    path = %segment.path.display(),
                    "a segment is removed although some of its calls are not settled with their budgets: the journal needs the space, so the next start cannot settle them"
                );
            }
            fs::remove_file(&segment.path)?;
            total -= len;
            meanwhile();
        }
        let left = self.most.checked_sub(total.saturating_add(self.size));
        Ok(left.ok_or_else(|| io::Error::other(full))?.saturating_add(kept))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Journal, Trails};
    use super::*;
    use crate::audit::TracingSink;
    use crate::store::StoreError;
    use crate::store::event::EventSink;

    /// A journal that has begun three times, and is as large as it may be.
    fn full(name: &str) -> (PathBuf, Journal) {
        let name = format!("{name}-{}", std::process::id());
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let begin = || {
            loop {
                match Journal::at(&dir).segment_bytes(1 << 20).most_bytes(2 << 20).keep_bytes(0).open() {
                    Err(error) if error.is_locked() => std::thread::yield_now(),
                    journal => break journal.expect("a journal"),
                }
            }
        };
        drop(begin());
        drop(begin());
        let journal = begin();
        assert_eq!(segment::list(&dir).expect("readable").len(), 3);
        (dir, journal)
    }

    /// As its thread makes room: what may go is said first.
    fn room(shared: &Shared) -> io::Result<u64> {
        let said = shared.release.said();
        let room = shared.make_room(|| true);
        if room.is_err() && shared.release.wait(said, || false) { shared.make_room(|| true) } else { room }
    }

    fn had_all(acked: &mut Acked) {
        *acked = Acked { had: 1_000, taken: 1_000 };
    }

    struct Deaf;

    #[async_trait::async_trait]
    impl EventSink for Deaf {
        async fn tell(&self, _: &Event) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[test]
    fn what_no_sink_of_records_has_had_stays_whoever_has_heard_of_events() {
        let (dir, journal) = full("events-alone");
        let (shared, _) = journal.notify("ear", Deaf).expect("a name").into_parts();
        shared.ack(&"ear".into(), had_all);
        shared.has_all_sinks.store(true, Ordering::Relaxed);
        shared.open_from.store(1_000, Ordering::Relaxed);
        shared.make_room(|| true).expect_err("it is full");
        assert_eq!(segment::list(&dir).expect("readable").len(), 3);
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn room_is_short_by_the_sink_that_has_read_least_where_reading_makes_room() {
        let (dir, journal) = full("short-by");
        let journal = journal.notify("ear", Deaf).expect("a name");
        let shared = journal.events().into_shared();
        shared.sync.look();
        let is_short = (0..5_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            shared.sync.is_short()
        });
        assert!(is_short);
        assert!(!shared.is_short_by("ear"), "records have nowhere to go");
        let _journal = journal.ship("kept", TracingSink::new()).expect("a name");
        shared.ack(&"kept".into(), had_all);
        assert!(shared.is_short_by("ear") && !shared.is_short_by("kept"));
        shared.ack(&"ear".into(), |acked| acked.taken = 1_001);
        assert!(!shared.is_short_by("ear"));
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn nothing_is_removed_before_all_sinks_are_known() {
        let (dir, journal) = full("unknown");
        let journal = journal.ship("kept", TracingSink::new()).expect("a name");
        let shared = journal.events().into_shared();
        shared.ack(&"kept".into(), had_all);
        shared.open_from.store(1_000, Ordering::Relaxed);
        let left = || segment::list(&dir).expect("readable").len();
        shared.make_room(|| true).expect("nobody is kept out");
        assert_eq!(left(), 3);
        // Its own thread looks for room at once.
        let _trails = Trails::new(journal);
        let waited = (0..5_000).find(|_| {
            std::thread::sleep(Duration::from_millis(1));
            left() == 1
        });
        assert!(waited.is_some(), "{} are left", left());
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn what_was_told_before_a_start_is_over_once_all_sinks_are_known_and_not_before() {
        let (dir, journal) = full("over");
        let journal = journal.ship("kept", TracingSink::new()).expect("a name");
        let shared = journal.events().into_shared();
        shared.trouble(Trouble::Before, Some(&"of an earlier process"));
        let is_over = || shared.troubles.load(Ordering::Relaxed) & Trouble::Before as u8 == 0;
        let is_soon = |is_so: &dyn Fn() -> bool, millis| {
            (0..millis).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                is_so()
            })
        };
        shared.sync.look();
        assert!(is_soon(&|| shared.sync.is_short(), 5_000), "it is looked");
        assert!(!is_soon(&is_over, 20));
        shared.ack(&"kept".into(), had_all);
        let _trails = Trails::new(journal);
        assert!(is_soon(&is_over, 5_000));
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn what_only_a_start_would_tell_gives_way_where_there_is_no_room_and_nothing_else_does() {
        let (dir, journal) = full("gives-way");
        let (shared, _) = journal.ship("kept", TracingSink::new()).expect("a name").into_parts();
        let left = || segment::list(&dir).expect("readable").len();
        shared.ack(&"kept".into(), had_all);
        shared.has_all_sinks.store(true, Ordering::Relaxed);
        shared.open_from.store(1, Ordering::Relaxed);
        for (is_untold, why) in [(false, "its oldest call is still running"), (true, "its oldest call is not settled")]
        {
            shared.needed_from.store(1, Ordering::Relaxed);
            shared.is_untold.store(is_untold, Ordering::Relaxed);
            let error = shared.make_room(|| true).expect_err("it is full");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(left(), 3);
        shared.needed_from.store(1_000, Ordering::Relaxed);
        room(&shared).expect("room");
        assert_eq!(left(), 1);
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn nothing_goes_while_what_takes_its_place_is_not_on_the_disk() {
        let (dir, journal) = full("unsynced");
        let (shared, _) = journal.ship("kept", TracingSink::new()).expect("a name").into_parts();
        let left = || segment::list(&dir).expect("readable").len();
        shared.ack(&"kept".into(), had_all);
        shared.has_all_sinks.store(true, Ordering::Relaxed);
        shared.open_from.store(1_000, Ordering::Relaxed);
        assert_eq!(shared.make_room(|| false).expect("nobody is kept out for it"), 0);
        assert_eq!(left(), 3);
        room(&shared).expect("room");
        assert_eq!(left(), 1);
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn what_was_told_before_a_start_keeps_no_call_out_by_itself() {
        let (dir, journal) = full("before");
        let (shared, _) = journal.into_parts();
        shared.trouble(Trouble::Before, Some(&"of an earlier process"));
        assert!(!shared.is_failing());
        shared.trouble(Trouble::Room, Some(&"of this one"));
        assert!(shared.is_failing());
        fs::remove_dir_all(&dir).expect("ours");
    }
}
