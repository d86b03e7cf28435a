//! The text between the quotes of strings, which is copied between documents unchanged.

use std::borrow::{Borrow, Cow};

use memchr::memchr;

use super::lexer::specials_in;

/// The text between the quotes of a JSON string, in its escaped form. It is copied between documents without being
/// decoded or escaped again, so nothing about it can change.
///
/// Comparison is by spelling; [`Escaped::decoded`] is the meaning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Escaped<'a>(Cow<'a, str>);

impl<'a> Escaped<'a> {
    /// Takes the text between the quotes of a string.
    pub(super) fn cut(inside: &'a str) -> Self {
        Escaped(Cow::Borrowed(inside))
    }

    /// Escapes plain text.
    pub(crate) fn new(text: &'a str) -> Self {
        if specials_in(text.as_bytes()).next().is_none() {
            return Escaped(Cow::Borrowed(text));
        }
        let mut escaped = String::with_capacity(text.len() + text.len() / 8 + 8);
        Self::write(text, &mut escaped);
        Escaped(Cow::Owned(escaped))
    }

    /// Escapes plain text and appends it to the output.
    pub(super) fn write(text: &str, out: &mut String) {
        let mut from = 0;
        for at in specials_in(text.as_bytes()) {
            out.push_str(&text[from..at]);
            match text.as_bytes()[at] {
                b'"' => out.push_str("\\\""),
                b'\\' => out.push_str("\\\\"),
                b'\n' => out.push_str("\\n"),
                b'\r' => out.push_str("\\r"),
                b'\t' => out.push_str("\\t"),
                0x8 => out.push_str("\\b"),
                0xc => out.push_str("\\f"),
                control => {
                    out.push_str(if control < 0x10 { "\\u000" } else { "\\u001" });
                    out.extend(char::from_digit(u32::from(control % 16), 16));
                }
            }
            from = at + 1;
        }
        out.push_str(&text[from..]);
    }

    /// Joins pieces that are escaped already.
    pub(crate) fn join(pieces: &[&str]) -> Escaped<'static> {
        Escaped(Cow::Owned(pieces.concat()))
    }

    /// Takes text that is escaped already.
    pub(crate) fn owned(escaped: String) -> Escaped<'static> {
        Escaped(Cow::Owned(escaped))
    }

    /// The escaped form, without quotes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The decoded text. An escape that is not text (a lone surrogate) becomes U+FFFD.
    pub(crate) fn decoded(&self) -> Cow<'_, str> {
        match memchr(b'\\', self.0.as_bytes()) {
            None => Cow::Borrowed(&self.0),
            Some(first) => Cow::Owned(unescaped(&self.0, first)),
        }
    }

    /// The decoded text, with the lifetime of the source.
    pub(crate) fn into_plain(self) -> Cow<'a, str> {
        match self.0 {
            Cow::Borrowed(text) if !text.contains('\\') => Cow::Borrowed(text),
            text => Cow::Owned(Escaped(text).decoded().into_owned()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the decoded text is only white space.
    pub(crate) fn is_blank(&self) -> bool {
        let may_be = |c: char| c == '\\' || c.is_whitespace();
        self.0.is_empty() || (self.0.starts_with(may_be) && self.decoded().trim().is_empty())
    }

    /// The number of decoded characters, counted without decoding.
    pub(crate) fn chars(&self) -> usize {
        let (mut chars, mut after_high, mut rest) = (0, false, &*self.0);
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            chars += before.chars().count();
            after_high &= before.is_empty();
            let unit = code_unit(escape);
            let is_second = after_high && unit.is_some_and(|unit| (0xDC00..0xE000).contains(&unit));
            chars += usize::from(!is_second);
            after_high = unit.is_some_and(|unit| (0xD800..0xDC00).contains(&unit));
            rest = escape.get(if unit.is_some() { 6 } else { 2 }..).unwrap_or_default();
        }
        chars + rest.chars().count()
    }

    pub(crate) fn into_owned(self) -> Escaped<'static> {
        Escaped(Cow::Owned(self.0.into_owned()))
    }

    /// The same text, borrowed from this one.
    pub(crate) fn by_ref(&self) -> Escaped<'_> {
        Escaped(Cow::Borrowed(&self.0))
    }
}

impl Borrow<str> for Escaped<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The unit that an escape such as `\u00e9` stands for, if that is what `text` begins with.
fn code_unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Text between two quotes without its escapes, the first of which is at `first`.
fn unescaped(escaped: &str, first: usize) -> String {
    let mut text = String::with_capacity(escaped.len());
    let (mut before, mut rest) = escaped.split_at(first);
    loop {
        text.push_str(before);
        let (said, len) = match rest.as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'u') => character(rest),
            Some(itself @ (b'"' | b'\\' | b'/')) => (char::from(*itself), 2),
            Some(_) | None => (char::REPLACEMENT_CHARACTER, 2),
        };
        text.push(said);
        rest = rest.get(len..).unwrap_or_default();
        let Some(at) = memchr(b'\\', rest.as_bytes()) else { break };
        (before, rest) = rest.split_at(at);
    }
    text.push_str(rest);
    text
}

/// The character of one escape, or of two for a surrogate pair, and the length of its spelling.
fn character(escape: &str) -> (char, usize) {
    match code_unit(escape) {
        Some(high @ 0xD800..0xDC00) => match escape.get(6..).and_then(code_unit) {
            Some(low @ 0xDC00..0xE000) => {
                let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
            }
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        Some(unit) => (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        None => (char::REPLACEMENT_CHARACTER, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_no_string_can_hold_is_replaced_and_the_rest_kept() {
        for (escaped, text) in [
            (r"a\ud83d\ude00b", "a😀b"),
            (r"a\ud83db\n", "a\u{FFFD}b\n"),
            (r"\ude00\ud83d", "\u{FFFD}\u{FFFD}"),
            (r"\\ud83d\ud83d", "\\ud83d\u{FFFD}"),
        ] {
            let escaped = Escaped(Cow::Borrowed(escaped));
            assert_eq!((&*escaped.decoded(), escaped.chars()), (text, text.chars().count()), "{escaped:?}");
        }
    }

    #[test]
    fn what_is_escaped_decodes_to_what_it_was() {
        for text in ["plain", "a\"b\\c\n\u{1}é😀", ""] {
            assert_eq!(Escaped::new(text).decoded(), text);
            assert_eq!(Escaped::new(text).chars(), text.chars().count());
        }
    }

    #[test]
    fn text_is_escaped_as_serde_json_escapes_it() {
        let every = (0..0x80_u8).map(char::from).chain(['\u{80}', 'é', '\u{2028}', '😀']);
        for (special, before) in every.flat_map(|special| (0..70).map(move |before| (special, before))) {
            for after in [0, 1, 64] {
                let text = format!("{}{special}{special}{}", "é".repeat(before / 2), "x".repeat(after + before % 2));
                let expected = serde_json::to_string(&text).expect("text");
                assert_eq!(format!("\"{}\"", Escaped::new(&text).as_str()), expected, "{text:?}");
                assert_eq!(Escaped::new(&text).decoded(), text);
            }
        }
        // Every way that text may be spelled, decoded as serde_json decodes it.
        for spelled in [r#"\/\b\f\n\r\t\"\\"#, r"\u0041\u00e9\u2028\uD83d\uDe00x", r"a\u0000", r"\\\\n\\n"] {
            let expected: String = serde_json::from_str(&format!("\"{spelled}\"")).expect("valid");
            assert_eq!(Escaped(Cow::Borrowed(spelled)).decoded(), expected);
        }
    }
}
