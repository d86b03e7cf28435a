//! Redacts a JSON document: strings, names and identifiers. Everything else keeps its spelling.

use std::borrow::Cow;
use std::collections::HashSet;

use memchr::{memchr2, memchr3};
use serde::de::IgnoredAny;

use super::Redactor;
use super::data::without_data;
use super::prose;
use crate::wire::json::Raw;

/// Members that repeat, in pieces, what the text beside them says.
const PIECES: [&str; 2] = ["logprobs", "top_logprobs"];
/// Members that describe a value in a schema: a tool's parameter may be called `password`.
const OF_SCHEMAS: [&str; 4] = ["type", "format", "title", "description"];
/// A number with this many digits before its point may identify a person. Digits behind a point measure something, and
/// one in thirty of such fractions would pass for a card.
const IDENTIFIER: usize = 8;
/// How deeply documents may be nested in texts of other documents.
pub(super) const NESTED: usize = 4;

/// `None` if the text is no JSON document.
pub(super) fn redacted(document: &str, with: &dyn Redactor) -> Option<String> {
    nested(document, with, NESTED)
}

fn nested(document: &str, with: &dyn Redactor, depth: usize) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(document).ok()?;
    let named = named(document, with)?;
    let (mut out, mut rest) = (String::with_capacity(document.len()), document);
    // The name of the member whose value comes next.
    let mut name: Option<Cow<'_, str>> = None;
    // The open objects, and whether the next one stands below a telling name.
    let (mut objects, mut is_below) = (Vec::<Object>::new(), false);
    while let Some(at) = rest.find(['"', '{', '}', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        let begin = document.len() - token.len();
        let len = match token.as_bytes().first()? {
            b'"' => string(token)?,
            b'{' | b'}' => 1,
            _ => number(token),
        };
        let (token, behind) = token.split_at(len);
        rest = behind;
        if !token.starts_with('"') {
            match token {
                "{" => {
                    objects.push(Object { is_below: std::mem::take(&mut is_below), holds: named.contains(&begin) });
                }
                "}" => drop(objects.pop()),
                _ => {}
            }
            out.push_str(&spelled(token, token, &digits(token, with))?);
            continue;
        }
        let text = said(token);
        let Some(value) = member(behind) else {
            out.push_str(&spelled(token, &text, &value(name.take().as_deref(), &text, with, depth))?);
            continue;
        };
        out.push_str(&spelled(token, &text, &with.redact(&text))?);
        let object = objects.last().copied().unwrap_or_default();
        let hides = with.hides(&text)
            || object.is_below && !OF_SCHEMAS.contains(&&*text)
            || object.holds && text.eq_ignore_ascii_case("value");
        let instead = match value.as_bytes().first()? {
            _ if PIECES.contains(&&*text) => Some("null"),
            b'{' => {
                is_below = hides || object.is_below;
                None
            }
            b't' | b'f' | b'n' => None,
            _ => hides.then_some(r#""[secret]""#),
        };
        if let Some(instead) = instead {
            out.push_str(&behind[..behind.len() - value.len()]);
            out.push_str(instead);
            rest = behind_value(value)?;
        }
        name = (instead.is_none() && value.starts_with('"')).then_some(text);
    }
    out.push_str(rest);
    Some(out)
}

/// An open object.
#[derive(Clone, Copy, Default)]
struct Object {
    /// It stands below a telling name, so its texts, numbers and lists are secrets.
    is_below: bool,
    /// Its `value` is a secret, because of a `name` beside it; environments are listed that way.
    holds: bool,
}

/// Where the objects begin whose `name` or `key` is the name of a secret. A pass of its own, since the name may come
/// after the value.
fn named(document: &str, with: &dyn Redactor) -> Option<HashSet<usize>> {
    let (mut found, mut open, mut is_name, mut at) = (HashSet::new(), Vec::new(), false, 0);
    while let Some(next) = memchr3(b'"', b'{', b'}', &document.as_bytes()[at..]) {
        at += next;
        match document.as_bytes()[at] {
            b'{' => open.push(at),
            b'}' => drop(open.pop()),
            _ => {
                let len = string(&document[at..])?;
                let (token, behind) = document[at..].split_at(len);
                if let Some(value) = member(behind) {
                    let is_one = |text: &str| ["name", "key"].iter().any(|word| text.eq_ignore_ascii_case(word));
                    is_name = value.starts_with('"') && is_one(&said(token));
                } else if std::mem::take(&mut is_name) && with.hides(&said(token)) {
                    found.extend(open.last().copied());
                }
                at += len - 1;
            }
        }
        at += 1;
    }
    Some(found)
}

/// The rest from its value on, if what stands before it is the name of a member.
fn member(behind: &str) -> Option<&str> {
    behind.trim_ascii_start().strip_prefix(':').map(str::trim_ascii_start)
}

/// Redacts one text.
fn value<'a>(name: Option<&str>, text: &'a str, with: &dyn Redactor, depth: usize) -> Cow<'a, str> {
    // The arguments of a tool, and often its result, are JSON documents themselves.
    if depth > 0
        && text.trim_ascii_start().starts_with(['{', '['])
        && let Some(left) = nested(text, with, depth - 1)
    {
        return Cow::Owned(left);
    }
    let within = |document: &str| if depth > 0 { nested(document, with, depth - 1) } else { None };
    match without_data(name, text) {
        Cow::Borrowed(text) => prose::redacted(text, with, within),
        Cow::Owned(text) => Cow::Owned(prose::redacted(&text, with, within).into_owned()),
    }
}

/// Redacts one number, if it may be an identifier rather than a measure.
fn digits<'a>(number: &'a str, with: &dyn Redactor) -> Cow<'a, str> {
    let whole = number.trim_start_matches('-').bytes().take_while(u8::is_ascii_digit).count();
    match whole >= IDENTIFIER {
        true => with.redact(number),
        false => Cow::Borrowed(number),
    }
}

/// The decoded text of a token. An unpaired surrogate, which is no text, becomes U+FFFD.
fn said(token: &str) -> Cow<'_, str> {
    Raw::new(token).text().map_or(Cow::Borrowed(token), |text| text.into_plain())
}

/// The original spelling if the text is unchanged, otherwise the new text as a JSON string.
fn spelled<'a>(token: &'a str, text: &str, left: &str) -> Option<Cow<'a, str>> {
    match left == text {
        true => Some(Cow::Borrowed(token)),
        false => serde_json::to_string(left).ok().map(Cow::Owned),
    }
}

/// The length of the string at the start of the text, including quotes.
fn string(token: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = at + memchr2(b'"', b'\\', token.as_bytes().get(at..)?)?;
        at = match token.as_bytes()[found] {
            b'"' => return Some(found + 1),
            _ => found + 2,
        };
    }
}

fn number(token: &str) -> usize {
    token.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(token.len())
}

/// What follows the next value.
fn behind_value(rest: &str) -> Option<&str> {
    rest.get(value_len(rest)?..)
}

/// The length of the JSON value at the start of the text.
pub(super) fn value_len(text: &str) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Some4111;

    impl Redactor for Some4111 {
        fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
            text.replace("secret", "[-]").replace("4111", "[card]").into()
        }

        fn hides(&self, name: &str) -> bool {
            name == "password"
        }
    }

    struct Nothing;

    impl Redactor for Nothing {
        fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
            text.into()
        }
    }

    #[test]
    fn texts_names_and_numbers_are_redacted_and_all_else_stays_as_it_is_spelled() {
        for (document, left) in [
            (r#"{"a": "a secret", "b":1.0e3 , "c":null}"#, r#"{"a": "a [-]", "b":1.0e3 , "c":null}"#),
            (r#"{"secret":["\u0073ecret","caf\u00e9","\"secret\\"]}"#, r#"{"[-]":["[-]","caf\u00e9","\"[-]\\"]}"#),
            (
                r#"[41110000, -41110000.5,4111,0.4111000041110000,true]"#,
                r#"["[card]0000", "-[card]0000.5",4111,0.4111000041110000,true]"#,
            ),
            (r#""secret""#, r#""[-]""#),
            (r#"{"lone":"\ud800\nsecret\u0034111"}"#, "{\"lone\":\"\u{fffd}\\n[-][card]\"}"),
            (r#"{"password" : "x","a":["password","x"]}"#, r#"{"password" : "[secret]","a":["password","x"]}"#),
            (r#"[4111000041110000.0,41110000e-3]"#, r#"["[card]0000[card]0000.0","[card]0000e-3"]"#),
            // A secret for each environment: the telling name is above them.
            (
                r#"{"password":{"a":12,"prod":"x"},"b":[{"password":12}],"prod":"x"}"#,
                r#"{"password":{"a":"[secret]","prod":"[secret]"},"b":[{"password":"[secret]"}],"prod":"x"}"#,
            ),
            (
                r#"{"password":{"a":{"b":["x",{"c":1}],"c":true}},"d":{"b":"x"}}"#,
                r#"{"password":{"a":{"b":"[secret]","c":true}},"d":{"b":"x"}}"#,
            ),
            (
                r#"[{"password":["x",{"y":1}]},{"password":null},"x"]"#,
                r#"[{"password":"[secret]"},{"password":null},"x"]"#,
            ),
            (
                r#"[{"name":"password","value":"x"},{"Name":"password","Value":"x"},{"name":"user","value":"x"}]"#,
                r#"[{"name":"password","value":"[secret]"},{"Name":"password","Value":"[secret]"},{"name":"user","value":"x"}]"#,
            ),
            (
                r#"{"password":{"value":"x","value":7},"a":{"value":"x"}}"#,
                r#"{"password":{"value":"[secret]","value":"[secret]"},"a":{"value":"x"}}"#,
            ),
            // A schema says nothing of the value but what it is.
            (
                r#"{"password":{"type":"string","description":"x","default":"x"}}"#,
                r#"{"password":{"type":"string","description":"x","default":"[secret]"}}"#,
            ),
            // Wherever the name stands, and whatever stands between.
            (
                r#"[{"value":"x","name":"password"},{"name":"password","n":{"value":1},"value":1}]"#,
                r#"[{"value":"[secret]","name":"password"},{"name":"password","n":{"value":1},"value":"[secret]"}]"#,
            ),
            (
                r#"{"value":{"a":"x","type":"y"},"key":"password","b":"x"}"#,
                r#"{"value":{"a":"[secret]","type":"y"},"key":"password","b":"x"}"#,
            ),
            (
                r#"{"n":{"name":"password"},"value":1,"name":["password"]}"#,
                r#"{"n":{"name":"password"},"value":1,"name":["password"]}"#,
            ),
            (r#"{"password":"{\"k\":1}"}"#, r#"{"password":"[secret]"}"#),
            (
                r#"{"arguments":"{\"a\":\"x\\n4111\",\"password\":\"y\"}"}"#,
                r#"{"arguments":"{\"a\":\"x\\n[card]\",\"password\":\"[secret]\"}"}"#,
            ),
            (r#"{"cut":"{\"a\":\"x 4111"}"#, r#"{"cut":"{\"a\":\"x [card]"}"#),
            (r#"{"logprobs" : {"content":[{"token":"sec"}]},"a":1}"#, r#"{"logprobs" : null,"a":1}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(redacted(document, &Some4111).as_deref(), Some(left), "{document}");
        }
        for document in ["", "{", r#"{"a":"#, "secret", r#"{"a":"b}"#, "{} {}"] {
            assert_eq!(redacted(document, &Some4111), None, "{document}");
        }
    }

    #[test]
    fn documents_within_documents_are_followed_as_deep_as_anybody_sends_them() {
        let mut document = r#"{"password":"x"}"#.to_owned();
        for _ in 0..NESTED {
            document = serde_json::json!({ "in": document }).to_string();
        }
        let left = redacted(&document, &Some4111).expect("a document");
        assert!(left.contains("[secret]"));
    }

    proptest! {
        #[test]
        fn a_document_in_which_nothing_is_found_stays_as_it_is(text in ".*", number in any::<f64>()) {
            let inner = serde_json::json!([text, { "data": number }]).to_string();
            let document = serde_json::json!({ "text": [text, number, inner], "é\"": { "n": null } }).to_string();
            prop_assert_eq!(redacted(&document, &Nothing), Some(document));
        }
    }
}
