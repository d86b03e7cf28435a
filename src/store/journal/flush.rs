//! Brings the lines that are made to the disk, from segment to segment.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chain::Head;
use super::mend::Unsynced;
use super::queue::Item;
use super::shared::Trouble;
use super::writer::Writer;
use super::{moments, release, segment};
use crate::store::is_removed;

/// How long to wait before trying again a disk that takes nothing.
const PAUSE: Duration = Duration::from_millis(100);
/// How often to try before those that wait for a write are released all the same.
const PATIENCE: u32 = 50;

impl Writer {
    /// Writes the lines that are made, trying as often as needed, and then what is due in a new segment.
    pub(super) fn flush(&mut self) -> bool {
        while self.flush_lines() {
            if !std::mem::take(&mut self.has_rolled) {
                return true;
            }
            // The segment that has the last such statement, and the problems that go on, may be removed.
            self.settled = 0;
            self.say_settled();
            self.carry_over();
            self.flush_lines();
            self.say_open_from();
            // Only now: there may be room for it only once the oldest segments need not be kept.
            self.shared.sync.want_next();
        }
        false
    }

    /// Whether there is no other segment, and what is left of this one is for the ends of calls.
    pub(super) fn is_scarce(&self) -> bool {
        let has_next = self.shared.troubles.load(Ordering::Relaxed) & Trouble::Room as u8 == 0;
        !has_next && self.at.saturating_add(self.lines.len() as u64) > self.shared.size / 2
    }

    fn flush_lines(&mut self) -> bool {
        self.insist(Self::try_flush)
    }

    /// Goes on in the next segment, behind the lines that are made. Returns `false` if the journal was closed meanwhile.
    pub(super) fn begin_segment(&mut self) -> bool {
        self.insist(|writer| writer.try_flush().and_then(|()| writer.roll()))
    }

    /// Does this, trying as often as needed. Returns `false` if the journal was closed meanwhile: nothing is written any
    /// more.
    fn insist(&mut self, act: impl Fn(&mut Self) -> io::Result<()>) -> bool {
        let mut tries = 0;
        loop {
            if self.is_lost {
                return false;
            }
            self.shared.writing.begin();
            let done = act(self);
            self.shared.writing.end();
            let Err(error) = done else { break };
            if self.shared.trouble(Trouble::Write, Some(&format_args!("the journal cannot be written: {error}"))) {
                tracing::error!(%error, path = %self.path.display(), "the journal cannot be written; calls are refused until it can");
            }
            tries += 1;
            self.hear(tries >= PATIENCE);
            // No tick does this meanwhile, and room may depend on it.
            self.forget();
            self.say_open_from();
            // The same goes for this line. Behind lines that cannot be written it would be of no use, and a segment that
            // is about to begin has its number already.
            let has_room = self.at.saturating_add(release::LINE) <= self.shared.size;
            if self.lines.is_empty() && self.unnamed.is_none() && has_room {
                self.put_released();
            }
            self.is_lost = tries > 1 && self.shared.queue.is_closed();
            if self.is_lost {
                tracing::error!("the journal was closed; the lines that it could not write are lost");
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        self.shared.look_at_disk();
        self.shared.trouble(Trouble::Write, None);
        true
    }

    /// Takes items while nothing can be written.
    ///
    /// A disk that takes nothing must not hold money for ever: after the patience is over, the budgets are settled.
    /// Settlements that are not in the journal then are repeated at the next start, and count once.
    fn hear(&mut self, tells: bool) {
        let mut came = Vec::new();
        self.shared.queue.take_now(&mut came);
        self.take_in(came);
        for item in &mut self.backlog {
            let Item::Final(closed, _, then) = item else { continue };
            self.calls.closed(&closed.id());
            if tells {
                drop(then.take());
            }
        }
        if tells {
            (self.unmade, self.unsettled) = (None, Vec::new());
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

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            let mut file = &*self.file;
            file.seek(SeekFrom::Start(self.at))?;
            file.write_all(&self.lines)?;
            self.at += self.lines.len() as u64;
            self.shared.sync.written(self.unsynced(), Vec::new());
            self.lines.clear();
        }
        // Nobody waits for a line that was too long to be added.
        self.written(self.head);
        Ok(())
    }

    pub(super) fn unsynced(&self) -> Unsynced {
        Unsynced { file: self.file.clone(), path: self.path.clone(), len: self.at, is_suspect: false }
    }

    /// Continues in the next segment.
    fn roll(&mut self) -> io::Result<()> {
        let file = match self.unnamed.take() {
            Some(file) => file,
            None => self.shared.sync.take_next()?,
        };
        let first = self.head.seq.saturating_add(1);
        match segment::begin(&self.shared.dir, first) {
            Ok(path) => (self.path, self.file, self.at, self.has_rolled) = (path.into(), Arc::new(file), 0, true),
            Err(error) => {
                // If it is gone, another is made.
                self.unnamed = Some(file).filter(|_| error.kind() != io::ErrorKind::NotFound);
                return Err(error);
            }
        }
        self.carry.begins(first);
        Ok(())
    }

    /// A file that was removed or moved accepts writes, but the next start will not find them.
    pub(super) fn look_for_file(&self) {
        const WHY: &str = "the current file of the journal was removed or moved; restart the gateway";
        if is_removed(&self.file, &self.path) && self.shared.trouble(Trouble::Lost, Some(&WHY)) {
            let path = self.path.display();
            tracing::error!(%path, "the current file of the journal was removed or moved; calls are refused until a restart");
        }
    }
}
