//! Images and documents within texts. No redactor can read them, so they are not kept.

use std::borrow::Cow;

/// From this length on, a run of base64 characters counts as data.
const LONG: usize = 256;
/// The same, in a place where data is expected.
const SHORT: usize = 16;
/// Base64 that is broken into lines has 64 or 76 characters per line.
const LINE: usize = 60;
/// Where the APIs have data: `source.data` and `input_audio.data`, `file.file_data`, `b64_json`.
const MEMBERS: [&str; 3] = ["data", "file_data", "b64_json"];

/// The text with each run of data replaced by its length.
pub(super) fn without_data<'a>(name: Option<&str>, text: &'a str) -> Cow<'a, str> {
    let is_member = name.is_some_and(|name| MEMBERS.contains(&name));
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < text.len() {
        let run = run(&text[at..]);
        let is_data =
            run >= LONG || (run >= SHORT && is_member && run == text.len()) || (run > 0 && is_behind_mark(&text[..at]));
        if is_data {
            out.push_str(&text[copied..at]);
            out.push_str(&format!("[{run} bytes]"));
            copied = at + run;
        }
        at += run;
        // Continue where the next run may begin.
        at += text[at..].bytes().position(is_letter).unwrap_or(text.len() - at);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte)
}

/// The length of the run of possible data at the start of a text, including line ends between full lines.
fn run(text: &str) -> usize {
    let (mut len, mut line) = (0, 0);
    for byte in text.bytes() {
        match byte {
            byte if is_letter(byte) => line += 1,
            b'\n' | b'\r' if line >= LINE || (line == 0 && len > 0) => line = 0,
            _ => break,
        }
        len += 1;
    }
    text[..len].trim_ascii_end().len()
}

/// Whether a text ends with the mark of a `data:` URL, in front of its data (RFC 2397).
fn is_behind_mark(before: &str) -> bool {
    const MARK: &str = ";base64,";
    before.len() >= MARK.len() && before.as_bytes()[before.len() - MARK.len()..].eq_ignore_ascii_case(MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_read_is_not_kept() {
        let long = "QUJD".repeat(100);
        let lines = format!("{}\n{}\n{}", &long[..76], &long[..76], &long).replace("QUJDQUJDQUJD", "QUJDQUJDQUJD");
        for (name, text, left) in [
            (None, &*long, "[400 bytes]".to_owned()),
            (Some("text"), &format!("see {long} there"), "see [400 bytes] there".to_owned()),
            (Some("data"), "c2hvcnQgYnV0IGRhdGE=", "[20 bytes]".to_owned()),
            (Some("data"), "c2hvcnQ=", "c2hvcnQ=".to_owned()),
            (Some("data"), "see src/content/document.rs", "see src/content/document.rs".to_owned()),
            (Some("text"), "c2hvcnQgYnV0IGRhdGE=", "c2hvcnQgYnV0IGRhdGE=".to_owned()),
            (None, "![x](DATA:image/png;BASE64,QUJD) and é", "![x](DATA:image/png;BASE64,[4 bytes]) and é".to_owned()),
            (None, "data:;base64,QUJD", "data:;base64,[4 bytes]".to_owned()),
            (None, &lines, format!("[{} bytes]", lines.len())),
            (None, &"word\n".repeat(200), "word\n".repeat(200)),
            (None, &"zwei Wörter ".repeat(50), "zwei Wörter ".repeat(50)),
            (None, "", String::new()),
        ] {
            assert_eq!(without_data(name, text), left, "{text}");
        }
    }
}
