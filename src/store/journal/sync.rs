//! Syncs written lines, and makes the next segment, in a thread of its own, so that a write waits for no sync.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::late::Since;
use super::mend::{Unsynced, sync};
use super::segment;
use super::shared::{Shared, Trouble};
use super::spare::Spare;
use crate::domain::clock::{Clock, SystemClock};

/// How long to wait before trying again a disk that had no room, or took nothing.
const AGAIN: Duration = Duration::from_millis(250);
/// With room for fewer segments than this beyond the next, content is not kept.
const SPARE: u64 = 2;
/// From one sync to the next, so that the disk can serve others too.
const PACE: Duration = Duration::from_millis(20);

pub(super) struct Sync {
    dir: PathBuf,
    size: u64,
    state: Mutex<State>,
    wake: Condvar,
    /// A segment was made, or could not be.
    made: Condvar,
    /// There is little room beyond the next segment.
    is_short: AtomicBool,
    /// Since when lines wait to be synced, and since when lines are being synced.
    dirty: Since,
    syncing: Since,
    /// For how many milliseconds the disk works at each part of a segment.
    #[cfg(test)]
    pub(super) is_slow: std::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct State {
    dirty: Vec<Unsynced>,
    flushes: Vec<oneshot::Sender<()>>,
    next: Option<io::Result<File>>,
    wants_next: bool,
    /// The room is to be checked.
    wants_look: bool,
    /// The writer waits for the next segment, with the finals of calls that were let through.
    needs_next: bool,
    is_closed: bool,
}

impl Sync {
    /// Starts with the first next segment.
    pub(super) fn new(dir: PathBuf, size: u64, next: File) -> Self {
        let state = Mutex::new(State { next: Some(Ok(next)), ..State::default() });
        Sync {
            dir,
            size,
            state,
            wake: Condvar::new(),
            made: Condvar::new(),
            is_short: AtomicBool::new(false),
            dirty: Since::default(),
            syncing: Since::default(),
            #[cfg(test)]
            is_slow: Default::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was written, and these wait until it is on the disk.
    pub(super) fn written(&self, unsynced: Unsynced, flushes: Vec<oneshot::Sender<()>>) {
        let Some(mut state) = Some(self.lock()).filter(|state| !state.is_closed) else { return };
        state.add(unsynced);
        state.flushes.extend(flushes);
        self.dirty.begin();
        self.wake.notify_one();
    }

    /// Requests a check of the room: it is known now what can be removed, or that more is needed.
    pub(super) fn look(&self) {
        self.lock().wants_look = true;
        self.wake.notify_one();
    }

    /// Requests that the next segment is made.
    pub(super) fn want_next(&self) {
        self.lock().wants_next = true;
        self.wake.notify_one();
    }

    /// Takes the next segment. Waits until it is made, even if the journal grows too large: that keeps new calls out,
    /// but never holds back the final of a call that was let through, which would keep the oldest segments for ever.
    ///
    /// # Errors
    /// When the disk has no room for it (a later call tries again), and when nobody makes segments any more.
    pub(super) fn take_next(&self) -> io::Result<File> {
        let mut state = self.lock();
        if !matches!(state.next, Some(Ok(_))) {
            (state.next, state.wants_next, state.needs_next) = (None, true, true);
            self.wake.notify_one();
            let is_awaited = |state: &mut State| state.next.is_none() && !state.is_closed;
            state = self.made.wait_while(state, is_awaited).unwrap_or_else(PoisonError::into_inner);
        }
        state.next.take().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
    }

    /// Whether there may soon be no room.
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Since when something is not on the disk, if anything is not.
    pub(super) fn unsynced(&self) -> [&Since; 2] {
        [&self.syncing, &self.dirty]
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Nobody does this work any more: whoever waits for it stops waiting.
    pub(super) fn abandon(&self) {
        self.close();
        self.lock().flushes.clear();
        self.made.notify_all();
    }

    /// Runs until it is closed and everything is done.
    pub(super) fn run(journal: &Shared) {
        let this = &journal.sync;
        let (mut is_tight, mut wants_look, mut tried) = (false, false, Duration::ZERO);
        let mut spare = Spare::default();
        loop {
            let idle = |state: &mut State| {
                let State { dirty, flushes, wants_next, wants_look, is_closed, .. } = state;
                dirty.is_empty() && flushes.is_empty() && !*wants_next && !*wants_look && !*is_closed
            };
            let (due, wants_next) = {
                let state = this.lock();
                let mut state = match is_tight {
                    false => this.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
                    true => this.wake.wait_timeout_while(state, AGAIN, idle).unwrap_or_else(PoisonError::into_inner).0,
                };
                wants_look |= std::mem::take(&mut state.wants_look);
                (this.take(&mut state), state.wants_next)
            };
            let (is_idle, is_closed) = (due.0.is_empty() && due.1.is_empty(), due.2);
            this.bring(journal, due);
            // A full disk is tried again, but not all the time: others want what is left of it.
            let is_due = !is_tight || SystemClock.elapsed().saturating_sub(tried) >= AGAIN;
            if (wants_next || wants_look || is_tight) && is_due && !is_closed {
                (tried, wants_look) = (SystemClock.elapsed(), false);
                is_tight = this.look_for_room(journal, &mut spare);
            }
            if is_closed && is_idle {
                return;
            }
            if !is_closed {
                std::thread::sleep(PACE);
            }
        }
    }

    /// What is to be synced now, and who asked for it.
    fn take(&self, state: &mut State) -> Due {
        self.dirty.pass_on(&self.syncing);
        (std::mem::take(&mut state.dirty), std::mem::take(&mut state.flushes), state.is_closed)
    }

    /// Syncs these, and tells those that wait for it. Returns `false` if the disk does not take all.
    fn bring(&self, journal: &Shared, (dirty, flushes, is_closed): Due) -> bool {
        let failed = sync(journal, dirty);
        let is_there = failed.is_empty();
        self.syncing.end();
        journal.look_at_disk();
        match is_there || is_closed {
            true => flushes.into_iter().for_each(|done| {
                // The receiver may have stopped waiting.
                let _ = done.send(());
            }),
            false => self.later(failed, flushes),
        }
        is_there
    }

    /// Syncs what was written during other work of this thread. The disk makes progress even if that work is slow, and
    /// written lines wait for one part of it at most. Returns `false` if the disk does not take all.
    fn meanwhile(&self, journal: &Shared) -> bool {
        let due = self.take(&mut self.lock());
        self.bring(journal, due)
    }

    /// Makes the next segment if there is none; without room for it, calls must wait. Returns whether to check again in
    /// a while, because there is little room or none.
    fn look_for_room(&self, journal: &Shared, spare: &mut Spare) -> bool {
        // Each part of a segment is synced before the next is begun; otherwise the end would wait for all of them at
        // once.
        let meanwhile = |file: &File| -> io::Result<()> {
            file.sync_data()?;
            #[cfg(test)]
            super::ends::slowly(self.is_slow.load(Ordering::Relaxed));
            self.meanwhile(journal);
            Ok(())
        };
        let said = journal.release.said();
        let mut room = journal.make_room(|| self.meanwhile(journal));
        // Not while the writer waits for this thread, and writes nothing until then.
        if room.is_err() && journal.release.wait(said, || self.lock().needs_next) {
            room = journal.make_room(|| self.meanwhile(journal));
        }
        let (is_missing, is_needed) = {
            let State { next, wants_next, needs_next, .. } = &*self.lock();
            // An existing segment is the writer's, to name and to write to.
            let is_missing = !matches!(next, Some(Ok(_))) && (*wants_next || next.is_some());
            (is_missing, *needs_next)
        };
        if is_missing {
            let made = match &room {
                Err(error) if !is_needed => Err(io::Error::other(error.to_string())),
                _ => match spare.file.take() {
                    Some(spare) => segment::promote(&self.dir).map(|()| spare),
                    None => segment::prepare(&self.dir, self.size, meanwhile),
                },
            };
            if let (Ok(_), Err(error)) = (&room, &made) {
                room = Err(io::Error::other(error.to_string()));
            }
            let mut state = self.lock();
            (state.wants_next, state.needs_next) = (false, state.needs_next && made.is_err());
            state.next = Some(made);
            self.made.notify_one();
        }
        let mut is_short = room.as_ref().map_or(true, |left| *left < SPARE * self.size);
        if !is_short && journal.has_sealer() {
            is_short = !spare.is_there(&self.dir, self.size, meanwhile);
        }
        self.is_short.store(is_short, Ordering::Relaxed);
        let why = room.as_ref().err().map(|error| format!("no room for the journal: {error}"));
        // The last one still has some.
        if journal.trouble(Trouble::Room, why.as_ref().map(|why| why as &dyn Display))
            && let Err(error) = &room
        {
            tracing::error!(%error, "there is no room for another segment of the journal; calls are refused until there is");
        }
        if journal.has_all_sinks.load(Ordering::Relaxed) {
            // It is known now whether there is any trouble, so what was reported before has ended or goes on.
            journal.trouble(Trouble::Before, None);
        }
        is_short
    }

    /// Tries these again after a while.
    fn later(&self, failed: Vec<Unsynced>, flushes: Vec<oneshot::Sender<()>>) {
        std::thread::sleep(AGAIN);
        let mut state = self.lock();
        state.flushes.extend(flushes);
        failed.into_iter().for_each(|one| state.add(one));
    }
}

/// What is to be synced, who waits for it, and whether nothing more will come.
type Due = (Vec<Unsynced>, Vec<oneshot::Sender<()>>, bool);

impl State {
    fn add(&mut self, unsynced: Unsynced) {
        match self.dirty.iter_mut().find(|one| Arc::ptr_eq(&one.file, &unsynced.file)) {
            Some(one) => one.add(&unsynced),
            None => self.dirty.push(unsynced),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::queue::Item;
    use super::super::{Events, Journal, Trails};
    use super::*;
    use crate::domain::event::What;
    use crate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
    use crate::domain::principal::Principal;
    use crate::store::StoreError;
    use crate::store::audit::AuditSink;

    struct Kept;

    #[async_trait::async_trait]
    impl AuditSink for Kept {
        async fn write(&self, _: &[crate::domain::audit::AuditRecord]) -> Result<(), StoreError> {
            Ok(())
        }
    }

    pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
        let is_soon = (0..30_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            is_so()
        });
        assert!(is_soon, "{what}");
    }

    /// What its lines say of how it stood, once it is closed and written.
    pub(crate) fn told(dir: &Path) -> Vec<String> {
        let is_closed = || File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        until("it is closed", is_closed);
        let mut text = Vec::new();
        super::super::export(dir, &mut text).expect("readable");
        let lines = String::from_utf8(text).expect("UTF-8");
        let kinds = ["audit_degraded", "audit_restored"];
        lines
            .lines()
            .filter_map(|line| kinds.iter().find(|kind| line.contains(**kind)))
            .map(ToString::to_string)
            .collect()
    }

    pub(crate) fn journal(name: &str) -> (PathBuf, Trails, Arc<Shared>) {
        let name = format!("{name}-{}", std::process::id());
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let journal = Journal::at(&dir).open().and_then(|journal| journal.ship("kept", Kept)).expect("a journal");
        let shared = journal.events().into_shared();
        (dir, Trails::new(journal), shared)
    }

    pub(crate) fn write_a_line(shared: &Shared) {
        let what = What::UpstreamUp { upstream: "anthropic".into() };
        shared.tell(what);
    }

    #[test]
    fn a_write_that_hangs_keeps_calls_out_until_it_ends() {
        let (dir, trails, shared) = journal("hung-write");
        // In the middle of its write it comes by here.
        let hung = shared.sync.lock();
        write_a_line(&shared);
        assert!(!trails.is_failing());
        until("it is seen", || trails.is_failing());
        assert!(trails.begin().is_none());
        drop(hung);
        until("it moves again", || !trails.is_failing());
        assert!(trails.begin().is_some());
        drop((trails, shared));
        assert_eq!(told(&dir), ["audit_degraded", "audit_restored"]);
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn whoever_revokes_a_key_waits_for_no_disk_that_hangs() {
        let (dir, trails, shared) = journal("hung-revocation");
        let key = VirtualKey::mint(Environment::Test).expect("randomness");
        let pepper = Pepper::new(&[7; 32]).expect("long enough");
        let record = KeyRecord::new(&key, &pepper, Principal::new("ada"), SystemClock.now());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        // In the middle of its write it comes by here.
        let hung = shared.sync.lock();
        let told = Events::new(shared.clone());
        // It would never return.
        runtime.expect("a runtime").block_on(told.until_key_revoked(&record));
        drop(hung);
        drop((told, trails, shared));
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn what_is_written_while_a_segment_is_made_does_not_wait_for_all_of_that() {
        let (dir, trails, shared) = journal("slow-segment");
        let is_being_made = || fs::metadata(dir.join("next.tmp")).is_ok_and(|next| next.len() < shared.size);
        // It has 32 parts.
        shared.sync.is_slow.store(500, Ordering::Relaxed);
        drop(shared.sync.take_next().expect("it is there from the start"));
        shared.sync.want_next();
        until("it is being made", is_being_made);
        for _ in 0..3 {
            write_a_line(&shared);
            let (done, is_done) = oneshot::channel();
            shared.queue.push(Item::Flush(done));
            is_done.blocking_recv().expect("it is on the disk");
            assert!(is_being_made());
        }
        assert!(!trails.is_failing());
        shared.sync.is_slow.store(0, Ordering::Relaxed);
        until("it is made", || !is_being_made());
        drop((trails, shared));
        assert_eq!(told(&dir), [""; 0]);
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn a_disk_on_which_nothing_comes_to_be_keeps_calls_out_and_somebody_hears_while_it_does() {
        let (dir, trails, shared) = journal("hung-sync");
        // The thread that syncs takes this lock when it looks for room; the thread that writes does not.
        let hung = shared.acked.lock().expect("nobody panics");
        shared.sync.look();
        until("it is seen", || {
            write_a_line(&shared);
            trails.is_failing()
        });
        let written = || fs::read_dir(&dir).expect("readable").filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        until("somebody hears", || written().any(|text| memchr::memmem::find(&text, b"audit_degraded").is_some()));
        drop(hung);
        until("it moves again", || !trails.is_failing());
        drop((trails, shared));
        assert_eq!(told(&dir), ["audit_degraded", "audit_restored"]);
        fs::remove_dir_all(&dir).expect("ours");
    }
}
