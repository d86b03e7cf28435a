//! The layout of lines in a segment: `length (u32, little-endian) | CRC-32 of the line | line and \n`, back to back,
//! with zeros after the last.

use memchr::memmem;

/// Length and CRC.
const HEADER: usize = 8;
/// The start of every line.
pub(super) const START: &[u8] = b"{\"seq\":";

/// Begins a frame: write the line after it, and close it with [`end`].
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    at
}

/// Closes the frame that began at `at`. The length of its line must fit into a `u32`.
pub(super) fn end(out: &mut Vec<u8>, at: usize) {
    out.push(b'\n');
    let line = &out[at + HEADER..];
    let (len, crc) = (u32::try_from(line.len()).unwrap_or(u32::MAX), crc32fast::hash(line));
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    out[at + 4..at + HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// The line of the frame that begins at `at`, without its end.
pub(super) fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (header, rest) = bytes.get(at..)?.split_first_chunk::<HEADER>()?;
    let (len, crc) = header.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let line = rest.get(..len)?;
    let is_whole = crc == crc32fast::hash(line).to_le_bytes();
    line.strip_suffix(b"\n").filter(|line| is_whole && line.starts_with(START))
}

/// How many bytes the frame of this line takes.
pub(super) fn len(line: &[u8]) -> usize {
    HEADER + line.len() + 1
}

/// What a segment contains at some place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Line(&'a [u8]),
    /// This many bytes that are neither a line nor zeros.
    Unreadable(usize),
}

/// Everything in these bytes of a segment, with its position. After unreadable bytes it continues at the next whole
/// line.
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Frames { bytes: &bytes[..written(bytes)], at: 0 }
    }

    /// For a part of a segment, which may end within a line: incomplete bytes at the end may be completed by the next
    /// part, even if they end in zeros.
    pub(super) fn of_part(bytes: &'a [u8]) -> Self {
        Frames { bytes, at: 0 }
    }

    /// Where the next begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn next_whole(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at + 1..)?;
        let starts = memmem::find_iter(rest, START).map(|start| self.at + 1 + start);
        starts
            .filter_map(|start| start.checked_sub(HEADER))
            .find(|at| *at > self.at && line_at(self.bytes, *at).is_some())
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (usize, Found<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        if let Some(line) = line_at(self.bytes, at) {
            self.at += len(line);
            return Some((at, Found::Line(line)));
        }
        let end = match self.next_whole() {
            Some(next) => next,
            None if at < self.bytes.len() => self.bytes.len(),
            None => return None,
        };
        self.at = end;
        Some((at, Found::Unreadable(end - at)))
    }
}

/// The number of bytes before the zeros at the end.
fn written(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let is_zero = |page: &&[u8]| **page == [0; PAGE][..page.len()];
    let zeros: usize = bytes.rchunks(PAGE).take_while(is_zero).map(<[u8]>::len).sum();
    bytes[..bytes.len() - zeros].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let at = begin(&mut out);
            out.extend_from_slice(line.as_bytes());
            end(&mut out, at);
        }
        out.resize(out.len() + 64, 0);
        out
    }

    #[test]
    fn whatever_byte_is_changed_only_the_line_that_it_lies_in_is_lost() {
        let lines = [r#"{"seq":1,"a":"x"}"#, r#"{"seq":2}"#, r#"{"seq":3,"b":[]}"#];
        let whole = frames(&lines);
        let read = |bytes: &[u8]| {
            let text = |(_, found)| match found {
                Found::Line(line) => String::from_utf8(line.to_vec()).expect("as written"),
                Found::Unreadable(_) => "?".to_owned(),
            };
            Frames::of(bytes).map(text).collect::<Vec<_>>()
        };
        assert_eq!(read(&whole), lines);
        let ends = [1, 2, 3].map(|count| lines[..count].iter().map(|line| len(line.as_bytes())).sum::<usize>());
        for at in 0..ends[2] {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let hit = ends.iter().position(|end| at < *end).expect("within a line");
                let mut expected = lines.map(str::to_owned);
                expected[hit] = "?".to_owned();
                assert_eq!(read(&bytes), expected, "byte {at}, bit {bit}");
            }
        }
        for cut in 0..ends[2] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(whole.len(), 0);
            let left = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read(&bytes)[..left], lines.map(str::to_owned)[..left]);
            assert!(read(&bytes).len() <= left + 1, "cut at {cut}");
        }
    }
}
