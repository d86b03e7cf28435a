//! Splits event streams into events, however they were cut, and writes them.
//!
//! Use [`Scanner`] to look into a stream while it passes. It emits each event once its last byte is there, with the
//! exact bytes in which it came, so that an unchanged event can be passed on as it came. Use [`encode`] to write events
//! of your own. The grammar is that of the WHATWG HTML standard, section 9.2.6, applied to bytes: no value is decoded,
//! so a character that a chunk cuts in two is whole again in its event.
//!
//! ```
//! use tollgate::wire::sse::Scanner;
//!
//! let mut events = Vec::new();
//! let mut scanner = Scanner::new();
//! for chunk in [&b": ping\n\nevent: delta\r\nda"[..], b"ta: {\"n\":1}\r\n\r\n", b"data: [DONE]\n\n"] {
//!     scanner.push(chunk, |block| {
//!         if let Some(data) = block.data() {
//!             events.push((block.event().map(<[u8]>::to_vec), data.to_vec(), block.is_done()));
//!         }
//!     })?;
//! }
//! assert_eq!(events[0], (Some(b"delta".to_vec()), b"{\"n\":1}".to_vec(), false));
//! assert_eq!(events[1], (None, b"[DONE]".to_vec(), true));
//! assert_eq!(scanner.finish(|_| {}), Ok(()));
//! # Ok::<(), tollgate::wire::sse::EventTooLarge>(())
//! ```

mod line;

use std::fmt;

use bytes::{BufMut, BytesMut};
use line::{Open, find_line};

use super::json;

/// The most bytes of one event, field names and line ends included, unless [`Scanner::with_limit`] sets another limit.
///
/// 16 MiB: images travel as base64 in a single event.
pub const MAX_EVENT: usize = 16 << 20;

/// A keep-alive.
pub(crate) const COMMENT: &str = ": ping\n\n";

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One block of an event stream: an event, or bytes between events (a comment line on its own, stray blank lines).
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    raw: &'a [u8],
    event: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
}

impl<'a> Block<'a> {
    /// The bytes of this block exactly as they were received. All blocks together, followed by [`Scanner::pending`],
    /// are the stream.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The value of the last `event` field; `None` if there is none.
    #[must_use]
    pub fn event(&self) -> Option<&'a [u8]> {
        self.event
    }

    /// The values of the `data` fields, joined with `\n`; `None` if there is none, in which case a client sees no
    /// event.
    ///
    /// A lone `data:` is an event with empty data, `Some(b"")`: the standard drops an event whose data buffer is the empty
    /// string, but each `data` field puts a line feed into that buffer.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.data
    }

    /// Whether the data is `[DONE]`, the end mark of OpenAI's streams, which is not JSON.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data.is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }
}

/// Splits a stream into blocks as its chunks arrive.
///
/// Blocks that lie within a chunk are passed in place; only one that a chunk leaves incomplete is copied. No byte is
/// searched twice, whatever the chunks. A line ends with LF, CRLF or CR, and an event is complete at its blank line. A
/// CR ends its line at once: if the LF of a CRLF comes in a later chunk, after an event, it is a block of its own.
pub struct Scanner {
    limit: usize,
    /// The incomplete block, and what is known of it.
    buffer: Vec<u8>,
    open: Open,
    /// The data of an event that has several `data` lines.
    joined: Vec<u8>,
    /// Whether a byte order mark can no longer come.
    started: bool,
    /// The last chunk ended with CR: an LF now belongs to it.
    after_cr: bool,
    failed: bool,
}

impl Scanner {
    /// A scanner at the start of a stream, for events of up to [`MAX_EVENT`] bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(MAX_EVENT)
    }

    /// A scanner for events of up to `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            buffer: Vec::new(),
            open: Open::default(),
            joined: Vec::new(),
            started: false,
            after_cr: false,
            failed: false,
        }
    }

    /// Takes the next bytes of the stream, and passes each block that they complete to `each`, in order.
    ///
    /// # Errors
    ///
    /// [`EventTooLarge`] once a block has more bytes than the limit, after the blocks before it, and from then on
    /// always.
    pub fn push<F: FnMut(Block<'_>)>(&mut self, chunk: &[u8], mut each: F) -> Result<(), EventTooLarge> {
        if self.failed {
            return Err(EventTooLarge { limit: self.limit });
        }
        let rest = self.swallow_lf(chunk, &mut each);
        if let Some(last) = chunk.last() {
            self.after_cr = *last == b'\r';
        }
        let rest = self.skip_bom(rest);
        let done = self.resume(rest, &mut each).and_then(|rest| self.whole_blocks(rest, &mut each));
        self.failed = done.is_err();
        done
    }

    /// Ends the stream. Nothing may be pushed afterwards.
    ///
    /// The standard drops an event whose blank line is missing. Some providers forget that line, and the official SDKs
    /// tolerate it. So an event whose data is `[DONE]` or a complete JSON object is passed to `each` all the same.
    /// Every event of these APIs is an object; other values may be cut short unnoticed, for example a number.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] when other bytes are left over, or when the scanner had failed; [`Scanner::pending`] has them.
    pub fn finish<F: FnMut(Block<'_>)>(&mut self, mut each: F) -> Result<(), Unfinished> {
        if self.buffer.is_empty() && !self.failed {
            return Ok(());
        }
        let end = self.buffer.len();
        if self.started && self.open.line < end {
            self.open.end_line(&self.buffer, end, end, &mut self.joined);
        }
        let block = self.open.block(&self.buffer, &self.joined);
        let complete = |data| json::index(data, &[], json::Limits::default()).is_ok();
        if self.failed || !(block.is_done() || block.data.is_some_and(complete)) {
            return Err(Unfinished { bytes: end });
        }
        each(block);
        self.close();
        Ok(())
    }

    /// The bytes received that are in no block yet.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    fn swallow_lf<'c>(&mut self, chunk: &'c [u8], each: &mut impl FnMut(Block<'_>)) -> &'c [u8] {
        let Some((first, rest)) = chunk.split_first() else {
            return chunk;
        };
        if !std::mem::take(&mut self.after_cr) || *first != b'\n' {
            return chunk;
        }
        if self.buffer.is_empty() {
            each(Open::default().block(b"\n", &[]));
        } else {
            self.buffer.push(b'\n');
            self.open.line = self.buffer.len();
        }
        rest
    }

    /// At the start of the stream: moves a byte order mark, or as much of it as has come, into the first block.
    fn skip_bom<'c>(&mut self, mut chunk: &'c [u8]) -> &'c [u8] {
        while !self.started
            && let Some((first, rest)) = chunk.split_first()
        {
            if *first != BOM[self.buffer.len()] {
                self.started = true;
                break;
            }
            self.buffer.push(*first);
            if self.buffer == BOM {
                self.open.line = BOM.len();
                self.started = true;
            }
            chunk = rest;
        }
        chunk
    }

    /// Completes the block that earlier chunks began, line by line. What it leaves of `chunk` begins with a block.
    fn resume<'c>(&mut self, mut chunk: &'c [u8], each: &mut impl FnMut(Block<'_>)) -> Result<&'c [u8], EventTooLarge> {
        while !self.buffer.is_empty() && !chunk.is_empty() {
            let line = find_line(chunk, 0);
            let (taken, rest) = chunk.split_at(line.as_ref().map_or(chunk.len(), |line| line.next));
            let before = self.buffer.len();
            self.check(before + taken.len())?;
            self.buffer.extend_from_slice(taken);
            chunk = rest;
            if let Some(line) = line
                && self.open.end_line(&self.buffer, before + line.end, before + line.next, &mut self.joined)
            {
                each(self.open.block(&self.buffer, &self.joined));
                self.close();
            }
        }
        Ok(chunk)
    }

    /// Passes on the blocks that lie within `chunk`, which begins with one, and keeps the rest.
    fn whole_blocks(&mut self, mut chunk: &[u8], each: &mut impl FnMut(Block<'_>)) -> Result<(), EventTooLarge> {
        if chunk.is_empty() {
            return Ok(());
        }
        let mut open = Open::default();
        while let Some(line) = find_line(chunk, open.line) {
            if open.end_line(chunk, line.end, line.next, &mut self.joined) {
                let (block, rest) = chunk.split_at(line.next);
                self.check(block.len())?;
                each(open.block(block, &self.joined));
                open = Open::default();
                chunk = rest;
            }
        }
        self.check(chunk.len())?;
        self.buffer.extend_from_slice(chunk);
        self.open = open;
        Ok(())
    }

    fn check(&self, len: usize) -> Result<(), EventTooLarge> {
        if len > self.limit { Err(EventTooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn close(&mut self) {
        self.buffer.clear();
        self.open = Open::default();
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scanner {
    /// Without the bytes, which may be private text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("limit", &self.limit)
            .field("pending", &self.buffer.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// An event has more bytes than the scanner's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event is larger than {} bytes", self.limit)
    }
}

impl std::error::Error for EventTooLarge {}

/// The stream ended within an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// How many bytes are left over.
    pub bytes: usize,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream ended {} bytes into an event", self.bytes)
    }
}

impl std::error::Error for Unfinished {}

/// Appends an event to `out`: an `event` line if there is a name, a `data` line for each line of `data`, a blank line.
///
/// Nothing in `event` or `data` can end the event or forge a field: the name ends at its first line end, and CR and
/// CRLF in the data, which JSON has only as whitespace, become LF. Empty data appends nothing, because the official
/// OpenAI SDKs read the data of every event as JSON.
pub fn encode(out: &mut BytesMut, event: Option<&str>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let name = event.and_then(|event| event.split(['\r', '\n']).next()).unwrap_or_default();
    out.reserve("event: \ndata: \n\n".len() + name.len() + data.len());
    if !name.is_empty() {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_u8(b'\n');
    }
    let mut start = 0;
    loop {
        let line = find_line(data, start);
        out.put_slice(b"data: ");
        out.put_slice(&data[start..line.as_ref().map_or(data.len(), |line| line.end)]);
        out.put_u8(b'\n');
        match line {
            Some(line) => start = line.next,
            None => break,
        }
    }
    out.put_u8(b'\n');
}
