//! The tokens of RFC 8259, stepped over and checked, never decoded.

use super::{Found, Kind, Met, Names, ScanError, ScanErrorKind};

/// The deepest nesting that can be followed: one bit a level, on the stack.
const MAX_DEPTH: usize = 1024;

/// A cursor in a document.
///
/// Every method expects the cursor where its name says, and leaves it on the next byte that is not whitespace or, after a
/// value, right behind that value.
pub(super) struct Lexer<'a> {
    doc: &'a [u8],
    at: usize,
    max_depth: usize,
    names: &'a Names,
    met: Met,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, max_depth: usize, names: &'a Names) -> Self {
        let met = Met { names: 0, units: false };
        Self { doc: text.as_bytes(), at: 0, max_depth: max_depth.min(MAX_DEPTH), names, met }
    }

    /// Which names were met so far.
    pub(super) fn met(&self) -> Met {
        self.met
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.doc.get(self.at).copied()
    }

    #[cold]
    pub(super) fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError::new(kind, self.at)
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Enters the array or object whose bracket is at the cursor, and which is at `depth`.
    #[inline]
    pub(super) fn open(&mut self, depth: usize) -> Result<(), ScanError> {
        if depth > self.max_depth {
            return Err(self.error(ScanErrorKind::Depth));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// After [`Lexer::open`]: whether the array or object is empty, and then behind it.
    #[inline]
    pub(super) fn closes(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        closes
    }

    /// After a value: on to the next one (true), or behind the bracket that ends them (false).
    #[inline]
    pub(super) fn comma(&mut self, bracket: u8) -> Result<bool, ScanError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == bracket => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error(ScanErrorKind::Syntax)),
        }
    }

    /// A key and its colon: what is between the quotes, and whether there is an escape in it.
    #[inline]
    pub(super) fn key(&mut self) -> Result<(&'a [u8], bool), ScanError> {
        let start = self.at;
        let (end, escaped) = self.skip_key()?;
        Ok((self.doc.get(start + 1..end - 1).unwrap_or_default(), escaped))
    }

    /// [`Lexer::key`] for a key nobody asks about: where it ends, and whether there is an escape in it.
    #[inline(always)]
    fn skip_key(&mut self) -> Result<(usize, bool), ScanError> {
        if self.peek() != Some(b'"') {
            return Err(self.error(ScanErrorKind::Syntax));
        }
        let start = self.at;
        let escaped = self.string()?;
        let end = self.at;
        let key = &self.doc[start..end];
        if self.names.may_hold(key) {
            self.met.names |= self.names.find(key);
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.error(ScanErrorKind::Syntax));
        }
        self.at += 1;
        self.space();
        Ok((end, escaped))
    }

    /// Any value, inside a container at `depth`.
    #[inline]
    pub(super) fn value(&mut self, depth: usize) -> Result<Found, ScanError> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') => self.nested(depth)?,
            _ => self.scalar()?,
        };
        Ok(Found { kind, span: start..self.at })
    }

    /// An array or object and all it holds, however deep, without a call for each level.
    fn nested(&mut self, outer: usize) -> Result<Kind, ScanError> {
        let is_root_object = self.peek() == Some(b'{');
        let mut objects = [0_u64; MAX_DEPTH / 64];
        let mut depth = outer;
        let mut len = 0;

        'open: loop {
            let mut object = self.peek() == Some(b'{');
            let mut bracket = if object { b'}' } else { b']' };
            depth += 1;
            self.open(depth)?;
            // The deepest level of all wraps round to the bit of level 0, which does not exist.
            let (word, bit) = (depth / 64 % objects.len(), depth % 64);
            objects[word] = objects[word] & !(1 << bit) | u64::from(object) << bit;

            let mut more = !self.closes(bracket);
            loop {
                while !more {
                    depth -= 1;
                    if depth == outer {
                        return Ok(if is_root_object { Kind::Object { len } } else { Kind::Array { len } });
                    }
                    object = objects[depth / 64 % objects.len()] >> (depth % 64) & 1 == 1;
                    bracket = if object { b'}' } else { b']' };
                    more = self.comma(bracket)?;
                }
                len += usize::from(depth == outer + 1);
                if object {
                    self.skip_key()?;
                }
                match self.peek() {
                    Some(b'{' | b'[') => continue 'open,
                    _ => self.scalar()?,
                };
                more = self.comma(bracket)?;
            }
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Kind, ScanError> {
        match self.peek() {
            Some(b'"') => self.string().map(|escaped| Kind::String { escaped }),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Kind::Bool(true)),
            Some(b'f') => self.word(b"false", Kind::Bool(false)),
            Some(b'n') => self.word(b"null", Kind::Null),
            _ => Err(self.error(ScanErrorKind::Syntax)),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, ScanError> {
        for &byte in word {
            if self.peek() != Some(byte) {
                return Err(self.error(ScanErrorKind::Syntax));
            }
            self.at += 1;
        }
        Ok(kind)
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, RFC 8259 section 6.
    fn number(&mut self) -> Result<Kind, ScanError> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            // A digit that follows is then neither comma nor bracket.
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.error(ScanErrorKind::Syntax)) } else { Ok(()) }
    }

    /// A string; whether it holds an escape.
    #[inline]
    fn string(&mut self) -> Result<bool, ScanError> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at = skip_plain(self.doc, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.error(ScanErrorKind::Syntax)),
            }
        }
    }

    #[inline]
    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                self.met.units = true;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.error(ScanErrorKind::Syntax));
                    }
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.error(ScanErrorKind::Syntax)),
        }
    }
}

/// The first byte at or after `at` that a string cannot hold as it is: a quote, a backslash, a control character; or the
/// length of `doc`.
#[inline]
fn skip_plain(doc: &[u8], mut at: usize) -> usize {
    // Keys, and code between its many `\n`, end within a few words; prose and base64 are worth wide steps.
    for _ in 0..2 {
        match word_at(doc, at).map(special) {
            Some(0) => at += 8,
            Some(mask) => return at + (mask.trailing_zeros() / 8) as usize,
            None => break,
        }
    }
    at = skip_wide(doc, at);
    while let Some(word) = word_at(doc, at) {
        match special(word) {
            0 => at += 8,
            mask => return at + (mask.trailing_zeros() / 8) as usize,
        }
    }
    while doc.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Steps over blocks without a special byte. The fold has no early exit, which is what lets it compile to vector code.
#[inline]
fn skip_wide(doc: &[u8], mut at: usize) -> usize {
    while let Some(block) = doc.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        if block.iter().fold(false, |any, &byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
            break;
        }
        at += 32;
    }
    at
}

#[inline]
fn word_at(doc: &[u8], at: usize) -> Option<u64> {
    doc.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// The high bit of the first special byte, counted from the lowest; bits above it mean nothing.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    // A byte below `least` borrows into its high bit; a borrow can only reach bytes above the first such byte.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (below(word, 0x20) | quote | backslash) & (ONES << 7)
}
