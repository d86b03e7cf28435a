//! Values as they are spelled: walked, compared and copied into another document without being decoded.

use std::borrow::Cow;

use super::lexer::Lexer;
use super::names::Names;
use super::spelled_out;
use super::tape::Node;

/// A JSON value as it is spelled, with no whitespace around it. The document it is from has been checked: a walk over
/// one that is broken ends early, and never panics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    text: &'a str,
    /// What is known of its document: this value, and then all that it holds. Empty where it must be read to be known.
    nodes: &'a [Node],
}

impl<'a> Raw<'a> {
    /// A whole document, or a value cut out of one.
    pub(crate) fn new(text: &'a str) -> Self {
        Raw { text: text.trim_ascii(), nodes: &[] }
    }

    /// A value without white space around it.
    #[inline]
    pub(super) fn cut(text: &'a str) -> Self {
        Raw { text, nodes: &[] }
    }

    /// What begins with the first of `nodes`.
    pub(super) fn indexed(text: &'a str, nodes: &'a [Node]) -> Self {
        Raw { text, nodes }
    }

    /// The value as it is spelled.
    pub(crate) fn as_str(self) -> &'a str {
        self.text
    }

    pub(crate) fn is_null(self) -> bool {
        self.text == "null"
    }

    pub(crate) fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    pub(crate) fn is_array(self) -> bool {
        self.text.starts_with('[')
    }

    /// A string's inside, as it is escaped.
    pub(crate) fn text(self) -> Option<Escaped<'a>> {
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        Some(Escaped(Cow::Borrowed(inside)))
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A number, as floating as `f64` has it.
    pub(crate) fn number(self) -> Option<f64> {
        // What begins so and is JSON is one; Rust would read `inf` too.
        let is_number = self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number { self.text.parse().ok() } else { None }
    }

    /// A plain unsigned number; `1.0` and `1e3` are none.
    pub(crate) fn count(self) -> Option<u64> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { self.text.parse().ok() } else { None }
    }

    /// Its members in order, those that are `null` left out: `null` means absent in every field of these APIs. None for
    /// what is no object.
    pub(crate) fn members(self) -> Members<'a> {
        Members(Walk::into(self, '{', b'}'))
    }

    /// The last member of that name, unless it is `null`.
    pub(crate) fn member(self, name: &str) -> Option<Raw<'a>> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// Its elements in order. None for what is no array.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements(Walk::into(self, '[', b']'))
    }
}

/// What is spelled alike.
impl PartialEq for Raw<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Raw<'_> {}

/// Goes through what an array or object holds.
enum Walk<'a> {
    /// By what is known of it: the text of the whole, where that begins, and what is left.
    Known { text: &'a str, base: u32, rest: &'a [Node] },
    /// By reading it.
    Read { lexer: Lexer<'a>, more: bool },
}

impl<'a> Walk<'a> {
    fn into(raw: Raw<'a>, opening: char, closing: u8) -> Self {
        let Raw { text, nodes } = raw;
        let is_one = text.starts_with(opening);
        match nodes.split_first() {
            Some((node, rest)) => Walk::Known { text, base: node.start, rest: if is_one { rest } else { &[] } },
            None => {
                let mut lexer = Lexer::new(text, usize::MAX, &Names::NONE);
                let more = is_one && lexer.open(1).is_ok() && !lexer.closes(closing);
                Walk::Read { lexer, more }
            }
        }
    }

    /// The next key, and whether there is an escape in it.
    fn key(&mut self) -> Option<(&'a str, bool)> {
        match self {
            Walk::Known { text, base, rest } => {
                let (key, values) = rest.split_first()?;
                *rest = values;
                let (start, end) = ((key.start - *base) as usize, (key.end - *base) as usize);
                Some((text.get(start + 1..end - 1)?, key.len != 0))
            }
            Walk::Read { more: false, .. } => None,
            Walk::Read { lexer, .. } => lexer.text_key().ok(),
        }
    }

    /// The next value.
    fn value(&mut self, closing: u8) -> Option<Raw<'a>> {
        match self {
            Walk::Known { text, base, rest } => {
                let node = rest.first()?;
                let (nodes, behind) = rest.split_at_checked(node.len as usize)?;
                *rest = behind;
                let text = text.get((node.start - *base) as usize..(node.end - *base) as usize)?;
                Some(Raw { text, nodes })
            }
            Walk::Read { more: false, .. } => None,
            Walk::Read { lexer, more } => {
                let start = lexer.at();
                // What ends here is broken, and all that follows it unknown.
                *more = false;
                lexer.value(1).ok()?;
                let raw = Raw::cut(lexer.since(start));
                *more = lexer.comma(closing).ok()?;
                Some(raw)
            }
        }
    }
}

/// The members of an object that are not `null`, keys without their escapes.
pub(crate) struct Members<'a>(Walk<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, escaped) = self.0.key()?;
            let value = self.0.value(b'}')?;
            if !value.is_null() {
                return Some((spelled_out(key, escaped), value));
            }
        }
    }
}

/// The elements of an array.
pub(crate) struct Elements<'a>(Walk<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.0.value(b']')
    }
}

/// The inside of a JSON string as it is escaped: what goes from one document into another is never decoded or escaped
/// again, so that nothing about it can change.
///
/// Compared as it is spelled; [`Escaped::decoded`] is what it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Escaped<'a>(Cow<'a, str>);

impl<'a> Escaped<'a> {
    /// Escapes plain text.
    pub(crate) fn new(text: &'a str) -> Self {
        if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            return Escaped(Cow::Borrowed(text));
        }
        let quoted = serde_json::to_string(text).unwrap_or_default();
        Escaped(Cow::Owned(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()))
    }

    /// Puts pieces that are escaped already behind each other.
    pub(crate) fn join(pieces: &[&str]) -> Escaped<'static> {
        Escaped(Cow::Owned(pieces.concat()))
    }

    /// What is escaped already.
    pub(crate) fn owned(escaped: String) -> Escaped<'static> {
        Escaped(Cow::Owned(escaped))
    }

    /// As it is spelled, without quotes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says. An escape that is no text (a lone surrogate) becomes U+FFFD.
    pub(crate) fn decoded(&self) -> Cow<'_, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(&self.0);
        }
        let quoted = format!("\"{}\"", self.0);
        match serde_json::from_str(&quoted) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Owned(without_lone_surrogates(&self.0)),
        }
    }

    /// What it says, for as long as what it was cut out of.
    pub(crate) fn into_plain(self) -> Cow<'a, str> {
        match self.0 {
            Cow::Borrowed(text) if !text.contains('\\') => Cow::Borrowed(text),
            text => Cow::Owned(Escaped(text).decoded().into_owned()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says nothing but white space.
    pub(crate) fn is_blank(&self) -> bool {
        let may_be = |c: char| c == '\\' || c.is_whitespace();
        self.0.is_empty() || (self.0.starts_with(may_be) && self.decoded().trim().is_empty())
    }

    /// How many characters it says, counted where it lies.
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

    /// The same, for as long as this one lives.
    pub(crate) fn by_ref(&self) -> Escaped<'_> {
        Escaped(Cow::Borrowed(&self.0))
    }
}

/// The unit that an escape such as `\u00e9` stands for, if that is what `text` begins with.
fn code_unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Decodes unit by unit what the decoder refuses.
fn without_lone_surrogates(escaped: &str) -> String {
    let mut mended = String::with_capacity(escaped.len() + 2);
    mended.push('"');
    let mut rest = escaped;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let low = |text: &str| code_unit(text).is_some_and(|unit| (0xDC00..0xE000).contains(&unit));
        let len = match code_unit(escape) {
            Some(0xD800..0xDC00) if escape.get(6..).is_some_and(low) => 12,
            Some(0xD800..0xE000) => {
                mended.push('\u{FFFD}');
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            Some(_) => 6,
            None => 2,
        };
        mended.push_str(escape.get(..len).unwrap_or(escape));
        rest = escape.get(len..).unwrap_or_default();
    }
    mended.push_str(rest);
    mended.push('"');
    serde_json::from_str(&mended).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_walked_as_they_are_spelled() {
        let raw = Raw::new(r#" {"a" : 1.0 ,"b\n":[ true, "x\"y" ,{} ], "gone":null,"c":{"d":""}} "#);
        let members: Vec<_> = raw.members().map(|(key, value)| (key.into_owned(), value.as_str())).collect();
        let expected = [("a", "1.0"), ("b\n", r#"[ true, "x\"y" ,{} ]"#), ("c", r#"{"d":""}"#)];
        assert_eq!(members, expected.map(|(key, value)| (key.to_owned(), value)));
        let elements: Vec<_> = raw.member("b\n").into_iter().flat_map(Raw::elements).map(Raw::as_str).collect();
        assert_eq!(elements, ["true", r#""x\"y""#, "{}"]);
        assert_eq!(Raw::new("[]").elements().count() + Raw::new("{ }").members().count(), 0);
        assert_eq!(Raw::new("17").elements().count() + Raw::new("17").members().count(), 0);
    }

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
}
