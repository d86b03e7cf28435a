use super::lexer::Lexer;
use super::names::Names;
use super::raw::Raw;
use super::spelled_out;

/// Reads a document of a known shape once, front to back.
///
/// ```text
/// cursor::object(json, |key, value| match key {
///     "id" => value.into(&mut id),
///     "usage" => value.members(|key, value| …),
///     _ => value.pass(),
/// })
/// ```
///
/// Passes every member of a document that is an object to `each`, which decides by what it does with the value where
/// reading continues. `None` if the document is not an object, or not a complete one; members passed until then are of
/// a broken one.
#[inline]
pub(crate) fn object<'a>(document: &'a str, each: impl FnMut(&str, Value<'_, 'a>) -> Option<Passed>) -> Option<Passed> {
    let mut lexer = Lexer::new(document, usize::MAX, &Names::NONE);
    lexer.space();
    let root = Value { lexer: &mut lexer, depth: 0 };
    let passed = if root.lexer.peek() == Some(b'{') { root.members(each) } else { None }?;
    lexer.space();
    lexer.peek().is_none().then_some(passed)
}

/// [`object`] for one of many documents with the same beginning: continues at the value of member `key`, which follows
/// `head`.
///
/// The document must begin with `head`, and so must another that was read up to that value, by [`Value::at`]. What
/// precedes the value is not read again.
#[inline]
pub(crate) fn object_behind<'a>(
    head: &str,
    key: &str,
    document: &'a str,
    mut each: impl FnMut(&str, Value<'_, 'a>) -> Option<Passed>,
) -> Option<Passed> {
    let mut lexer = Lexer::new(document, usize::MAX, &Names::NONE);
    lexer.go_to(head.len());
    lexer.space();
    each(key, Value { lexer: &mut lexer, depth: 1 })?;
    let more = lexer.comma(b'}').ok()?;
    let passed = Value { lexer: &mut lexer, depth: 1 }.further_members(more, each)?;
    lexer.space();
    lexer.peek().is_none().then_some(passed)
}

/// An unread value: to be taken, entered, or skipped.
pub(crate) struct Value<'l, 'a> {
    lexer: &'l mut Lexer<'a>,
    /// The depth of the container that it is in.
    depth: usize,
}

/// Proof that a value was read: only reading one makes it.
pub(crate) struct Passed(());

impl<'a> Value<'_, 'a> {
    /// Takes it as it is spelled, unless it is `null`.
    #[inline]
    pub(crate) fn into(self, slot: &mut Option<Raw<'a>>) -> Option<Passed> {
        self.spelled(|value| *slot = Some(Raw::cut(value)).filter(|value| !value.is_null()))
    }

    /// Passes it on as it is spelled.
    #[inline]
    pub(super) fn spelled(self, take: impl FnOnce(&'a str)) -> Option<Passed> {
        let start = self.lexer.at();
        self.lexer.value(self.depth).ok()?;
        take(self.lexer.since(start));
        Some(Passed(()))
    }

    #[inline]
    pub(crate) fn pass(self) -> Option<Passed> {
        self.lexer.value(self.depth).ok()?;
        Some(Passed(()))
    }

    /// Its position in the document.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.lexer.at()
    }

    /// Goes through its members. Skips it if it is not an object.
    #[inline]
    pub(crate) fn members(self, each: impl FnMut(&str, Value<'_, 'a>) -> Option<Passed>) -> Option<Passed> {
        if self.lexer.peek() != Some(b'{') {
            return self.pass();
        }
        let depth = self.depth + 1;
        self.lexer.open(depth).ok()?;
        let more = !self.lexer.closes(b'}');
        Value { lexer: self.lexer, depth }.further_members(more, each)
    }

    /// Continues with the cursor at a key, if there are more, of the object whose members are at this depth.
    #[inline]
    fn further_members(
        self,
        mut more: bool,
        mut each: impl FnMut(&str, Value<'_, 'a>) -> Option<Passed>,
    ) -> Option<Passed> {
        let Value { lexer, depth } = self;
        while more {
            let (key, escaped) = lexer.text_key().ok()?;
            let value = Value { lexer: &mut *lexer, depth };
            if escaped { each(&spelled_out(key, escaped), value) } else { each(key, value) }?;
            more = lexer.comma(b'}').ok()?;
        }
        Some(Passed(()))
    }

    /// Goes through its elements. Skips it if it is not an array.
    #[inline]
    pub(crate) fn elements(self, mut each: impl FnMut(Value<'_, 'a>) -> Option<Passed>) -> Option<Passed> {
        if self.lexer.peek() != Some(b'[') {
            return self.pass();
        }
        let depth = self.depth + 1;
        self.lexer.open(depth).ok()?;
        let mut more = !self.lexer.closes(b']');
        while more {
            each(Value { lexer: self.lexer, depth })?;
            more = self.lexer.comma(b']').ok()?;
        }
        Some(Passed(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_once_as_far_as_it_is_of_interest() {
        let (mut deep, mut list, mut gone, mut other) = (None, Vec::new(), None, None);
        let json = r#" {"a":{"x":1,"\u0062":[1, {"c":"d"}],"y":{}},"list":[true,{"z":2}],"gone":null,"other":"{" } "#;
        let whole = object(json, |key, value| match key {
            "a" => value.members(|key, value| if key == "b" { value.into(&mut deep) } else { value.pass() }),
            "list" => value.elements(|value| {
                let mut element = None;
                let passed = value.into(&mut element);
                list.extend(element.map(Raw::as_str));
                passed
            }),
            "gone" => value.into(&mut gone),
            // Its type is not the one that was looked for.
            "other" => value.into(&mut other),
            _ => None,
        });
        assert!(whole.is_some());
        assert_eq!(deep.map(Raw::as_str), Some(r#"[1, {"c":"d"}]"#));
        assert_eq!(list, ["true", r#"{"z":2}"#]);
        assert_eq!((gone, other.map(Raw::as_str)), (None, Some("\"{\"")));
    }

    #[test]
    fn documents_that_begin_alike_are_read_on_behind_their_head() {
        let (first, mut at) = (r#" {"id":"{\"x\":","n":[1], "choices" : [1,{"choices":2}],"last":3}"#, 0);
        let read = object(first, |key, value| {
            if key == "choices" {
                at = value.at();
            }
            value.pass()
        });
        assert!(read.is_some());
        let head = &first[..at];
        assert!(head.ends_with(r#""choices" : "#));
        let read_on = |document: &str| {
            let mut members = Vec::new();
            let read = object_behind(head, "choices", document, |key, value| {
                value.spelled(|value| members.push(format!("{key}={value}")))
            });
            read.map(|_| members)
        };
        let ends = |ends: &str| read_on(&format!("{head}{ends}"));
        assert_eq!(read_on(first), Some(vec![r#"choices=[1,{"choices":2}]"#.to_owned(), "last=3".to_owned()]));
        // The other had none in front of its value.
        for alike in ["{} } ", " {}}", "\n\t{}}"] {
            assert_eq!(ends(alike), Some(vec!["choices={}".to_owned()]), "{alike:?}");
        }
        for broken in ["", "1", "1,", "1}}", "1,}", "[}", r#"1,"a"}"#] {
            assert_eq!(ends(broken), None, "{broken}");
        }
        // As deep as if it had been read from the front.
        let deep = |n: usize| ends(&format!("{}{}}}", "[".repeat(n), "]".repeat(n))).is_some();
        assert!(deep(1023) && !deep(1024));
    }

    #[test]
    fn what_is_no_object_to_its_end_is_none() {
        let read = |json: &str, within: bool| {
            let each = |_: &str, value: Value<'_, '_>| {
                if within { value.members(|_, value| value.pass()) } else { value.pass() }
            };
            object(json, each).is_some()
        };
        for json in
            ["", "[]", "1", "{", r#"{"a":1"#, r#"{"a":1}}"#, r#"{"a":1,}"#, r#"{"a":{"b":}}"#, r#"{"a":{"b":1]}"#]
        {
            assert!(!read(json, true) && !read(json, false), "{json}");
        }
        assert!(read(r#"{"a":{"b":1}}"#, true) && read(r#"{"a":[]}"#, true));
        // As deep as any other document may be, however much of it is gone into.
        let deep = |n: usize| format!("{}{}", r#"{"a":"#.repeat(n), "1") + &"}".repeat(n);
        assert!(read(&deep(1024), true) && !read(&deep(1025), true) && !read(&deep(1025), false));
    }
}
