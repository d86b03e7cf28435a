use super::lexer::Lexer;
use super::{Clash, EACH, Found, Kind, Met, Path, Plan, ScanError, ScanErrorKind};

/// Walks the objects and arrays that paths lead through; the lexer steps over all other values.
///
/// A set of paths is a bit mask over `paths` and then `more`.
pub(super) struct Walk<'a, 'p> {
    lexer: Lexer<'a>,
    paths: &'p [Path],
    /// The paths that are reported, not stored; numbered after `paths`.
    more: &'p [Path],
    /// Which paths begin with a letter, by its lowest five bits, which are equal in both cases.
    initials: &'p [u64; 32],
    /// Which paths begin with a name of a given length.
    lengths: &'p [u64; 32],
    /// The paths that are not the empty one.
    inward: u64,
    /// The paths for which it does not matter how another parser reads them.
    lax: u64,
    found: &'p mut [Option<Found>],
    each: &'p mut dyn FnMut(Path, &Found),
}

impl<'a, 'p> Walk<'a, 'p> {
    pub(super) fn new<const N: usize, const M: usize>(
        lexer: Lexer<'a>,
        plan: &'p Plan<N, M>,
        found: &'p mut [Option<Found>],
        each: &'p mut dyn FnMut(Path, &Found),
    ) -> Self {
        let Plan { paths, more, initials, lengths, inward, lax, .. } = plan;
        Walk { lexer, paths, more, initials, lengths, inward: *inward, lax: *lax, found, each }
    }

    pub(super) fn document(mut self) -> Result<(Found, Met), ScanError> {
        self.lexer.space();
        match self.lexer.peek() {
            Some(b'{') => {}
            None => return Err(self.lexer.error(ScanErrorKind::Empty)),
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(self.lexer.error(ScanErrorKind::NotAnObject));
            }
            Some(_) => return Err(self.lexer.error(ScanErrorKind::Syntax)),
        }
        let root = self.object(0, self.inward, false)?;
        self.lexer.space();
        match self.lexer.peek() {
            None => Ok((root, self.lexer.met())),
            Some(_) => Err(self.lexer.error(ScanErrorKind::Trailing)),
        }
    }

    /// Reads the object at the cursor. The `wanted` paths look for their key number `level`. `several` means that they
    /// came through an array. It recurses once per key of a path, so the paths bound the recursion, not the document.
    fn object(&mut self, level: usize, wanted: u64, several: bool) -> Result<Found, ScanError> {
        let depth = level + 1;
        let start = self.lexer.at();
        self.lexer.open(depth).map_err(|fault| self.lexer.fault(fault))?;

        let mut len = 0;
        let mut seen = 0;
        let mut more = !self.lexer.closes(b'}');
        while more {
            let key_at = self.lexer.at();
            let (key, escaped) = self.lexer.key().map_err(|fault| self.lexer.fault(fault))?;
            let named = self.named(key, escaped, level, wanted, key_at)?;
            if let Some(bit) = bits(named & seen & !self.lax).next() {
                return Err(ScanError::ambiguous(self.path(bit)[level], Clash::Twice, key_at));
            }
            seen |= named;
            self.member(level, named, several)?;
            len += 1;
            more = self.lexer.comma(b'}').map_err(|fault| self.lexer.fault(fault))?;
        }
        Ok(Found { kind: Kind::Object { len }, span: start..self.lexer.at() })
    }

    /// Reads every element of the array at the cursor, for `wanted` paths whose step number `level` is [`EACH`].
    fn elements(&mut self, level: usize, wanted: u64) -> Result<Found, ScanError> {
        let depth = level + 1;
        let start = self.lexer.at();
        self.lexer.open(depth).map_err(|fault| self.lexer.fault(fault))?;

        let mut len = 0;
        let mut more = !self.lexer.closes(b']');
        while more {
            self.member(level, wanted, true)?;
            len += 1;
            more = self.lexer.comma(b']').map_err(|fault| self.lexer.fault(fault))?;
        }
        Ok(Found { kind: Kind::Array { len }, span: start..self.lexer.at() })
    }

    /// Reads the value at the cursor, which `named` paths reach with their step number `level`.
    #[inline]
    fn member(&mut self, level: usize, named: u64, several: bool) -> Result<(), ScanError> {
        let depth = level + 1;
        if named == 0 {
            return self.lexer.value(depth).map(drop).map_err(|fault| self.lexer.fault(fault));
        }
        let next = level + 1;
        let inward = self.filter(named, |path| path.get(next).is_some_and(|step| *step != EACH));
        let across = self.filter(named, |path| path.get(next).is_some_and(|step| *step == EACH));
        let value = match self.lexer.peek() {
            Some(b'{') if inward != 0 => self.object(next, inward, several)?,
            Some(b'[') if across != 0 => self.elements(next, across)?,
            _ => self.lexer.value(depth).map_err(|fault| self.lexer.fault(fault))?,
        };
        for bit in bits(named & !inward & !across) {
            let path = self.path(bit);
            match self.found.get_mut(bit) {
                Some(slot) if !several => *slot = Some(value.clone()),
                Some(_) => {}
                None => (self.each)(path, &value),
            }
        }
        Ok(())
    }

    /// Which of the `wanted` paths this key belongs to.
    #[inline]
    fn named(&self, key: &[u8], escaped: bool, level: usize, wanted: u64, key_at: usize) -> Result<u64, ScanError> {
        // An escape, or a letter beyond ASCII that folds to an ASCII one, may be the first letter of any name.
        let first = key.first().copied().filter(|first| !escaped && first.is_ascii()).map(|first| first & 31);
        // Only with such a letter can a key match a shorter name.
        let as_long = if key.is_ascii() { self.lengths[key.len() % 32] } else { u64::MAX };
        let likely = match (first, level) {
            (Some(first), 0) => wanted & self.initials[usize::from(first)] & as_long,
            (Some(first), _) => self.filter(wanted, |path| initial(path[level]) == first),
            (None, _) => wanted,
        };
        if likely == 0 { Ok(0) } else { self.compare(key, escaped, level, likely, key_at) }
    }

    #[inline(never)]
    fn compare(&self, key: &[u8], escaped: bool, level: usize, likely: u64, key_at: usize) -> Result<u64, ScanError> {
        if escaped {
            return self.spelled(key, level, likely, key_at).map(|()| 0);
        }
        let mut named = 0;
        for bit in bits(likely) {
            let name = self.path(bit)[level];
            if key == name.as_bytes() {
                named |= 1 << bit;
                continue;
            }
            let clashes = match key.len() <= name.len() {
                // Folding only shortens a key, and not one of ASCII.
                true => key.eq_ignore_ascii_case(name.as_bytes()),
                false => !key.is_ascii() && std::str::from_utf8(key).is_ok_and(|key| same_letters(key, name)),
            };
            if clashes && self.lax & (1 << bit) == 0 {
                return Err(ScanError::ambiguous(name, Clash::Case, key_at));
            }
        }
        Ok(named)
    }

    /// Checks that a key with an escape, which never matches, does not spell a wanted name. Decodes it once, and only
    /// if its length is possible, since there may be millions of such keys.
    #[cold]
    #[inline(never)]
    fn spelled(&self, key: &[u8], level: usize, likely: u64, key_at: usize) -> Result<(), ScanError> {
        let likely = match (first_letter(key), level) {
            (Some(first), 0) => likely & self.initials[usize::from(first & 31)],
            _ => likely,
        };
        let mut said: Option<String> = None;
        for bit in bits(likely & !self.lax) {
            let name = self.path(bit)[level];
            // At most six bytes per letter.
            if key.len() < name.len() || key.len() > name.len() * 6 {
                continue;
            }
            // An escape that is not text (a lone surrogate) cannot be part of a wanted key.
            let decode = || serde_json::from_slice(&[b"\"", key, b"\""].concat()).unwrap_or_default();
            if same_letters(said.get_or_insert_with(decode), name) {
                return Err(ScanError::ambiguous(name, Clash::Escaped, key_at));
            }
        }
        Ok(())
    }

    #[inline]
    fn path(&self, bit: usize) -> Path {
        self.paths.get(bit).or_else(|| self.more.get(bit - self.paths.len())).copied().unwrap_or_default()
    }

    #[inline]
    fn filter(&self, set: u64, which: impl Fn(Path) -> bool) -> u64 {
        bits(set).filter(|bit| which(self.path(*bit))).fold(0, |set, bit| set | 1 << bit)
    }
}

/// The first letter of a key that may begin with an escape, if it is an ASCII letter.
fn first_letter(key: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let letter = match *key {
        [b'\\', b'u', b'0', b'0', high, low, ..] => digit(high)? << 4 | digit(low)?,
        [b'\\', b'u', ..] | [] => return None,
        [b'\\', b'b', ..] => 0x8,
        [b'\\', b't', ..] => b'\t',
        [b'\\', b'n', ..] => b'\n',
        [b'\\', b'f', ..] => 0xc,
        [b'\\', b'r', ..] => b'\r',
        [b'\\', itself, ..] | [itself, ..] => itself,
    };
    Some(letter).filter(u8::is_ascii)
}

/// The first letter of a name, by its lowest five bits, which are equal in both cases.
#[inline]
pub(super) const fn initial(name: &str) -> u8 {
    match name.as_bytes() {
        [first, ..] => *first & 31,
        [] => 0,
    }
}

/// The members of a set.
#[inline]
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.checked_sub(1)?;
        Some(bit as usize)
    })
}

/// Whether a decoder that ignores case would confuse the two. Go's folds by Unicode, in which two letters outside ASCII
/// fold to ASCII ones: the long s and the Kelvin sign.
fn same_letters(key: &str, name: &str) -> bool {
    // By at most two bytes per letter.
    if key.len() < name.len() || key.len() > name.len() * 3 {
        return false;
    }
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}
