//! Reading a journal while it is written, from some line on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::frame::{self, Found, Frames};
use super::line::{Link, Said, read};
use super::segment::{self, Segment};
use super::writer::LONGEST;
use crate::domain::audit::AuditRecord;

/// How much is read at once: several of the longest lines.
const CHUNK: usize = 4 * LONGEST;

/// A place in a journal, between two lines.
#[derive(Debug)]
pub(super) struct Tail {
    dir: PathBuf,
    /// The line before.
    seq: u64,
    /// Where the next is looked for.
    at: Option<(Segment, u64)>,
}

impl Tail {
    /// Behind the line of this number.
    pub(super) fn behind(dir: PathBuf, seq: u64) -> Self {
        Tail { dir, seq, at: None }
    }

    /// Which line was read last.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The next finals, as many as this at most, none behind the line `upto`, which is written. Less than as many says that
    /// there is none before it.
    pub(super) fn read(&mut self, upto: u64, most: usize) -> io::Result<Vec<AuditRecord>> {
        let mut records = Vec::new();
        while self.seq < upto && records.len() < most {
            let Some((segment, at)) = self.place()? else { break };
            let bytes = chunk(&segment, at)?;
            let is_last = bytes.len() < CHUNK;
            let mut frames = Frames::of(&bytes);
            let mut done = 0;
            while self.seq < upto && records.len() < most {
                let Some((start, found)) = frames.next() else { break };
                match found {
                    Found::Line(line) => {
                        self.take(line, &mut records);
                        done = start + frame::len(line);
                    }
                    // Perhaps whole in the next chunk.
                    Found::Unreadable(_) if !is_last && frames.at() == bytes.len() => break,
                    Found::Unreadable(len) => {
                        tracing::error!(path = %segment.path.display(), at = at + start as u64, len, "lines of the journal cannot be read, and no sink is told of them");
                        done = start + len;
                    }
                }
            }
            // What is longer than any line may be is none.
            if done == 0 && !is_last {
                done = CHUNK - LONGEST;
            }
            let is_over = done == 0 && self.seq < upto;
            self.at = if is_over { self.next(&segment)? } else { Some((segment, at + done as u64)) };
            if is_over && self.at.is_none() {
                // Its last lines cannot be read.
                self.seq = upto;
            }
        }
        Ok(records)
    }

    fn take(&mut self, line: &[u8], records: &mut Vec<AuditRecord>) {
        let Ok(Link { seq, .. }) = serde_json::from_slice(line) else { return };
        if seq <= self.seq {
            return;
        }
        self.seq = seq;
        match read(line).map(|line| line.said) {
            Some(Said::Final(closed)) => records.push(closed.record),
            Some(_) => {}
            None => {
                tracing::error!(
                    seq,
                    "a line of the journal is none that this version knows, and no sink is told of it"
                );
            }
        }
    }

    fn place(&mut self) -> io::Result<Option<(Segment, u64)>> {
        if self.at.is_none() {
            let mut segments = segment::list(&self.dir)?;
            let holds = segments.iter().rposition(|segment| segment.first <= self.seq + 1).unwrap_or(0);
            self.at = (holds < segments.len()).then(|| (segments.swap_remove(holds), 0));
        }
        Ok(self.at.clone())
    }

    fn next(&self, segment: &Segment) -> io::Result<Option<(Segment, u64)>> {
        let segments = segment::list(&self.dir)?;
        Ok(segments.into_iter().find(|next| next.first > segment.first).map(|next| (next, 0)))
    }
}

fn chunk(segment: &Segment, at: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
