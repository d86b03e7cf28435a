//! The thread that writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use super::calls::{Calls, asked};
use super::carry::Carry;
use super::chain::Head;
use super::frame;
use super::line::{Final, Link, Released, Said, Seen, Settled, last};
use super::mend::Unsynced;
use super::queue::{Closed, Item, Settlement, Then};
use super::shared::{Shared, Trouble};
use super::{moments, segment};
use crate::domain::audit::AuditRecord;
use crate::domain::clock::{Clock, SystemClock};

/// How often it is written how calls stand that go on; of one of which much comes, more often.
const TICK: Duration = Duration::from_secs(2);
/// How long to wait before a disk is tried again that takes nothing.
const PAUSE: Duration = Duration::from_millis(100);
/// How often, until what waits for it is done all the same.
const PATIENCE: u32 = 50;
/// The most calls that one line names: each takes 39 bytes.
const NAMED: usize = 4_096;
/// The longest line: records are not anywhere near it.
pub(super) const LONGEST: usize = 256 << 10;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<File>,
    /// Of the segment that is written to.
    pub(super) path: Arc<Path>,
    pub(super) at: u64,
    pub(super) head: Head,
    /// Those that are not done with.
    pub(super) calls: Calls,
    /// Lines that are made, and not written.
    pub(super) lines: Vec<u8>,
    pub(super) ticked: Duration,
    /// What was said last of how far all is done with.
    pub(super) settled: u64,
    /// What is done when those lines are written, by their numbers.
    pub(super) unsettled: Vec<(u64, Then)>,
    /// The calls that have ended by then.
    pub(super) closed: Vec<(u64, Uuid)>,
    /// Taken, and not yet put into lines.
    pub(super) backlog: VecDeque<Item>,
    /// When what was said of calls is said again.
    pub(super) carry: Carry,
}

impl Writer {
    /// Writes the first lines, and waits until they are on the disk.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.try_flush()?;
        self.file.sync_all()
    }

    /// Until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _end = End(self.shared.clone());
        let mut items = Vec::new();
        loop {
            let since = SystemClock.elapsed().saturating_sub(self.ticked);
            let most = (!self.calls.is_empty()).then(|| TICK.saturating_sub(since));
            // What came while a disk took nothing goes first.
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

    /// That budgets have heard needs no line, and waits for none: what is done with makes room.
    fn take_in(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            match item {
                Item::Heard(id) if self.calls.contains(&id) => self.calls.heard(id),
                Item::GivenUp(id) if self.calls.contains(&id) => self.calls.given_up(id),
                item => self.backlog.push_back(item),
            }
        }
    }

    /// `false` where it was given up, because the journal is closed and its disk takes nothing.
    fn write(&mut self) -> bool {
        let (mut waiting, mut places, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        let mut goes_on = true;
        while let Some(item) = self.backlog.pop_front() {
            match item {
                Item::Intent(witness, done) => {
                    let Some(intent) = asked(|| witness.intent()) else { continue };
                    let id = intent.record.id;
                    // One that is not put has nobody waiting any more, and its call is not let through.
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
                    self.put(Said::Final(Box::new(Final { record, paid })));
                    moments::at("final-made");
                    self.calls.ends(id);
                    self.closed.push((self.head.seq, id));
                    self.unsettled.extend(then.map(|then| (self.head.seq, then)));
                    places.extend(place);
                }
                Item::Event(event) => {
                    if let Some(Said::Event(event)) = self.put(Said::Event(event)) {
                        self.shared.ongoing().note(&event.what);
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
                Item::Released(before) => {
                    self.put(Said::Released(Released { before }));
                    self.shared.release.put(self.head.seq, before);
                }
                Item::Look(id) => {
                    if let Some(seen) = self.calls.seen_of(&id) {
                        self.put_seen(seen);
                    }
                }
                Item::Heard(id) => self.calls.heard(id),
                Item::GivenUp(id) => self.calls.given_up(id),
                Item::Flush(done) => flushes.push(done),
            }
            goes_on = goes_on && (self.lines.len() < LONGEST * 4 || self.flush());
        }
        if !flushes.is_empty() {
            // Perhaps the last that is heard: what is done with is said.
            self.say_settled();
        }
        goes_on = goes_on && self.flush();
        if goes_on && !waiting.is_empty() {
            moments::at("written");
            for done in waiting {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
        if !flushes.is_empty() {
            self.shared.sync.written(self.unsynced(), flushes);
        }
        goes_on
    }

    /// How all calls stand that go on, and which are done with.
    fn tick(&mut self) -> bool {
        self.look_for_file();
        for seen in self.calls.seen() {
            self.put_seen(seen);
            if self.lines.len() >= LONGEST * 4 && !self.flush() {
                return false;
            }
        }
        self.forget();
        self.say_settled();
        self.flush()
    }

    /// A file that somebody has removed takes what is written to it, and nobody will ever read it.
    fn look_for_file(&self) {
        const WHY: &str = "the file that it is written to was removed, until the next start";
        if segment::is_removed(&self.file) && self.shared.trouble(Trouble::Lost, Some(&WHY)) {
            let path = self.path.display();
            tracing::error!(%path, "the file that the journal is written to was removed; no call is let through before the next start");
        }
    }

    /// Looks no longer back to calls whose budgets no start would tell any more.
    fn forget(&mut self) {
        let calls = self.calls.forget(SystemClock.elapsed());
        if calls > 0 {
            tracing::error!(
                calls,
                "budgets have not been told how calls ended for as long as their store remembers: no start tells them any more"
            );
        }
    }

    /// Before which line segments may go.
    pub(super) fn say_open_from(&self) -> Option<u64> {
        let (shared, next, pinned) = (&self.shared, self.head.seq.saturating_add(1), self.calls.pinned());
        let first = pinned.as_ref().map(|pinned| pinned.from);
        // Whoever sees these sees what was handed to be synced by now.
        shared.open_from.store(first.unwrap_or(next), Ordering::Release);
        shared.needed_from.store(self.calls.needed_from().unwrap_or(next), Ordering::Release);
        shared.is_untold.store(pinned.is_some_and(|pinned| pinned.is_untold), Ordering::Relaxed);
        first
    }

    fn say_settled(&mut self) {
        let first = self.say_open_from();
        // By whoever reads on, what stands before this very line is done with.
        let before = first.unwrap_or(self.head.seq.saturating_add(1));
        let is_news = match first {
            Some(first) => self.settled != first,
            // Nothing has been written since.
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

    /// Writes the lines that are made, however often it takes, and what is due behind them.
    fn flush(&mut self) -> bool {
        let before = self.path.clone();
        let is_written = self.flush_lines();
        if !is_written || Arc::ptr_eq(&before, &self.path) {
            return is_written;
        }
        // The segment may go in which was said last how far to look back, and what goes on.
        self.settled = 0;
        self.say_settled();
        self.carry_over();
        let is_written = self.flush_lines();
        self.say_open_from();
        // Not before: there may be room for it only where the oldest need not be kept any more.
        self.shared.sync.want_next();
        is_written
    }

    fn flush_lines(&mut self) -> bool {
        let mut tries = 0;
        self.shared.writing.begin();
        while let Err(error) = self.try_flush() {
            self.shared.writing.end();
            if self.shared.trouble(Trouble::Write, Some(&format_args!("the journal cannot be written: {error}"))) {
                tracing::error!(%error, path = %self.path.display(), "the journal cannot be written; no call is let through until it can");
            }
            tries += 1;
            self.hear(tries >= PATIENCE);
            // No tick says so meanwhile, and room may wait for it.
            self.forget();
            self.say_open_from();
            if self.shared.queue.is_closed() {
                tracing::error!("the journal was closed, and what it could not write is lost");
                return false;
            }
            std::thread::sleep(PAUSE);
            self.shared.writing.begin();
        }
        self.shared.writing.end();
        self.shared.look_at_disk();
        self.shared.trouble(Trouble::Write, None);
        // A line that was too long to be put is waited for no longer.
        self.written(self.head);
        true
    }

    /// Takes what comes while nothing can be written.
    ///
    /// A disk that takes nothing must not keep money for ever: when it has had its time, they are told. What is not in the
    /// journal then is told again at the next start, and counts once.
    fn hear(&mut self, tells: bool) {
        let mut came = Vec::new();
        self.shared.queue.take_now(&mut came);
        self.take_in(came);
        if tells {
            self.unsettled.clear();
            for item in &mut self.backlog {
                if let Item::Final(_, _, then) = item {
                    drop(then.take());
                }
            }
        }
    }

    /// All lines up to this one are written.
    fn written(&mut self, head: Head) {
        self.shared.written(head);
        for (seq, id) in self.carry.written(head.seq) {
            self.calls.moved(&id, seq);
        }
        let closed = self.closed.partition_point(|(seq, _)| *seq <= head.seq);
        for (_, id) in self.closed.drain(..closed).collect::<Vec<_>>() {
            moments::at("final-written");
            self.calls.written(id);
        }
        if self.shared.release.written(head.seq) {
            self.shared.sync.look();
        }
        let settled = self.unsettled.partition_point(|(seq, _)| *seq <= head.seq);
        self.unsettled.drain(..settled);
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while !self.lines.is_empty() {
            let room = self.shared.size.saturating_sub(self.at);
            let fits = frame::whole(&self.lines, usize::try_from(room).unwrap_or(usize::MAX));
            if fits == 0 {
                self.roll()?;
                continue;
            }
            let mut file = &*self.file;
            file.seek(SeekFrom::Start(self.at))?;
            file.write_all(&self.lines[..fits])?;
            self.at += fits as u64;
            self.shared.sync.written(self.unsynced(), Vec::new());
            let last = if fits == self.lines.len() { Some(self.head) } else { last(&self.lines[..fits]) };
            self.lines.drain(..fits);
            // Those before are told of though there be no room for the rest: that they are done with may make it.
            if let Some(last) = last {
                self.written(last);
            }
        }
        Ok(())
    }

    fn unsynced(&self) -> Unsynced {
        Unsynced { file: self.file.clone(), path: self.path.clone(), len: self.at, is_suspect: false }
    }

    /// Goes on in the next segment.
    fn roll(&mut self) -> io::Result<()> {
        let first = frame::line_at(&self.lines, 0)
            .and_then(|line| serde_json::from_slice::<Link>(line).ok())
            .map(|link| link.seq);
        let Some(first) = first else { return Ok(()) };
        let file = self.shared.sync.take_next()?;
        self.path = segment::begin(&self.shared.dir, first)?.into();
        (self.file, self.at) = (Arc::new(file), 0);
        self.carry.begins(first);
        Ok(())
    }
}

/// However the writer ends, nobody waits for it any more.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer of the journal panicked; no call is let through any more");
            self.0.trouble(Trouble::Write, Some(&"the writer of the journal panicked"));
        }
        self.0.queue.abandon();
        self.0.written.send_replace(None);
        self.0.sync.close();
    }
}
