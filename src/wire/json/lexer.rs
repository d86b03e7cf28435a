//! The tokens of RFC 8259, stepped over and checked, never decoded.

use super::{Found, Kind, ScanError, ScanErrorKind};

/// Why the cursor cannot go on from where it is. As small as can be, since every step of the cursor hands back room for one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Syntax,
    Depth,
}

/// The deepest nesting that can be followed: one bit a level, on the stack.
const MAX_DEPTH: usize = 1024;

/// A cursor in a document.
///
/// Every method expects the cursor where its name says, and leaves it on the next byte that is not whitespace or, after a
/// value, right behind that value.
pub(super) struct Lexer<'a> {
    text: &'a str,
    doc: &'a [u8],
    at: usize,
    max_depth: usize,
    /// Which block of the document was looked at last.
    block: usize,
    /// A bit for each byte of that block that a string cannot hold as it is.
    specials: u64,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, max_depth: usize) -> Self {
        let max_depth = max_depth.min(MAX_DEPTH);
        Self { text, doc: text.as_bytes(), at: 0, max_depth, block: usize::MAX, specials: 0 }
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

    #[cold]
    pub(super) fn fault(&self, fault: Fault) -> ScanError {
        self.error(match fault {
            Fault::Syntax => ScanErrorKind::Syntax,
            Fault::Depth => ScanErrorKind::Depth,
        })
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Enters the array or object whose bracket is at the cursor, and which is at `depth`.
    #[inline]
    pub(super) fn open(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > self.max_depth {
            return Err(Fault::Depth);
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
    pub(super) fn comma(&mut self, bracket: u8) -> Result<bool, Fault> {
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
            _ => Err(Fault::Syntax),
        }
    }

    /// A key and its colon: what is between the quotes, and whether there is an escape in it.
    pub(super) fn key(&mut self) -> Result<(&'a str, bool), Fault> {
        let start = self.at;
        let (end, escaped) = self.skip_key()?;
        Ok((&self.text[start + 1..end - 1], escaped))
    }

    /// [`Lexer::key`] for a key nobody asks about: where it ends, and whether there is an escape in it.
    #[inline]
    fn skip_key(&mut self) -> Result<(usize, bool), Fault> {
        if self.peek() != Some(b'"') {
            return Err(Fault::Syntax);
        }
        let escaped = self.string()?;
        let end = self.at;
        if self.peek() != Some(b':') {
            self.space();
            if self.peek() != Some(b':') {
                return Err(Fault::Syntax);
            }
        }
        self.at += 1;
        self.space();
        Ok((end, escaped))
    }

    /// Any value, inside a container at `depth`.
    #[inline]
    pub(super) fn value(&mut self, depth: usize) -> Result<Found, Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') => self.nested(depth)?,
            _ => self.scalar()?,
        };
        Ok(Found { kind, span: start..self.at })
    }

    /// A whole document that is an object: each of its members, with the key as it is spelled and whether that has an escape.
    pub(super) fn members(&mut self, mut each: impl FnMut(&'a str, bool, &'a str)) -> Result<(), Fault> {
        self.space();
        if self.peek() != Some(b'{') {
            return Err(Fault::Syntax);
        }
        self.open(1)?;
        let mut more = !self.closes(b'}');
        while more {
            let (key, escaped) = self.key()?;
            let start = self.at;
            self.value(1)?;
            each(key, escaped, &self.text[start..self.at]);
            more = self.comma(b'}')?;
        }
        self.space();
        self.peek().map_or(Ok(()), |_| Err(Fault::Syntax))
    }

    /// An array or object and all it holds, however deep, without a call for each level.
    fn nested(&mut self, outer: usize) -> Result<Kind, Fault> {
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
    fn scalar(&mut self) -> Result<Kind, Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(|escaped| Kind::String { escaped }),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Kind::Bool(true)),
            Some(b'f') => self.word(b"false", Kind::Bool(false)),
            Some(b'n') => self.word(b"null", Kind::Null),
            _ => Err(Fault::Syntax),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, Fault> {
        for &byte in word {
            if self.peek() != Some(byte) {
                return Err(Fault::Syntax);
            }
            self.at += 1;
        }
        Ok(kind)
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, RFC 8259 section 6.
    fn number(&mut self) -> Result<Kind, Fault> {
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

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(Fault::Syntax) } else { Ok(()) }
    }

    /// A string; whether it holds an escape.
    #[inline]
    fn string(&mut self) -> Result<bool, Fault> {
        let inside = self.at + 1;
        // Most keys and words end in the block that was looked at last.
        if inside / BLOCK == self.block {
            let end = inside + (self.specials >> (inside % BLOCK)).trailing_zeros() as usize;
            if end / BLOCK == self.block && self.doc.get(end) == Some(&b'"') {
                self.at = end + 1;
                return Ok(false);
            }
        }
        self.long_string()
    }

    #[inline(never)]
    fn long_string(&mut self) -> Result<bool, Fault> {
        self.at += 1;
        self.skip_plain();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(false)
            }
            Some(b'\\') => self.escaped().map(|()| true),
            _ => Err(Fault::Syntax),
        }
    }

    /// From the first escape of a string to its end.
    fn escaped(&mut self) -> Result<(), Fault> {
        while self.peek() == Some(b'\\') {
            self.escape()?;
            self.skip_plain();
        }
        if self.peek() != Some(b'"') {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// On to the next byte that a string cannot hold as it is, or to the end of the document.
    #[inline]
    fn skip_plain(&mut self) {
        loop {
            if self.block != self.at / BLOCK {
                self.look();
            }
            let ahead = self.specials >> (self.at % BLOCK);
            if ahead != 0 {
                self.at += ahead.trailing_zeros() as usize;
                return;
            }
            self.at = (self.block + 1) * BLOCK;
            if self.at >= self.doc.len() {
                self.at = self.doc.len();
                return;
            }
        }
    }

    /// Looks at the block that the cursor is in.
    #[inline(never)]
    fn look(&mut self) {
        self.block = self.at / BLOCK;
        let rest = self.doc.get(self.block * BLOCK..).unwrap_or_default();
        self.specials = match rest.first_chunk() {
            Some(block) => specials(block),
            None => {
                let mut block = [b' '; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                specials(&block)
            }
        };
    }

    #[inline]
    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        let letter = self.peek().ok_or(Fault::Syntax)?;
        if letter == b'u' {
            return self.code_unit();
        }
        if !SHORT_ESCAPES[usize::from(letter)] {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// The `u` of an escape and its four digits.
    fn code_unit(&mut self) -> Result<(), Fault> {
        self.at += 1;
        for _ in 0..4 {
            if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                return Err(Fault::Syntax);
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// The letters of escapes that have nothing behind them.
const SHORT_ESCAPES: [bool; 256] = {
    let mut table = [false; 256];
    let letters = br#""\/bfnrt"#;
    let mut i = 0;
    while i < letters.len() {
        table[letters[i] as usize] = true;
        i += 1;
    }
    table
};

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// A bit for each byte of a block that a string cannot hold as it is: a quote, a backslash, a control character.
///
/// No early exit and nothing but bytes in the first loop: that is what lets it compile to vector code, which is why it is
/// kept apart from code that would take it to pieces.
#[inline(never)]
fn specials(block: &[u8; BLOCK]) -> u64 {
    let mut flags = [0_u8; BLOCK];
    for (flag, &byte) in flags.iter_mut().zip(block) {
        *flag = u8::from((byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    }
    // The product has the lowest bits of eight bytes, in order, in its highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let eights = flags.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |bits, (i, eight)| bits | (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * i))
}
