//! Texts that are no JSON document, and have one in them, or a piece of one: what a tool printed, a fence, arguments that broke off.

use std::borrow::Cow;

use super::Redactor;
use super::document::{NESTED, value_len};

/// How many of what looks like the beginning of a document may be none, before the rest of a text is no longer looked through for
/// them: each is read to where it goes wrong.
const TRIES: usize = 32;

/// A text, redacted: the documents in it as such by `document`, and what stands around them.
pub(super) fn redacted<'a>(
    text: &'a str,
    with: &dyn Redactor,
    document: impl Fn(&str) -> Option<String>,
) -> Cow<'a, str> {
    let (mut out, mut copied, mut at, mut tries) = (String::new(), 0, 0, TRIES);
    while tries > 0
        && let Some(found) = text[at..].find(['{', '['])
    {
        let begin = at + found;
        at = begin + 1;
        // Braces of code, brackets of Markdown: not worth a try.
        if !text[at..].trim_ascii_start().starts_with(['"', '{', '[']) {
            continue;
        }
        let Some(len) = value_len(&text[begin..]) else {
            tries -= 1;
            continue;
        };
        at = begin + len;
        if let Some(left) = document(&text[begin..at]) {
            out.push_str(&escaped(&text[copied..begin], with));
            out.push_str(&left);
            copied = at;
        }
    }
    match copied {
        0 => escaped(text, with),
        _ => {
            out.push_str(&escaped(&text[copied..], with));
            // What is looked for may reach from the text into the document, or over several of its members.
            let whole = with.redact(&out);
            Cow::Owned(if with.redact(&whole) == whole { whole.into_owned() } else { out })
        }
    }
}

/// A text in which escapes may stand as they did in the document that it is a piece of.
fn escaped<'a>(text: &'a str, with: &dyn Redactor) -> Cow<'a, str> {
    let left = with.redact(text);
    // Whoever would change once more what they have left is not asked again: a name for a name is none.
    if !left.contains('\\') || with.redact(&left) != left {
        return left;
    }
    // What stands behind an escape has no boundary before it, as long as `\n` is two letters.
    let left = between_escapes(&left, with);
    Cow::Owned(behind_escapes(&left, with).unwrap_or(left))
}

/// Each piece between two escapes on its own, and the escapes as they are.
fn between_escapes(text: &str, with: &dyn Redactor) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (piece, escape) = rest.split_at(at);
        let (escape, behind) = escape.split_at(escape_len(escape));
        out.push_str(&with.redact(piece));
        out.push_str(escape);
        rest = behind;
    }
    out.push_str(&with.redact(rest));
    out
}

/// What an escape spells may be a part of what is looked for, as an `@` of an address. Where one is found so, the text is kept as it
/// reads without them.
fn behind_escapes(text: &str, with: &dyn Redactor) -> Option<String> {
    let (mut plain, mut found) = (unescaped(text)?, None);
    for _ in 0..NESTED {
        if let Cow::Owned(left) = with.redact(&plain)
            && left != plain
        {
            plain = left;
            found = Some(plain.clone());
        }
        let Some(next) = unescaped(&plain) else { break };
        plain = next;
    }
    found
}

/// As it reads one level of JSON's escapes further in (RFC 8259 section 7); `None` where there is none. What is no escape of its stays.
fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut rest, mut is_any) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (said, len) = match escape.as_bytes().get(1) {
            Some(b'n') => (Some('\n'), 2),
            Some(b'r') => (Some('\r'), 2),
            Some(b't') => (Some('\t'), 2),
            Some(b'b' | b'f') => (Some(' '), 2),
            Some(byte @ (b'"' | b'\\' | b'/' | b'\'')) => (Some(char::from(*byte)), 2),
            Some(b'u') => (escape.get(2..6).and_then(letter), 6),
            _ => (None, 1),
        };
        is_any |= said.is_some();
        let len = if said.is_some() { len } else { 1 };
        out.push(said.unwrap_or('\\'));
        rest = &escape[len..];
    }
    out.push_str(rest);
    is_any.then_some(out)
}

/// Half of a pair of surrogates is no letter, and nothing that is looked for has one in it.
fn letter(digits: &str) -> Option<char> {
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

/// How long the escape is that a text begins with, and the backslashes before it, where it is an escape within an escape.
fn escape_len(text: &str) -> usize {
    let slashes = text.bytes().take_while(|byte| *byte == b'\\').count();
    let behind = &text[slashes..];
    slashes
        + match behind.as_bytes().first() {
            Some(b'n' | b'r' | b't' | b'b' | b'f' | b'"' | b'/' | b'\'') => 1,
            Some(b'u') if behind.get(1..5).and_then(letter).is_some() => 5,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a real one looks for it: by itself, and not as a part of something longer.
    struct Card;

    impl Redactor for Card {
        fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
            let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let (mut out, mut copied) = (String::new(), 0);
            for (at, found) in text.match_indices("4111") {
                let bytes = text.as_bytes();
                if !is_letter(at.checked_sub(1).and_then(|before| bytes.get(before))) && !is_letter(bytes.get(at + 4)) {
                    out.push_str(&text[copied..at]);
                    out.push_str("[card]");
                    copied = at + found.len();
                }
            }
            out.push_str(&text[copied..]);
            if copied == 0 { Cow::Borrowed(text) } else { Cow::Owned(out) }
        }
    }

    fn left(text: &str) -> String {
        redacted(text, &Card, |document| Some(document.replace(r#""password":"x""#, r#""password":"[secret]""#)))
            .into_owned()
    }

    #[test]
    fn what_stands_behind_an_escape_is_found_and_the_escape_stays() {
        for escape in [r"\n", r"\t", r"\r", r"\/", r#"\""#, r"\u0020", r"\\n", r#"\\\""#, r"\\\\t", r"\\"] {
            let (text, kept) = (format!("a{escape}4111{escape}b"), format!("a{escape}[card]{escape}b"));
            assert_eq!(left(&text), kept);
        }
        assert_eq!(left(r"C:\new\4111 \d4111 \"), r"C:\new\[card] \d4111 \");
        assert_eq!(left("é\\u00e94111 \\ud8004111"), "é\\u00e9[card] \\ud8004111");
    }

    #[test]
    fn what_an_escape_is_a_part_of_is_found_however_deep_it_stands() {
        for (text, kept) in [
            (r"a \u00341\u00311 b\n", "a [card] b\n"),
            (r"a \\u00341\\u00311 b", "a [card] b"),
            (r"a \\\\u00341\\\\u00311 b", "a [card] b"),
        ] {
            assert_eq!(left(text), kept, "{text}");
        }
    }

    #[test]
    fn what_was_put_in_its_place_is_not_redacted_again() {
        struct Pseudonym;
        impl Redactor for Pseudonym {
            fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
                text.replace("ada", "<ada>").into()
            }
        }
        for text in [r"ada \n C:\new", r#"{"a":"ada"} says\n ada"#] {
            let left = redacted(text, &Pseudonym, |document| Some(document.replace("ada", "<ada>")));
            assert_eq!(left, text.replace("ada", "<ada>"));
        }
    }

    #[test]
    fn documents_within_a_text_are_redacted_as_such() {
        for (text, kept) in [
            ("```json\n{\"password\":\"x\"}\n```\n4111", "```json\n{\"password\":\"[secret]\"}\n```\n[card]"),
            ("{\"password\":\"x\"}\n{\"password\":\"x\"}", "{\"password\":\"[secret]\"}\n{\"password\":\"[secret]\"}"),
            ("Result: [{\"password\":\"x\"}], and {code}", "Result: [{\"password\":\"[secret]\"}], and {code}"),
            ("[{ {\"password\":\"x\"}", "[{ {\"password\":\"[secret]\"}"),
            ("see {\"a\":\"4111\"}", "see {\"a\":\"[card]\"}"),
            ("{\"a\": \"cut 4111", "{\"a\": \"cut [card]"),
        ] {
            assert_eq!(left(text), kept, "{text}");
        }
        let many = "{\"".repeat(TRIES);
        assert_eq!(
            left(&format!("{many} {{\"password\":\"x\"}}")),
            format!("{many} {{\"password\":\"x\"}}"),
            "it ends"
        );
    }
}
