//! Texts that are no JSON document but contain one, or a part of one: tool output, a fenced block, truncated arguments.

use std::borrow::Cow;

use super::Redactor;
use super::document::{NESTED, value_len};

/// How many failed attempts to read a document are made in one text. After that, the rest is not searched for
/// documents, since each attempt reads up to its error.
const TRIES: usize = 32;

/// Redacts a text: the documents in it with `document`, and the text around them.
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
        // Braces of code or brackets of Markdown are not worth an attempt.
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
            // A match may reach from the text into the document, or over several of its members.
            let whole = with.redact(&out);
            Cow::Owned(if with.redact(&whole) == whole { whole.into_owned() } else { out })
        }
    }
}

/// Redacts a text that may contain the escapes of the document that it is a part of.
fn escaped<'a>(text: &'a str, with: &dyn Redactor) -> Cow<'a, str> {
    let left = with.redact(text);
    // If redacting again would change the result, escapes are not looked into: the redactor would replace its own
    // output.
    if !left.contains('\\') || with.redact(&left) != left {
        return left;
    }
    // A match after an escape has no word boundary before it, as long as `\n` is two characters.
    let left = between_escapes(&left, with);
    Cow::Owned(behind_escapes(&left, with).unwrap_or(left))
}

/// Redacts each piece between escapes separately, and keeps the escapes.
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

/// An escape may be a part of a match, such as the `@` of an address. If such a match is found, the text is kept
/// without escapes.
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

/// Decodes one level of JSON escapes (RFC 8259 section 7); `None` if there are none. Other backslashes are kept.
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

/// `None` for an unpaired surrogate, which is never part of a match.
fn letter(digits: &str) -> Option<char> {
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

/// The length of the escape at the start of the text, including the backslashes before it if it is a nested escape.
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

    /// Matches like real patterns: only whole words.
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
