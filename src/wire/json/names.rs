use memchr::memmem;

/// Keys to look for in every object of a document, however deep.
#[derive(Debug)]
pub struct Names {
    names: &'static [&'static str],
    /// For each length, quotes included, the possible last letters by their lowest five bits; that alone rules out
    /// nearly all other keys.
    endings: [u32; 64],
}

impl Names {
    pub(crate) const NONE: Names = Names { names: &[], endings: [0; 64] };

    /// A set of at most 64 names of 1 to 61 bytes.
    ///
    /// # Panics
    /// If there are more names, or longer ones.
    #[must_use]
    pub const fn new(names: &'static [&'static str]) -> Self {
        assert!(names.len() <= 64, "at most 64 names");
        let (mut endings, mut at) = ([0; 64], 0);
        while at < names.len() {
            let name = names[at].as_bytes();
            assert!(!name.is_empty() && name.len() < 62, "a name of 1 to 61 bytes");
            endings[name.len() + 2] |= 1 << (name[name.len() - 1] & 31);
            at += 1;
        }
        Names { names, endings }
    }

    /// Whether a key, given with its quotes, may be one of them. Lengths that differ by 64 are told apart later.
    #[inline]
    pub(super) fn may_hold(&self, quoted: &[u8]) -> bool {
        let last = quoted.len().checked_sub(2).and_then(|at| quoted.get(at));
        last.is_some_and(|last| self.endings[quoted.len() % 64] >> (last & 31) & 1 == 1)
    }

    /// The names that this key, given with its quotes, may stand for; Go's parsers match keys in any case.
    #[cold]
    #[inline(never)]
    pub(super) fn find(&self, quoted: &[u8]) -> u64 {
        let key = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        self.names.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(key)).map_or(0, |at| 1 << at)
    }

    /// The number of names.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a set of names that are known when compiling")]
    pub const fn len(&self) -> usize {
        self.names.len()
    }
}

/// Which of the [`Names`] occur in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// A bit for each name.
    pub(super) names: u64,
    /// Whether anything is written as an escaped UTF-16 unit.
    pub(super) units: bool,
}

impl Met {
    /// Whether name number `at` is a key of some object of the document, spelled without an escape, in whatever case.
    #[must_use]
    pub fn name(self, at: usize) -> bool {
        u32::try_from(at).is_ok_and(|at| self.names.checked_shr(at).is_some_and(|names| names & 1 == 1))
    }

    /// Whether a letter, a digit or an underscore may be written as an escape in `doc`, the document that was read.
    /// Only then can a string contain a word without its bytes. No encoder does that by itself.
    #[must_use]
    pub fn may_spell(self, doc: &[u8]) -> bool {
        // Escapes of ASCII characters begin like this; the others here are signs and control characters.
        self.units
            && memmem::find_iter(doc, br"\u00").any(|at| {
                let digits = doc.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
    }
}
