//! Proof that nothing is missing and nothing was changed.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::chain::{Head, LineHash};
use super::frame::{Found, Frames};
use super::line::{Link, Opened, Released, Said, read};
use super::position;
use super::segment::{self, Segment};

/// How often the end of a journal that is being written is read again, and after which pause.
const AGAIN: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// How many segments are held open while one is read.
const AHEAD: usize = 64;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The number of the first line that is there. Where that is not 1, the journal has removed what came before, when every sink
    /// had had it: it says so in a line of its own before it does, and a beginning that is missing otherwise is a break.
    pub first: Option<u64>,
    /// The number and the hash of the last, to be kept where nobody here can change it.
    pub head: Option<Head>,
    /// How many there are.
    pub lines: u64,
    /// How many calls have closed.
    pub finals: u64,
    /// Where a crash broke a line off, that never was whole: the process that went on has written so at the time.
    pub torn: Vec<String>,
    /// Where lines were gone that a sink had had: a power loss took them, or somebody who cut off the end. The process that went on
    /// has written so at the time.
    pub missing: Vec<String>,
    /// The number of the last line that an anchor is of: whoever wrote any line up to it anew would be found out. What is behind
    /// it rests on itself alone.
    pub proved_to: Option<u64>,
    /// The first place where a line is missing, or is not what it was.
    pub broken: Option<Break>,
    /// What has come of each anchor, as they were given. Where none is confirmed, all of it may have been made anew.
    pub anchors: Vec<Anchor>,
}

/// A head of earlier, and what the lines say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Anchor {
    /// As it was given.
    pub head: Head,
    /// What has come of it.
    pub state: AnchorState,
}

/// What has come of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnchorState {
    /// The line is there as it was.
    Confirmed,
    /// The line is another, or is not there though it should be: one behind the last line is missing as well.
    Broken,
    /// The line was removed. That the one behind it still names its hash proves nothing of what is there: whoever knows it can
    /// write that too.
    OutOfReach,
}

/// Where the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Break {
    /// Which file, and where in it.
    pub place: String,
    /// The number of the last line that holds.
    pub after: Option<u64>,
    /// What is wrong behind it.
    pub what: Fault,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// These bytes are no line.
    Unreadable,
    /// The next line has another number.
    OutOfOrder,
    /// The next line does not name the hash of this one: one of the two was changed.
    Changed,
    /// The line was another when its hash was written down elsewhere, or is not there.
    NotAsAnchored,
    /// The line was another when a sink had it, or is not there.
    NotAsShipped,
    /// Lines before the first are missing that the journal did not say would go.
    NotReleased,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match self.after {
            Some(after) => write!(f, "behind line {after} ")?,
            None => write!(f, "at the beginning ")?,
        }
        f.write_str(match self.what {
            Fault::Unreadable => "there is something that is no line",
            Fault::OutOfOrder => "comes one that is not the next",
            Fault::Changed => "comes one that was written behind another: one of the two was changed",
            Fault::NotAsAnchored => "a line is missing, or not what it was when its hash was written down elsewhere",
            Fault::NotReleased => "lines are missing that the journal has not removed",
            Fault::NotAsShipped => "a line is missing, or not what it was when a sink had it",
        })
    }
}

/// Proves the journal in this directory, while it is written or not: its lines, that those of `anchors`, which are heads
/// of earlier, are in it, and those that its sinks had last. Reads all of it. Who can write there can make it anew from any line
/// on, which an anchor tells, as long as its line is kept.
///
/// # Errors
/// When it cannot be read; what is wrong with its lines is in the report.
pub fn verify(dir: impl AsRef<Path>, anchors: &[Head]) -> io::Result<Report> {
    again(|| verify_once(dir.as_ref(), anchors))
}

/// Once more, where a segment was removed between being listed and being read.
fn again<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut left = AGAIN;
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => left -= 1,
            done => return done,
        }
    }
}

fn verify_once(dir: &Path, anchors: &[Head]) -> io::Result<Report> {
    let mut chain = Chain::new(anchors);
    // Before the lines: sinks go on meanwhile.
    chain.had = position::all(dir)?.into_iter().map(|(_, had)| had).collect();
    let segments = segment::list(dir)?;
    for (at, segment) in segments.iter().enumerate() {
        let place = |at: usize| format!("{} at {at}", segment.path.display());
        let bytes = match at + 1 == segments.len() {
            true => settled(&segment.path)?,
            false => fs::read(&segment.path)?,
        };
        for (at, found) in Frames::of(&bytes) {
            match found {
                Found::Line(line) => chain.line(line, || place(at)),
                Found::Unreadable(len) => chain.unreadable(place(at), len),
            }
        }
    }
    Ok(chain.report())
}

/// The last segment, some of whose lines may be half written at this moment.
fn settled(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    for _ in 0..AGAIN {
        if !Frames::of(&bytes).any(|(_, found)| matches!(found, Found::Unreadable(_))) {
            break;
        }
        std::thread::sleep(PAUSE);
        bytes = fs::read(path)?;
    }
    Ok(bytes)
}

/// Proves lines that [`export`] has written.
///
/// # Errors
/// When they cannot be read.
pub fn verify_export(mut lines: impl BufRead, anchors: &[Head]) -> io::Result<Report> {
    let (mut chain, mut line, mut number) = (Chain::new(anchors), Vec::new(), 0_u64);
    while lines.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let place = || format!("line {number} of the export");
        match line.strip_suffix(b"\n") {
            Some(line) => chain.line(line, place),
            None => chain.unreadable(place(), line.len()),
        }
        line.clear();
    }
    Ok(chain.report())
}

/// Writes every line of the journal in this directory, as it is there, and gives their number. What is no line is left out,
/// which [`verify_export`] finds.
///
/// # Errors
/// When it cannot be read, or written, or removes segments faster than they are read.
pub fn export(dir: impl AsRef<Path>, mut out: impl Write) -> io::Result<u64> {
    let mut lines = 0;
    each_line_in(dir.as_ref(), |line| {
        lines += 1;
        out.write_all(line)?;
        out.write_all(b"\n")
    })?;
    out.flush()?;
    Ok(lines)
}

/// Hands every line of a journal, in its directory or exported to a file, to `each`; passes over what is none.
pub(super) fn each_line(path: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    if path.is_dir() {
        return each_line_in(path, each);
    }
    let (mut lines, mut line) = (BufReader::new(File::open(path)?), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        each(line.strip_suffix(b"\n").unwrap_or(&line))?;
        line.clear();
    }
    Ok(())
}

fn each_line_in(dir: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut open, later) = first_open(dir)?;
    let (mut bytes, mut later) = (Vec::new(), later.into_iter());
    while let Some(mut file) = open.pop_front() {
        // One that is gone by now leaves a gap behind what was handed on: that is an error.
        open.extend(later.next().map(|segment| File::open(&segment.path)).transpose()?);
        bytes.clear();
        file.read_to_end(&mut bytes)?;
        for (_, found) in Frames::of(&bytes) {
            if let Found::Line(line) = found {
                each(line)?;
            }
        }
    }
    Ok(())
}

/// The oldest segments, and those behind them. Some of the oldest may be removed meanwhile, so that these are held open from
/// the beginning; not all, since a process may have no more than some hundred files.
fn first_open(dir: &Path) -> io::Result<(VecDeque<File>, Vec<Segment>)> {
    again(|| {
        let mut segments = segment::list(dir)?;
        let later = segments.split_off(segments.len().min(AHEAD));
        let open = segments.iter().map(|segment| File::open(&segment.path)).collect::<io::Result<_>>()?;
        Ok((open, later))
    })
}

/// A chain, as far as it was followed.
struct Chain {
    anchors: Vec<Anchor>,
    /// What its sinks had last, as far as it has not been met.
    had: Vec<Head>,
    /// What stands before this line may be missing.
    released: u64,
    first: Option<u64>,
    head: Option<Head>,
    lines: u64,
    finals: u64,
    torn: Vec<String>,
    missing: Vec<String>,
    /// Something that is no line, which may have broken off there.
    loose: Option<(String, u64)>,
    broken: Option<Break>,
}

impl Chain {
    fn new(anchors: &[Head]) -> Self {
        let unseen = |&head: &Head| Anchor { head, state: AnchorState::OutOfReach };
        Chain {
            anchors: anchors.iter().map(unseen).collect(),
            had: Vec::new(),
            released: 1,
            first: None,
            head: None,
            lines: 0,
            finals: 0,
            torn: Vec::new(),
            missing: Vec::new(),
            loose: None,
            broken: None,
        }
    }

    fn line(&mut self, line: &[u8], place: impl Fn() -> String) {
        let Ok(Link { seq, prev }) = serde_json::from_slice(line) else { return self.unreadable(place(), line.len()) };
        let said = read(line).map(|line| line.said);
        match self.loose.take() {
            // Whoever went on behind it has seen it, and said so.
            Some((loose, len)) if matches!(said, Some(Said::Opened(Opened { torn, .. })) if torn == len) => {
                self.torn.push(format!("{loose}, {len} bytes"));
            }
            Some((loose, _)) => self.fail(loose, Fault::Unreadable),
            None => {}
        }
        match self.head {
            Some(head) if head.seq.checked_add(1) != Some(seq) => self.fail(place(), Fault::OutOfOrder),
            Some(head) if head.hash != prev => self.fail(place(), Fault::Changed),
            None if seq == 1 && prev != LineHash::NONE => self.fail(place(), Fault::Changed),
            _ => {}
        }
        if let Some(Said::Opened(Opened { missing: missing @ 1.., .. })) = said {
            self.missing.push(format!("{missing} lines in front of line {seq}"));
        }
        if let Some(Said::Released(Released { before })) = said {
            self.released = self.released.max(before);
        }
        let head = Head { seq, hash: LineHash::of(line) };
        // All that is known of a line that was removed is what the one behind it says.
        let before = seq.checked_sub(1).filter(|_| self.first.is_none());
        if let Some(before) = before.map(|before| Head { seq: before, hash: prev }) {
            self.compare(before, AnchorState::OutOfReach, &place);
        }
        self.compare(head, AnchorState::Confirmed, &place);
        self.first.get_or_insert(seq);
        self.head = Some(head);
        self.lines += 1;
        self.finals += u64::from(matches!(said, Some(Said::Final(_))));
    }

    /// Holds what is known of a line against the anchors of its number, and against what a sink had; those that it is of are so.
    fn compare(&mut self, known: Head, is_so: AnchorState, place: &impl Fn() -> String) {
        // Before the first line of all there is none: who names its hash has anchored nothing.
        let (mut all_fit, is_any) = (true, known.seq > 0);
        for anchor in self.anchors.iter_mut().filter(|anchor| anchor.head.seq == known.seq && is_any) {
            match anchor.head == known && anchor.state != AnchorState::Broken {
                true => anchor.state = is_so,
                false => (anchor.state, all_fit) = (AnchorState::Broken, false),
            }
        }
        if !all_fit {
            self.fail(place(), Fault::NotAsAnchored);
        }
        if is_any && self.had.iter().any(|had| had.seq == known.seq && *had != known) {
            self.fail(place(), Fault::NotAsShipped);
        }
        self.had.retain(|had| had.seq != known.seq);
    }

    fn unreadable(&mut self, place: String, len: usize) {
        match &self.loose {
            Some((loose, _)) => self.fail(loose.clone(), Fault::Unreadable),
            None => self.loose = Some((place, len as u64)),
        }
    }

    /// Only the first counts.
    fn fail(&mut self, place: String, what: Fault) {
        let after = self.head.map(|head| head.seq);
        self.broken.get_or_insert(Break { place, after, what });
    }

    fn report(mut self) -> Report {
        if let Some((loose, _)) = self.loose.take() {
            self.fail(loose, Fault::Unreadable);
        }
        // What was removed since cannot be held against it; what is not where it should be can. No line has the number 0.
        let first = self.first.unwrap_or(0).max(1);
        let mut is_missing = false;
        for anchor in &mut self.anchors {
            if anchor.state == AnchorState::OutOfReach && anchor.head.seq >= first {
                anchor.state = AnchorState::Broken;
                is_missing = true;
            }
        }
        if is_missing {
            self.fail("the end".to_owned(), Fault::NotAsAnchored);
        }
        // It comes before whatever is wrong behind a line that holds.
        if first > self.released && self.broken.as_ref().is_none_or(|broken| broken.after.is_some()) {
            self.broken = Some(Break { place: "the beginning".to_owned(), after: None, what: Fault::NotReleased });
        }
        if self.had.iter().any(|had| had.seq >= first) {
            self.fail("the end".to_owned(), Fault::NotAsShipped);
        }
        let is_confirmed = |anchor: &&Anchor| anchor.state == AnchorState::Confirmed;
        let proved_to = self.anchors.iter().filter(is_confirmed).map(|anchor| anchor.head.seq).max();
        let Chain { first, head, lines, finals, torn, missing, broken, anchors, .. } = self;
        Report { first, head, lines, finals, torn, missing, proved_to, broken, anchors }
    }
}
