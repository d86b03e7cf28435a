use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

/// Header values that are written by hand into one shared buffer. Every governed answer has nine, and a formatter and
/// an allocation for each would take as long as everything before them.
pub(crate) struct Line {
    text: [u8; 72],
    len: usize,
}

impl Line {
    pub(crate) fn new() -> Self {
        Line { text: [0; 72], len: 0 }
    }

    pub(crate) fn decimal(&mut self, number: u64) -> Range<usize> {
        let mut out = [0; 20];
        let (mut start, mut left) = (out.len(), number);
        while left > 0 || start == out.len() {
            start -= 1;
            out[start] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.push(&out[start..])
    }

    /// Appends bytes, and returns where they are. What has no room is left out.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.len;
        if let Some(room) = self.text.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
        start..self.len
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// The values at these places.
    pub(crate) fn values<const N: usize>(self, at: [Range<usize>; N]) -> [Option<HeaderValue>; N] {
        let text = Bytes::from_owner(self.text);
        at.map(|at| HeaderValue::from_maybe_shared(text.slice(at)).ok())
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
