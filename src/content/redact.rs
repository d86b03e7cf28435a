//! What is left of a body when what must not be kept has been taken out.

use std::borrow::Cow;

use memchr::memchr2;
use serde::de::IgnoredAny;

use crate::body::Gunzip;
use crate::dialect::translate::{Reply, gathered};
use crate::domain::dialect::Dialect;

/// Takes out of a text what must not be kept.
///
/// ```
/// use std::borrow::Cow;
/// use tollgate::content::Redactor;
///
/// struct NoFalcon;
///
/// impl Redactor for NoFalcon {
///     fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
///         if text.contains("Falcon") { text.replace("Falcon", "[project]").into() } else { text.into() }
///     }
/// }
/// assert_eq!(NoFalcon.redact("Falcon flies"), "[project] flies");
/// ```
pub trait Redactor: Send + Sync + 'static {
    /// The text without it; the text itself where there is nothing of the kind. Asked for every text of a body on its own,
    /// decoded, the names of members among them; not on the way of the call. One that panics has the body left out.
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str>;
}

/// The longest that a compressed answer may unpack to.
const UNPACKED: usize = 64 << 20;
/// From here on what has no space in it and is all of base64's letters is taken for data.
const DATA: usize = 256;

/// What kind of body it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) dialect: Dialect,
    pub(super) is_event_stream: bool,
    pub(super) is_gzip: bool,
}

/// What is left of a body, as JSON; `None` if it cannot be read.
pub(super) fn redacted(body: &[u8], form: Form, model: &str, with: &dyn Redactor) -> Option<String> {
    let unpacked = if form.is_gzip { Cow::Owned(unpacked(body)) } else { Cow::Borrowed(body) };
    if form.is_event_stream {
        // Put together first: what is to be found may be split over events.
        let whole = gathered(&unpacked, form.dialect, &Reply::new(model, ""))?;
        return json(&whole, with);
    }
    json(std::str::from_utf8(&unpacked).ok()?, with)
}

/// As far as it can be.
fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut gunzip = Gunzip::new(UNPACKED);
    let mut out = gunzip.push(body).unwrap_or_default();
    out.extend(gunzip.finish().unwrap_or_default());
    out
}

/// The document with every string and number redacted, all else as it is spelled; `None` if it is none.
fn json(document: &str, with: &dyn Redactor) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(document).ok()?;
    let (mut out, mut rest) = (String::with_capacity(document.len()), document);
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        let len = match token.as_bytes().first() {
            Some(b'"') => string(token)?,
            _ => token.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(token.len()),
        };
        let (token, behind) = token.split_at(len);
        out.push_str(&one(token, with)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// How long the string is that a document goes on with, its quotes among it.
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

/// One string or number.
fn one<'a>(token: &'a str, with: &dyn Redactor) -> Option<Cow<'a, str>> {
    let text: Cow<'a, str> = match token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // A half of a pair of surrogates is no text.
        Some(plain) if plain.contains('\\') => serde_json::from_str(token).unwrap_or(Cow::Borrowed(plain)),
        Some(plain) => plain.into(),
        None => token.into(),
    };
    let left = match is_data(&text) {
        true => Cow::Owned(format!("[{} bytes]", text.len())),
        false => with.redact(&text),
    };
    if *left == *text {
        return Some(Cow::Borrowed(token));
    }
    serde_json::to_string(&left).ok().map(Cow::Owned)
}

/// Whether this is an image, a document, a signature: what no redactor can read is not kept.
fn is_data(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    let data = text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    data.is_some() || (text.len() >= DATA && text.bytes().all(|byte| is_letter(byte) || byte == b'\n' || byte == b'\r'))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    struct Upper;

    impl Redactor for Upper {
        fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
            if text.contains("secret") {
                text.replace("secret", "[-]").into()
            } else {
                text.replace("4111", "[card]").into()
            }
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
            (r#"[4111, -4111.5,true]"#, r#"["[card]", "-[card].5",true]"#),
            (r#""secret""#, r#""[-]""#),
            (r#"{"lone":"\ud800 secret"}"#, r#"{"lone":"\\ud800 [-]"}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(json(document, &Upper).as_deref(), Some(left), "{document}");
        }
        for document in ["", "{", r#"{"a":"#, "secret", r#"{"a":"b}"#, "{} {}"] {
            assert_eq!(json(document, &Upper), None, "{document}");
        }
    }

    #[test]
    fn what_nobody_can_read_is_not_kept() {
        let data = "QUJD".repeat(100);
        let document =
            format!(r#"{{"data":"{data}","url":"data:image/png;base64,QUJD","text":"{}"}}"#, "two words ".repeat(50));
        let left = json(&document, &Nothing).expect("a document");
        assert!(!left.contains("QUJD") && left.contains(r#""data":"[400 bytes]""#) && left.contains("two words two"));
    }

    #[test]
    fn a_stream_is_put_together_before_it_is_redacted_compressed_or_not() {
        let stream = ["se", "cr", "et"].map(|piece| {
            format!("data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{piece}\"}},\"finish_reason\":null}}]}}\n\n")
        });
        let stream = stream.concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(stream.as_bytes()).expect("to memory");
        let packed = packed.finish().expect("to memory");
        for (body, is_gzip) in [(stream.as_bytes(), false), (&packed[..], true), (&packed[..packed.len() - 3], true)] {
            let form = Form { dialect: Dialect::OpenAiChat, is_event_stream: true, is_gzip };
            let left = redacted(body, form, "m", &Upper).expect("it is read");
            assert!(left.contains(r#""content":"[-]""#), "{left}");
        }
        let responses = Form { dialect: Dialect::OpenAiResponses, is_event_stream: true, is_gzip: false };
        assert_eq!(redacted(stream.as_bytes(), responses, "m", &Upper), None);
    }

    proptest! {
        #[test]
        fn a_document_in_which_nothing_is_found_stays_as_it_is(text in ".*", number in any::<f64>()) {
            let document = serde_json::json!({ "text": [text, number], "é\"": { "n": null } }).to_string();
            prop_assert_eq!(json(&document, &Nothing), Some(document));
        }
    }
}
