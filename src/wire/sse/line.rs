//! Lines and fields, and what they amount to at the blank line.

use std::ops::Range;

use memchr::memchr2;

use super::Block;

/// What is known of an incomplete block; offsets count from its first byte.
#[derive(Clone, Default)]
pub(super) struct Open {
    /// Where the incomplete line begins.
    pub(super) line: usize,
    /// Whether there was a line other than a comment.
    fields: bool,
    event: Option<Range<usize>>,
    data: Option<Range<usize>>,
    /// Whether the data has several lines; then it is in the scanner's `joined`.
    several: bool,
}

impl Open {
    /// Takes the line up to `end`, after which the next begins at `next`. Returns whether that completes the block.
    #[inline]
    pub(super) fn end_line(&mut self, block: &[u8], end: usize, next: usize, joined: &mut Vec<u8>) -> bool {
        let line = &block[self.line..end];
        self.line = next;
        match line {
            [] => return true,
            // A keep-alive must reach the client now, not with the next event.
            [b':', ..] => return !self.fields,
            _ => self.fields = true,
        }
        if let Some(value) = field(line, b"data") {
            let value = end - value.len()..end;
            match &self.data {
                None => self.data = Some(value),
                Some(first) => {
                    if !self.several {
                        self.several = true;
                        joined.clear();
                        joined.extend_from_slice(&block[first.clone()]);
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(&block[value]);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            self.event = Some(end - value.len()..end);
        }
        false
    }

    #[inline]
    pub(super) fn block<'a>(&self, raw: &'a [u8], joined: &'a [u8]) -> Block<'a> {
        let data = match &self.data {
            Some(_) if self.several => Some(joined),
            Some(value) => Some(&raw[value.clone()]),
            None => None,
        };
        Block { raw, event: self.event.clone().map(|value| &raw[value]), data }
    }
}

/// Where a line ends, and where the next begins.
pub(super) struct Line {
    pub(super) end: usize,
    pub(super) next: usize,
}

/// The end of the line that holds the byte at `from`. A CR in last place ends the line without waiting for an LF.
#[inline]
pub(super) fn find_line(bytes: &[u8], from: usize) -> Option<Line> {
    let rest = &bytes[from..];
    // The blank line after every event is not worth a search.
    let end = match rest.first()? {
        b'\n' => from,
        _ => from + memchr2(b'\n', b'\r', rest)?,
    };
    let crlf = bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n');
    Some(Line { end, next: end + 1 + usize::from(crlf) })
}

/// The value of a line that is a field of this name: what follows the colon and at most one space.
#[inline]
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}
