//! Steps over the tokens of RFC 8259 and checks them, without decoding.

mod strings;

pub(super) use strings::specials_in;

use super::{Found, Kind, Met, Names, ScanError, ScanErrorKind};

/// Why the cursor cannot continue. As small as possible, since every step of the cursor returns room for one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Syntax,
    Depth,
}

/// The deepest nesting that can be followed: one bit per level, on the stack.
const MAX_DEPTH: usize = 1024;

/// Receives the contents of an array or object, front to back. An implementation that does nothing compiles to nothing.
pub(super) trait Trace {
    /// An array or object begins.
    fn open(&mut self, at: usize);
    /// A key with its quotes, and whether it has an escape.
    fn key(&mut self, start: usize, end: usize, escaped: bool);
    /// Any other value.
    fn scalar(&mut self, start: usize, end: usize);
    /// The innermost open array or object ends.
    fn close(&mut self, end: usize);
}

/// Ignores everything.
impl Trace for () {
    #[inline(always)]
    fn open(&mut self, _at: usize) {}
    #[inline(always)]
    fn key(&mut self, _start: usize, _end: usize, _escaped: bool) {}
    #[inline(always)]
    fn scalar(&mut self, _start: usize, _end: usize) {}
    #[inline(always)]
    fn close(&mut self, _end: usize) {}
}

/// A cursor in a document.
///
/// Each method expects the cursor where its name says. It leaves the cursor on the next byte that is not whitespace or,
/// after a value, right behind that value. Internally, steps take a position and return the next one: storing and
/// loading the cursor at each step would be slow.
pub(super) struct Lexer<'a> {
    text: &'a str,
    doc: &'a [u8],
    at: usize,
    max_depth: usize,
    /// Keys to look for at any depth.
    names: &'a Names,
    met: Met,
    /// The block of the document that was examined last.
    block: usize,
    /// One bit for each byte of that block that must not occur unescaped in a string.
    specials: u64,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, max_depth: usize, names: &'a Names) -> Self {
        let (max_depth, met) = (max_depth.min(MAX_DEPTH), Met { names: 0, units: false });
        Self { text, doc: text.as_bytes(), at: 0, max_depth, names, met, block: usize::MAX, specials: 0 }
    }

    /// Which names have occurred so far.
    pub(super) fn met(&self) -> Met {
        self.met
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Moves to a position that another document with the same beginning has established.
    #[inline]
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.byte(self.at)
    }

    #[cold]
    pub(super) fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError::new(kind, self.at)
    }

    #[cold]
    pub(super) fn fault(&self, fault: Fault) -> ScanError {
        self.error(match fault {
            Fault::Syntax => ScanErrorKind::Syntax,
            Fault::Depth => ScanErrorKind::Depth,
        })
    }

    #[inline]
    pub(super) fn space(&mut self) {
        self.at = self.skip_space(self.at);
    }

    /// Enters the array or object at `depth` whose bracket is at the cursor.
    #[inline]
    pub(super) fn open(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > self.max_depth {
            return Err(Fault::Depth);
        }
        self.at = self.skip_space(self.at + 1);
        Ok(())
    }

    /// After [`Lexer::open`]: whether the array or object is empty; if so, moves behind it.
    #[inline]
    pub(super) fn closes(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        closes
    }

    /// After a value: moves to the next one (true), or behind the closing bracket (false).
    #[inline]
    pub(super) fn comma(&mut self, bracket: u8) -> Result<bool, Fault> {
        let (at, more) = self.step_comma(self.at, bracket)?;
        self.at = at;
        Ok(more)
    }

    /// Reads a key and its colon. Returns the text between the quotes, and whether it has an escape.
    #[inline]
    pub(super) fn key(&mut self) -> Result<(&'a [u8], bool), Fault> {
        let start = self.at;
        let (end, escaped, at) = self.step_key(start)?;
        self.at = at;
        Ok((self.doc.get(start + 1..end - 1).unwrap_or_default(), escaped))
    }

    /// [`key`](Self::key), as text.
    #[inline(always)]
    pub(super) fn text_key(&mut self) -> Result<(&'a str, bool), Fault> {
        let start = self.at;
        let (end, escaped, at) = self.step_key(start)?;
        self.at = at;
        Ok((&self.text[start + 1..end - 1], escaped))
    }

    /// The text from `start`, where a value began, up to the cursor.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// Reads any value, inside a container at `depth`.
    #[inline(always)]
    pub(super) fn value(&mut self, depth: usize) -> Result<Found, Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') => self.nested(depth, &mut ())?,
            _ => {
                let (at, kind) = self.step_scalar(start)?;
                self.at = at;
                kind
            }
        };
        Ok(Found { kind, span: start..self.at })
    }

    /// Reads a whole document that is an array or object.
    pub(super) fn traced(&mut self, trace: &mut impl Trace) -> Result<(), Fault> {
        let Some(b'{' | b'[') = self.peek() else { return Err(Fault::Syntax) };
        self.nested(0, trace)?;
        self.space();
        self.peek().map_or(Ok(()), |_| Err(Fault::Syntax))
    }

    /// Reads an array or object with everything in it, without a call for each level.
    fn nested(&mut self, outer: usize, trace: &mut impl Trace) -> Result<Kind, Fault> {
        let mut at = self.at;
        let is_root_object = self.byte(at) == Some(b'{');
        let mut objects = [0_u64; MAX_DEPTH / 64];
        let mut depth = outer;
        let mut len = 0;

        'open: loop {
            let mut object = self.byte(at) == Some(b'{');
            let mut bracket = if object { b'}' } else { b']' };
            depth += 1;
            if depth > self.max_depth {
                return Err(self.stop(at, Fault::Depth));
            }
            trace.open(at);
            at = self.skip_space(at + 1);
            // The deepest level wraps round to the bit of level 0, which does not exist.
            let (word, bit) = (depth / 64 % objects.len(), depth % 64);
            objects[word] = objects[word] & !(1 << bit) | u64::from(object) << bit;

            let mut more = self.byte(at) != Some(bracket);
            at += usize::from(!more);
            loop {
                while !more {
                    trace.close(at);
                    depth -= 1;
                    if depth == outer {
                        self.at = at;
                        return Ok(if is_root_object { Kind::Object { len } } else { Kind::Array { len } });
                    }
                    object = objects[depth / 64 % objects.len()] >> (depth % 64) & 1 == 1;
                    bracket = if object { b'}' } else { b']' };
                    (at, more) = self.step_comma(at, bracket)?;
                }
                len += usize::from(depth == outer + 1);
                if object {
                    let (end, escaped, value) = self.step_key(at)?;
                    trace.key(at, end, escaped);
                    at = value;
                }
                match self.byte(at) {
                    Some(b'{' | b'[') => continue 'open,
                    _ => {
                        let (end, _) = self.step_scalar(at)?;
                        trace.scalar(at, end);
                        at = end;
                    }
                }
                (at, more) = self.step_comma(at, bracket)?;
            }
        }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.doc.get(at).copied()
    }

    /// Leaves the cursor at the fault.
    #[cold]
    fn stop(&mut self, at: usize, fault: Fault) -> Fault {
        self.at = at;
        fault
    }

    #[inline(always)]
    fn skip_space(&self, mut at: usize) -> usize {
        // Most documents are sent without whitespace.
        while let Some(..=b' ') = self.byte(at) {
            if !matches!(self.byte(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
                break;
            }
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn step_comma(&mut self, at: usize, bracket: u8) -> Result<(usize, bool), Fault> {
        let at = self.skip_space(at);
        match self.byte(at) {
            Some(b',') => Ok((self.skip_space(at + 1), true)),
            Some(byte) if byte == bracket => Ok((at + 1, false)),
            _ => Err(self.stop(at, Fault::Syntax)),
        }
    }

    /// Returns where a key ends, whether it has an escape, and where its value begins.
    #[inline(always)]
    fn step_key(&mut self, at: usize) -> Result<(usize, bool, usize), Fault> {
        if self.byte(at) != Some(b'"') {
            return Err(self.stop(at, Fault::Syntax));
        }
        let (end, escaped) = self.step_string(at)?;
        if self.names.len() > 0 {
            let key = self.doc.get(at..end).unwrap_or_default();
            if self.names.may_hold(key) {
                self.met.names |= self.names.find(key);
            }
        }
        let colon = self.skip_space(end);
        if self.byte(colon) != Some(b':') {
            return Err(self.stop(colon, Fault::Syntax));
        }
        Ok((end, escaped, self.skip_space(colon + 1)))
    }

    #[inline(always)]
    fn step_scalar(&mut self, at: usize) -> Result<(usize, Kind), Fault> {
        match self.byte(at) {
            Some(b'"') => self.step_string(at).map(|(at, escaped)| (at, Kind::String { escaped })),
            Some(b'-' | b'0'..=b'9') => self.number(at).map(|at| (at, Kind::Number)),
            Some(b't') => self.word(at, b"true").map(|at| (at, Kind::Bool(true))),
            Some(b'f') => self.word(at, b"false").map(|at| (at, Kind::Bool(false))),
            Some(b'n') => self.word(at, b"null").map(|at| (at, Kind::Null)),
            _ => Err(self.stop(at, Fault::Syntax)),
        }
    }

    fn word(&mut self, mut at: usize, word: &[u8]) -> Result<usize, Fault> {
        for &byte in word {
            if self.byte(at) != Some(byte) {
                return Err(self.stop(at, Fault::Syntax));
            }
            at += 1;
        }
        Ok(at)
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, RFC 8259 section 6.
    fn number(&mut self, mut at: usize) -> Result<usize, Fault> {
        at += usize::from(self.byte(at) == Some(b'-'));
        // A digit after a leading zero is then an error, since it is neither a comma nor a bracket.
        at = if self.byte(at) == Some(b'0') { at + 1 } else { self.digits(at)? };
        if self.byte(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.byte(at) {
            at += 1;
            at += usize::from(matches!(self.byte(at), Some(b'+' | b'-')));
            at = self.digits(at)?;
        }
        Ok(at)
    }

    #[inline]
    fn digits(&mut self, start: usize) -> Result<usize, Fault> {
        let mut at = start;
        while let Some(b'0'..=b'9') = self.byte(at) {
            at += 1;
        }
        if at == start { Err(self.stop(at, Fault::Syntax)) } else { Ok(at) }
    }
}
