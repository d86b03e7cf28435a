//! Redacts a JSON document: strings, names and identifiers. Everything else keeps its spelling.

use std::borrow::Cow;

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::Redactor;
use super::data::without_data;
use super::prose;
use crate::wire::json::Raw;

/// Members that repeat, in pieces, what the text beside them says.
const PIECES: [&str; 2] = ["logprobs", "top_logprobs"];
/// A number with this many digits may identify a person.
const IDENTIFIER: usize = 8;
/// How deeply documents may be nested in texts of other documents.
pub(super) const NESTED: usize = 4;

/// `None` if the text is no JSON document.
pub(super) fn redacted(document: &str, with: &dyn Redactor) -> Option<String> {
    nested(document, with, NESTED)
}

fn nested(document: &str, with: &dyn Redactor, depth: usize) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(document).ok()?;
    let (mut out, mut rest) = (String::with_capacity(document.len()), document);
    // The name of the member whose value comes next.
    let mut name: Option<Cow<'_, str>> = None;
    // `holds`: this object's `value` member is a secret, because of the object's own name or a `name` member in it;
    // environments are listed that way. `next_holds`: that is true of the next object.
    let (mut holds, mut next_holds) = (false, false);
    while let Some(at) = rest.find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        holds = match std::mem::take(&mut next_holds) {
            true => !before.contains('}'),
            false => holds && !before.contains(['{', '}']),
        };
        let len = if token.starts_with('"') { string(token)? } else { number(token) };
        let (token, behind) = token.split_at(len);
        rest = behind;
        if !token.starts_with('"') {
            out.push_str(&spelled(token, token, &digits(token, with))?);
            continue;
        }
        let text = said(token);
        let Some(value) = behind.trim_ascii_start().strip_prefix(':').map(str::trim_ascii_start) else {
            let name = name.take();
            let is_name = |name: &str| ["name", "key"].iter().any(|word| name.eq_ignore_ascii_case(word));
            holds |= name.as_deref().is_some_and(is_name) && with.hides(&text);
            out.push_str(&spelled(token, &text, &value(name.as_deref(), &text, with, depth))?);
            continue;
        };
        out.push_str(&spelled(token, &text, &with.redact(&text))?);
        let instead = match value.as_bytes().first()? {
            _ if PIECES.contains(&&*text) => Some("null"),
            b'{' => {
                next_holds = with.hides(&text);
                None
            }
            b't' | b'f' | b'n' => None,
            _ => (with.hides(&text) || holds && text.eq_ignore_ascii_case("value")).then_some(r#""[secret]""#),
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
    match number.len() >= IDENTIFIER && number.bytes().all(|byte| byte.is_ascii_digit()) {
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
                r#"["[card]0000", -41110000.5,4111,0.4111000041110000,true]"#,
            ),
            (r#""secret""#, r#""[-]""#),
            (r#"{"lone":"\ud800\nsecret\u0034111"}"#, "{\"lone\":\"\u{fffd}\\n[-][card]\"}"),
            (r#"{"password" : "x","a":["password","x"]}"#, r#"{"password" : "[secret]","a":["password","x"]}"#),
            (
                r#"{"password":{"a":12},"b":[{"password":12}]}"#,
                r#"{"password":{"a":12},"b":[{"password":"[secret]"}]}"#,
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
            (
                r#"{"password":{"type":"string"},"value":1,"key":"password","n":{"value":1},"value":1}"#,
                r#"{"password":{"type":"string"},"value":1,"key":"password","n":{"value":1},"value":1}"#,
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
