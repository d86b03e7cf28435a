//! Reads a journal while it is written, from a given line on.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::chain::{Head, LineHash};
use super::frame::{self, Found, Frames};
use super::line::{Final, Link, Said, look, read};
use super::segment::{self, Segment};
use super::writer::LONGEST;
use crate::domain::audit::AuditRecord;
use crate::domain::event::Event;

/// How much is read at once: hundreds of typical lines, or one of the longest.
const USUAL: usize = LONGEST;
/// How much is read if there is no line in that: zeros, or unreadable bytes.
const CHUNK: usize = 4 * LONGEST;

/// What sinks receive.
#[derive(Debug)]
pub(super) enum Told {
    Record(Box<AuditRecord>),
    /// With the number of its line.
    Event(u64, Box<Event>),
}

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    /// The line is before the journal's first, which is this one.
    Before(u64),
    /// The line is not one of this journal.
    Elsewhere,
}

/// A position in a journal, between two lines.
#[derive(Debug)]
pub(super) struct Tail {
    dir: PathBuf,
    /// The line before, and its hash if it was read.
    seq: u64,
    is_read: bool,
    hash: LineHash,
    /// Where the next line is looked for.
    at: Option<(Segment, u64)>,
    /// How much is read at once.
    len: usize,
    /// The read buffer, kept for the next read.
    bytes: Vec<u8>,
}

impl Tail {
    /// A position behind the line with this number.
    pub(super) fn behind(dir: PathBuf, seq: u64) -> Self {
        Tail { dir, seq, is_read: false, hash: LineHash::NONE, at: None, len: USUAL, bytes: Vec::new() }
    }

    /// The number of the line that was read last.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The same, with its hash.
    pub(super) fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// Where this line is in the journal.
    pub(super) fn find(dir: &Path, head: Head) -> io::Result<Place> {
        let segments = segment::list(dir)?;
        let Some(segment) = segments.iter().rfind(|segment| segment.first <= head.seq) else {
            let first = segments.first().map(|segment| segment.first).filter(|first| *first > 1);
            return Ok(first.map_or(Place::Elsewhere, Place::Before));
        };
        let bytes = fs::read(&segment.path)?;
        let is_it = |found| match found {
            Found::Line(line) => {
                LineHash::of(line) == head.hash
                    && serde_json::from_slice::<Link>(line).is_ok_and(|link| link.seq == head.seq)
            }
            Found::Unreadable(_) => false,
        };
        let is_here = Frames::of(&bytes).any(|(_, found)| is_it(found));
        Ok(if is_here { Place::Here } else { Place::Elsewhere })
    }

    /// The next items for sinks: at most `most`, and none behind the line `upto`, which is written. If there are fewer,
    /// there are no more before that line, or what follows cannot be read now.
    pub(super) fn read(&mut self, upto: u64, most: usize) -> io::Result<Vec<Told>> {
        let mut records = Vec::new();
        while self.seq < upto && records.len() < most {
            match self.step(upto, most, &mut records) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // The segment may have been removed because all sinks had had it; the next line is found by its
                    // number.
                    self.at = None;
                    // The position is past what was read, so that must not be lost.
                    return if records.is_empty() { Err(error) } else { Ok(records) };
                }
            }
        }
        Ok(records)
    }

    /// Reads one chunk. Returns `false` if there is no more.
    fn step(&mut self, upto: u64, most: usize, records: &mut Vec<Told>) -> io::Result<bool> {
        let Some((segment, at)) = self.place()? else { return Ok(false) };
        let mut bytes = std::mem::take(&mut self.bytes);
        chunk(&segment, at, self.len, &mut bytes)?;
        let is_last = bytes.len() < self.len;
        let mut frames = if is_last { Frames::of(&bytes) } else { Frames::of_part(&bytes) };
        let (mut done, mut last) = (0, None);
        while self.seq < upto && records.len() < most {
            let Some((start, found)) = frames.next() else { break };
            match found {
                Found::Line(line) => {
                    last = if self.take(line, records) { Some(line) } else { last };
                    done = start + frame::len(line);
                }
                // It may be whole in the next chunk.
                Found::Unreadable(_) if !is_last && frames.at() == bytes.len() => break,
                Found::Unreadable(len) => {
                    let at = at + start as u64;
                    tracing::error!(path = %segment.path.display(), at, len, "lines of the journal cannot be read; they are not sent to sinks");
                    done = start + len;
                }
            }
        }
        // The last line that was read identifies the position.
        self.hash = last.map_or(self.hash, LineHash::of);
        self.bytes = bytes;
        if done == 0 && !is_last && self.len < CHUNK {
            self.len = CHUNK;
            return Ok(true);
        }
        // Anything longer than the longest line is not a line.
        if done == 0 && !is_last {
            done = CHUNK - LONGEST;
        }
        self.len = USUAL;
        self.bytes.clear();
        self.bytes.shrink_to(USUAL);
        let is_over = done == 0 && self.seq < upto;
        self.at = if is_over { self.next(&segment)? } else { Some((segment, at + done as u64)) };
        if is_over && self.at.is_none() {
            // Its last lines cannot be read.
            (self.seq, self.is_read, self.hash) = (upto, false, LineHash::NONE);
        }
        Ok(true)
    }

    /// Returns `false` for a line that was read before, or is not a line.
    fn take(&mut self, line: &[u8], records: &mut Vec<Told>) -> bool {
        let seen = look(line);
        let link = || serde_json::from_slice(line).ok().map(|Link { seq, .. }| seq);
        let Some(seq) = seen.map(|(seq, ..)| seq).or_else(link).filter(|seq| *seq > self.seq) else { return false };
        if self.is_read && self.seq.checked_add(1) != Some(seq) {
            tracing::error!(after = self.seq, seq, "lines of the journal are missing; they are not sent to sinks");
        }
        (self.seq, self.is_read) = (seq, true);
        match seen {
            // Most of the lines, of which a sink gets none.
            Some((_, "opened" | "intent" | "seen" | "settled" | "content" | "content_deleted", _)) => return true,
            Some((_, "final", said)) => {
                if let Ok(Final { record, .. }) = serde_json::from_slice(said) {
                    records.push(Told::Record(Box::new(record)));
                    return true;
                }
            }
            _ => {}
        }
        match read(line).map(|line| line.said) {
            Some(Said::Final(closed)) => records.push(Told::Record(Box::new(closed.record))),
            Some(Said::Event(event)) => records.push(Told::Event(seq, event)),
            Some(_) => {}
            None => {
                tracing::error!(seq, "this version does not know this kind of journal line; it is not sent to sinks");
            }
        }
        true
    }

    fn place(&mut self) -> io::Result<Option<(Segment, u64)>> {
        if self.at.is_none() {
            let mut segments = segment::list(&self.dir)?;
            let holds = segments.iter().rposition(|segment| segment.first <= self.seq.saturating_add(1)).unwrap_or(0);
            self.at = (holds < segments.len()).then(|| (segments.swap_remove(holds), 0));
        }
        Ok(self.at.clone())
    }

    fn next(&self, segment: &Segment) -> io::Result<Option<(Segment, u64)>> {
        let segments = segment::list(&self.dir)?;
        Ok(segments.into_iter().find(|next| next.first > segment.first).map(|next| (next, 0)))
    }
}

fn chunk(segment: &Segment, at: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(at))?;
    bytes.clear();
    file.take(len as u64).read_to_end(bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::line::{Final, put};
    use super::*;

    fn line(out: &mut Vec<u8>, head: Head, pad: usize) -> Head {
        let record = serde_json::json!({
            "schema": 1, "id": uuid::Uuid::from_u128(head.seq.into()), "opened_at": "2026-11-28T09:00:00Z",
            "dialect": "anthropic", "operation": "generate", "end": "complete", "took_us": 1, "bytes_out": 1,
            "reason": "x".repeat(pad),
        });
        let record = serde_json::from_value(record).expect("a record");
        put(out, head, &Said::Final(Box::new(Final { record, paid: None }))).expect("a line")
    }

    /// What a tail of these bytes tells, by the numbers of the lines before.
    fn told(dir: &str, bytes: &[u8], upto: u64) -> Vec<u128> {
        let name = format!("{dir}-{}", std::process::id());
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("00000000000000000001.seg"), bytes).expect("writable");
        let (mut tail, mut seen) = (Tail::behind(dir.clone(), 0), Vec::new());
        while tail.seq() < upto {
            seen.extend(tail.read(upto, 100).expect("readable").into_iter().map(|told| match told {
                Told::Record(record) => record.id.as_u128(),
                Told::Event(_, event) => panic!("{event}"),
            }));
        }
        assert!(tail.bytes.capacity() <= USUAL * 2, "{} bytes are kept", tail.bytes.capacity());
        fs::remove_dir_all(&dir).expect("ours");
        seen
    }

    #[test]
    fn the_highest_number_of_all_is_read_proved_and_refused_without_a_panic() {
        let name = format!("tail-last-{}", std::process::id());
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let mut bytes = Vec::new();
        let before = Head { seq: u64::MAX - 1, ..FIRST };
        let head = line(&mut bytes, before, 10);
        line(&mut bytes, before, 10);
        assert_eq!(head.seq, u64::MAX);
        fs::write(dir.join(format!("{}.seg", u64::MAX)), bytes).expect("writable");
        let mut tail = Tail::behind(dir.clone(), u64::MAX - 1);
        assert_eq!(tail.read(u64::MAX, 100).expect("readable").len(), 1);
        assert!(Tail::behind(dir.clone(), u64::MAX).place().is_ok_and(|place| place.is_some()));
        let broken = super::super::verify(&dir, &[]).expect("readable").broken.expect("two of them, and none before");
        assert_eq!((broken.after, broken.what), (None, super::super::Fault::NotReleased), "nobody has said so");
        let error = super::super::Journal::at(&dir).open().expect_err("there is no room behind it");
        assert!(error.to_string().contains("highest possible"), "{error}");
        fs::remove_dir_all(&dir).expect("ours");
    }

    const FIRST: Head = Head { seq: 0, hash: LineHash::NONE };

    #[test]
    fn wherever_a_chunk_ends_no_final_is_passed_over() {
        const PAD: usize = 40_000;
        let mut some = Vec::new();
        (0..5).fold(FIRST, |head, _| line(&mut some, head, PAD));
        for before in 0..24 {
            // The sixth begins `before` bytes before the end of the first chunk.
            let mut bytes = Vec::new();
            let head = line(&mut bytes, FIRST, PAD + (USUAL - some.len()) - before);
            let head = (1..5).fold(head, |head, _| line(&mut bytes, head, PAD));
            assert_eq!(bytes.len(), USUAL - before);
            (5..12).fold(head, |head, _| line(&mut bytes, head, PAD));
            bytes.resize(bytes.len() + 100_000, 0);
            assert_eq!(told("tail", &bytes, 12), (0..12).collect::<Vec<_>>(), "{before} bytes before");
        }
    }

    #[test]
    fn what_cannot_be_read_is_passed_however_long_it_is() {
        for (unreadable, byte) in [
            (USUAL + 7, 0),
            (USUAL, 1),
            (CHUNK - LONGEST, 0),
            // The line behind it begins in the chunk, and ends in the next.
            (CHUNK - 100_000, 0),
            (CHUNK - 100_000, 1),
            (CHUNK + 7, 0),
            (3 * CHUNK, 1),
        ] {
            let mut bytes = Vec::new();
            let head = line(&mut bytes, FIRST, 10);
            bytes.resize(bytes.len() + unreadable, byte);
            let head = line(&mut bytes, head, 200_000);
            line(&mut bytes, head, 10);
            assert_eq!(told("tail-gap", &bytes, 3), [0, 1, 2], "{unreadable} bytes of {byte}");
        }
    }
}
