//! Values as they are spelled: walked, compared and copied into another document without being decoded.

use std::borrow::Cow;

use super::escaped::Escaped;
use super::lexer::Lexer;
use super::names::Names;
use super::spelled_out;
use super::tape::Node;

/// A JSON value as it is spelled, without whitespace around it. Its document was checked: a walk over a broken one ends
/// early, and never panics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    text: &'a str,
    /// The index of this value, and then of everything in it. Empty if it must be read to be known.
    nodes: &'a [Node],
}

impl<'a> Raw<'a> {
    /// A whole document, or a value cut out of one.
    pub(crate) fn new(text: &'a str) -> Self {
        Raw { text: text.trim_ascii(), nodes: &[] }
    }

    /// A value without whitespace around it.
    #[inline]
    pub(super) fn cut(text: &'a str) -> Self {
        Raw { text, nodes: &[] }
    }

    /// The value that begins with the first of `nodes`.
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

    /// The text of a string, in its escaped form.
    pub(crate) fn text(self) -> Option<Escaped<'a>> {
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        Some(Escaped::cut(inside))
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A number, with the precision of `f64`.
    pub(crate) fn number(self) -> Option<f64> {
        // JSON that begins like this is a number; Rust would parse `inf` too.
        let is_number = self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number { self.text.parse().ok() } else { None }
    }

    /// A plain unsigned number; `1.0` and `1e3` are not.
    pub(crate) fn count(self) -> Option<u64> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { self.text.parse().ok() } else { None }
    }

    /// Its members in order, without those that are `null`: in these APIs, `null` means absent for every field. Empty
    /// if it is not an object.
    pub(crate) fn members(self) -> Members<'a> {
        Members(Walk::into(self, '{', b'}'))
    }

    /// The last member of that name, unless it is `null`.
    #[inline]
    pub(crate) fn member(self, name: &str) -> Option<Raw<'a>> {
        let [member] = self.pick([name]);
        member
    }

    /// The last member of each of these names, which must differ, unless it is `null`; found in one walk.
    pub(crate) fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Raw<'a>>; N] {
        let mut picked = [None; N];
        let Raw { text, nodes } = self;
        let Some((object, members)) = nodes.split_first() else {
            for (key, value) in self.members() {
                picked.iter_mut().zip(names).filter(|(_, name)| key == *name).for_each(|(slot, _)| *slot = Some(value));
            }
            return picked;
        };
        let mut rest = if self.is_object() { members } else { &[] };
        while let [key, value, ..] = rest {
            let inside = (key.start - object.start) as usize + 1..(key.end - object.start) as usize - 1;
            let of = |key: &[u8]| names.iter().position(|name| name.as_bytes() == key);
            let named = match key.len {
                0 => text.as_bytes().get(inside).and_then(of),
                _ => text.get(inside).and_then(|key| of(spelled_out(key, true).as_bytes())),
            };
            let Some((nodes, behind)) = rest[1..].split_at_checked(value.len as usize) else { break };
            if let Some(at) = named {
                let here = (value.start - object.start) as usize..(value.end - object.start) as usize;
                let value = text.get(here).map(|text| Raw { text, nodes }).filter(|value| !value.is_null());
                picked[at] = value.or(picked[at]);
            }
            rest = behind;
        }
        picked
    }

    /// Its elements in order. Empty if it is not an array.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements(Walk::into(self, '[', b']'))
    }
}

/// Equal spelling.
impl PartialEq for Raw<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Raw<'_> {}

#[cfg(test)]
thread_local! {
    static WALKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often this thread went through an array or object by reading its text.
#[cfg(test)]
pub(crate) fn walks() -> u64 {
    WALKS.get()
}

/// Goes through the contents of an array or object.
enum Walk<'a> {
    /// By the index: the text of the whole, where that begins, and what is left.
    Known { text: &'a str, base: u32, rest: &'a [Node] },
    /// By reading the text.
    Read { lexer: Lexer<'a>, more: bool },
}

impl<'a> Walk<'a> {
    fn into(raw: Raw<'a>, opening: char, closing: u8) -> Self {
        let Raw { text, nodes } = raw;
        let is_one = text.starts_with(opening);
        match nodes.split_first() {
            Some((node, rest)) => Walk::Known { text, base: node.start, rest: if is_one { rest } else { &[] } },
            None => {
                #[cfg(test)]
                WALKS.set(WALKS.get() + 1);
                let mut lexer = Lexer::new(text, usize::MAX, &Names::NONE);
                let more = is_one && lexer.open(1).is_ok() && !lexer.closes(closing);
                Walk::Read { lexer, more }
            }
        }
    }

    /// The next key, and whether there is an escape in it.
    #[inline]
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
    #[inline]
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
                // This is broken, and everything after it is unknown.
                *more = false;
                lexer.value(1).ok()?;
                let raw = Raw::cut(lexer.since(start));
                *more = lexer.comma(closing).ok()?;
                Some(raw)
            }
        }
    }
}

/// The members of an object that are not `null`; keys are unescaped.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Tape;

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
    fn members_are_picked_alike_with_an_index_and_without() {
        let json = r#"{"a":1,"b":null,"a":2,"\u0063":[{"a":3}],"c":null,"ab":{"b":4},"":5}"#;
        let mut tape = Tape::default();
        for raw in [Raw::new(json), tape.read(json, 8).expect("it is one")] {
            let picked = raw.pick(["a", "b", "c", "d", ""]).map(|value| value.map(Raw::as_str));
            assert_eq!(picked, [Some("2"), None, Some(r#"[{"a":3}]"#), None, Some("5")]);
            // As the walk has it.
            let last = |name| raw.members().filter(|(key, _)| key == name).last().map(|(_, value)| value.as_str());
            assert_eq!(picked, ["a", "b", "c", "d", ""].map(last));
            let within = raw.member("ab").and_then(|ab| ab.member("b")).map(Raw::as_str);
            assert_eq!(within, Some("4"));
            assert!(raw.member("c").is_some_and(|list| list.member("a").is_none()));
        }
    }
}
