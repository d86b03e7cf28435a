//! The thread that writes: what it makes lines of, and when. [`flush`](super::flush) brings them to the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use super::calls::{Calls, asked};
use super::carry::Carry;
use super::chain::Head;
use super::line::{Final, Released, Said, Seen, Settled};
use super::moments;
use super::queue::{Closed, Item, Settlement, Then};
use super::shared::{Shared, Trouble};
use crate::domain::audit::AuditRecord;
use crate::domain::clock::{Clock, SystemClock};

/// How often the state of calls that go on is written; for a call with much output, more often.
const TICK: Duration = Duration::from_secs(2);
/// The most calls that one line names; each takes 39 bytes.
const NAMED: usize = 4_096;
/// The longest line. Records do not come anywhere near it.
pub(super) const LONGEST: usize = 256 << 10;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<File>,
    /// The path of the segment that is written to.
    pub(super) path: Arc<Path>,
    pub(super) at: u64,
    pub(super) head: Head,
    /// The calls that are not done with.
    pub(super) calls: Calls,
    /// Lines that are made but not written.
    pub(super) lines: Vec<u8>,
    pub(super) ticked: Duration,
    /// The line that was last stated as the one before which everything is done with.
    pub(super) settled: u64,
    /// What runs when those lines are written, by their numbers.
    pub(super) unsettled: Vec<(u64, Then)>,
    /// What runs when the line is written that is being made.
    pub(super) unmade: Option<Then>,
    /// The calls that have ended when those lines are written.
    pub(super) closed: Vec<(u64, Uuid)>,
    /// Items that are taken, but not yet made into lines.
    pub(super) backlog: VecDeque<Item>,
    /// When the lines of calls that go on are written again.
    pub(super) carry: Carry,
    /// The next segment, while it is not certain that it has its name.
    pub(super) unnamed: Option<File>,
    /// A segment was begun, and what is due in it is not made.
    pub(super) has_rolled: bool,
    /// The journal was closed while nothing could be written.
    pub(super) is_lost: bool,
}

impl Writer {
    /// Writes the first lines, and waits until they are on the disk.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.try_flush()?;
        self.file.sync_all()
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _end = End(self.shared.clone());
        let mut items = Vec::new();
        loop {
            let since = SystemClock.elapsed().saturating_sub(self.ticked);
            let most = (!self.calls.is_empty()).then(|| TICK.saturating_sub(since));
            // What came while the disk took nothing goes first.
            if self.backlog.is_empty() && !self.shared.queue.take(&mut items, most) {
                break;
            }
            self.take_in(items.drain(..));
            if !self.write() {
                break;
            }
            if self.calls.is_empty() {
                // No tick comes until the next call does, and that may have to wait for the room.
                self.say_open_from();
            }
            let now = SystemClock.elapsed();
            if now.saturating_sub(self.ticked) >= TICK {
                self.ticked = now;
                if !self.tick() {
                    break;
                }
            }
        }
        self.say_settled();
        self.flush();
    }

    /// A settled budget needs no line and waits for none: what is done with makes room.
    pub(super) fn take_in(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            match item {
                Item::Heard(id) if self.calls.contains(&id) => self.calls.heard(id),
                Item::GivenUp(id) if self.calls.contains(&id) => self.calls.given_up(id),
                item => self.backlog.push_back(item),
            }
        }
    }

    /// Returns `false` if it gave up, because the journal is closed and its disk takes nothing.
    fn write(&mut self) -> bool {
        let (mut waiting, mut places, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        let mut goes_on = true;
        while let Some(item) = self.backlog.pop_front() {
            match item {
                Item::Intent(witness, done) => {
                    let Some(intent) = asked(|| witness.intent()) else { continue };
                    let id = intent.record.id;
                    // If the intent could not be added, nobody is told that it is written, and its call is not let
                    // through.
                    if let Some(Said::Intent(intent)) = self.put(Said::Intent(Box::new(intent))) {
                        self.calls.begin(id, self.head.seq, witness, intent.pots);
                        moments::at("intent-made");
                        waiting.push(done);
                    }
                }
                Item::Final(closed, place, then) => {
                    let (record, settlement) = match closed {
                        Closed::Call(outcome, settlement) => (AuditRecord::new(&outcome), settlement),
                        Closed::Lost(record) => (*record, None),
                    };
                    let id = record.id;
                    let paid = settlement.and_then(|Settlement { paid, memory }| {
                        self.calls.closes(id, SystemClock.elapsed().saturating_add(memory));
                        paid
                    });
                    self.unmade = then;
                    self.put(Said::Final(Box::new(Final { record, paid })));
                    moments::at("final-made");
                    self.calls.ends(id);
                    self.closed.push((self.head.seq, id));
                    self.unsettled.extend(self.unmade.take().map(|then| (self.head.seq, then)));
                    places.extend(place);
                }
                Item::Event(event, done) => {
                    if let Some(Said::Event(event)) = self.put(Said::Event(event)) {
                        self.shared.ongoing().note(&event.what);
                        waiting.extend(done);
                    }
                }
                Item::Sealed(sealed, done) => {
                    for one in sealed {
                        self.put(Said::Content(one));
                    }
                    waiting.push(done);
                }
                Item::Deleted(deleted) => {
                    self.put(Said::ContentDeleted(deleted));
                }
                Item::Released => self.put_released(),
                Item::Look(id) => {
                    if !self.is_scarce()
                        && let Some(seen) = self.calls.seen_of(&id)
                    {
                        self.put_seen(seen);
                    }
                }
                Item::Heard(id) => self.calls.heard(id),
                Item::GivenUp(id) => self.calls.given_up(id),
                Item::Flush(done) => flushes.push(done),
            }
            goes_on = goes_on && ((self.lines.len() < LONGEST * 4 && !self.has_rolled) || self.flush());
        }
        if !flushes.is_empty() {
            // This may be the last chance to state what is done with.
            self.say_settled();
        }
        goes_on = goes_on && self.flush();
        if goes_on && !waiting.is_empty() {
            moments::at("written");
            for done in waiting {
                // The receiver may have stopped waiting.
                let _ = done.send(());
            }
        }
        if !flushes.is_empty() {
            self.shared.sync.written(self.unsynced(), flushes);
        }
        goes_on
    }

    /// Writes the state of all calls that go on, and which calls are done with.
    fn tick(&mut self) -> bool {
        self.look_for_file();
        for id in self.calls.going_on() {
            if self.is_scarce() {
                break;
            }
            let Some(seen) = self.calls.seen_of(&id) else { continue };
            self.put_seen(seen);
            if (self.lines.len() >= LONGEST * 4 || self.has_rolled) && !self.flush() {
                return false;
            }
        }
        self.forget();
        self.say_settled();
        self.flush()
    }

    /// Stops looking back to calls whose budgets no start would settle any more.
    pub(super) fn forget(&mut self) {
        let calls = self.calls.forget(SystemClock.elapsed());
        if calls > 0 {
            tracing::error!(
                calls,
                "calls were not settled with their budgets for as long as the store remembers them; the next start does not settle them either"
            );
        }
    }

    /// Publishes the line before which segments may be removed.
    pub(super) fn say_open_from(&self) -> Option<u64> {
        let (shared, next, pinned) = (&self.shared, self.head.seq.saturating_add(1), self.calls.pinned());
        let first = pinned.as_ref().map(|pinned| pinned.from);
        // Whoever sees these values also sees what was handed over for syncing by now.
        shared.open_from.store(first.unwrap_or(next), Ordering::Release);
        shared.needed_from.store(self.calls.needed_from().unwrap_or(next), Ordering::Release);
        shared.is_untold.store(pinned.is_some_and(|pinned| pinned.is_untold), Ordering::Relaxed);
        first
    }

    pub(super) fn say_settled(&mut self) {
        let first = self.say_open_from();
        // A reader that gets this far knows that everything before this very line is done with.
        let before = first.unwrap_or(self.head.seq.saturating_add(1));
        let is_news = match first {
            Some(first) => self.settled != first,
            // Nothing was written since.
            None => self.settled != self.head.seq,
        };
        let mut done = self.calls.take_done(before);
        if is_news || !done.is_empty() {
            let rest = done.split_off(done.len().min(NAMED));
            let ongoing = self.shared.ongoing().clone();
            self.put(Said::Settled(Settled { before, done, ongoing: ongoing.clone() }));
            for done in rest.chunks(NAMED) {
                self.put(Said::Settled(Settled { before, done: done.to_vec(), ongoing: ongoing.clone() }));
            }
            self.settled = before;
        }
    }

    pub(super) fn put_seen(&mut self, seen: Seen) {
        self.put(Said::Seen(seen));
        moments::at("seen-made");
    }

    pub(super) fn put_released(&mut self) {
        if let Some(before) = self.shared.release.due() {
            self.put(Said::Released(Released { before }));
            self.shared.release.put(self.head.seq, before);
        }
    }
}

/// However the writer ends, nobody waits for it any more.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the thread that writes the journal panicked; calls are refused until a restart");
            self.0.trouble(Trouble::Write, Some(&"the thread that writes the journal panicked"));
        }
        self.0.queue.abandon();
        self.0.written.send_replace(None);
        self.0.sync.close();
    }
}
