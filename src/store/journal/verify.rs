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

/// How often, and after which pause, the end of a journal that is being written is read again.
const AGAIN: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// How many segments are held open while one is read.
const AHEAD: usize = 64;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The number of the first line that is there. If it is not 1, the journal has removed the lines before it after
    /// every sink had had them, and said so in a line of its own first. Any other missing beginning is a break.
    pub first: Option<u64>,
    /// The number and the hash of the last line. Keep it where nobody with access to the journal can change it.
    pub head: Option<Head>,
    /// The number of lines.
    pub lines: u64,
    /// The number of calls that have closed.
    pub finals: u64,
    /// Where a crash broke off a line that was never whole. The next process recorded it at the time.
    pub torn: Vec<String>,
    /// Where lines were gone that a sink had had: a power loss took them, or somebody cut off the end. The next process
    /// recorded it at the time.
    pub missing: Vec<String>,
    /// The number of the last line that an anchor confirms. A rewrite of any line up to it would be found out. Lines
    /// behind it are only proved by each other.
    pub proved_to: Option<u64>,
    /// The first place where a line is missing or was changed.
    pub broken: Option<Break>,
    /// The result for each anchor, in the order given. If none is confirmed, the whole journal may have been forged.
    pub anchors: Vec<Anchor>,
}

/// An earlier head, and what the lines say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Anchor {
    /// The head, as it was given.
    pub head: Head,
    /// The result for it.
    pub state: AnchorState,
}

/// The result for an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnchorState {
    /// The line is there, unchanged.
    Confirmed,
    /// The line is different, or is missing although it should be there. That includes an anchor behind the last line.
    Broken,
    /// The line was removed. The line behind it may still name its hash, but that proves nothing about the lines that
    /// are there: whoever knows the hash can write it too.
    OutOfReach,
}

/// Where the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Break {
    /// The file, and the place in it.
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
    /// These bytes are not a line.
    Unreadable,
    /// The next line has the wrong number.
    OutOfOrder,
    /// The next line does not name the hash of this one: one of the two was changed.
    Changed,
    /// The line is missing, or differs from when its hash was written down elsewhere.
    NotAsAnchored,
    /// The line is missing, or differs from when a sink had it.
    NotAsShipped,
    /// Lines before the first are missing, and the journal did not say that it would remove them.
    NotReleased,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match self.after {
            Some(after) => write!(f, "after line {after}: ")?,
            None => write!(f, "at the beginning: ")?,
        }
        f.write_str(match self.what {
            Fault::Unreadable => "there are bytes that are not a line",
            Fault::OutOfOrder => "the next line has the wrong number",
            Fault::Changed => "the next line does not match the hash of the line before it: one of them was changed",
            Fault::NotAsAnchored => "a line is missing, or does not match the anchor",
            Fault::NotReleased => "lines are missing, and the journal did not remove them",
            Fault::NotAsShipped => "a line is missing, or is not the one that a sink received",
        })
    }
}

/// Verifies the journal in this directory; it may be in use. Checks that its lines form an unbroken chain, and that the
/// lines of `anchors` (earlier heads) and the last lines that its sinks had are in it. Reads the whole journal.
///
/// Whoever can write to the directory can forge it from any line on. An anchor reveals that, as long as its line is
/// kept.
///
/// # Errors
/// When it cannot be read. Faults in its lines are in the report.
pub fn verify(dir: impl AsRef<Path>, anchors: &[Head]) -> io::Result<Report> {
    again(|| verify_once(dir.as_ref(), anchors))
}

/// Reads once more if a segment was removed between being listed and being read.
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
    // Before the lines, since sinks go on meanwhile.
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

/// Reads the last segment, some of whose lines may be half written at this moment.
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

/// Verifies lines that [`export`] has written.
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

/// Writes every line of the journal in this directory unchanged, and returns how many there are. It leaves out what is
/// not a line; [`verify_export`] finds the gap.
///
/// # Errors
/// When the journal cannot be read, `out` cannot be written, or segments are removed faster than they are read.
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

/// Passes every line of a journal, in its directory or exported to a file, to `each`. Skips what is not a line.
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
        // A segment that is gone by now would leave a gap behind what was passed on, so that is an error.
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

/// Opens the oldest segments, and lists those behind them. The oldest may be removed meanwhile, so they are held open
/// from the beginning. Not all are, since a process may be limited to some hundred files.
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
    /// The last lines that sinks had, as far as they have not been met.
    had: Vec<Head>,
    /// The lines before this one may be missing.
    released: u64,
    first: Option<u64>,
    head: Option<Head>,
    lines: u64,
    finals: u64,
    torn: Vec<String>,
    missing: Vec<String>,
    /// Bytes that are not a line; a write may have broken off there.
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
            // The process that went on behind it has seen it, and recorded it.
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
            self.missing.push(format!("{missing} lines before line {seq}"));
        }
        if let Some(Said::Released(Released { before })) = said {
            self.released = self.released.max(before);
        }
        let head = Head { seq, hash: LineHash::of(line) };
        // All that is known of a removed line is what the line behind it says.
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

    /// Compares what is known of a line with the anchors of its number and with what a sink had. Matching anchors get
    /// the state `is_so`.
    fn compare(&mut self, known: Head, is_so: AnchorState, place: &impl Fn() -> String) {
        // There is no line before the first: an anchor of that hash has anchored nothing.
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

    /// Only the first fault counts.
    fn fail(&mut self, place: String, what: Fault) {
        let after = self.head.map(|head| head.seq);
        self.broken.get_or_insert(Break { place, after, what });
    }

    fn report(mut self) -> Report {
        if let Some((loose, _)) = self.loose.take() {
            self.fail(loose, Fault::Unreadable);
        }
        // A removed line is no fault; a line that is not where it should be is. No line has the number 0.
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
        // A missing beginning comes before whatever is wrong behind a line that holds.
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
