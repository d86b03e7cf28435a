//! Secrets, and masking them in texts that repeat them.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

use super::reason;

/// The shortest secret that is searched for. A shorter one is a placeholder that a server wants as a key (`none`,
/// `ollama`), and may occur in any message.
const SHORTEST: usize = 8;

/// A provider's credential, which must not appear in its errors. It travels with an answer that is yet to be
/// translated, because a message may only reveal it once it is decoded.
#[derive(Clone)]
pub(crate) struct Secret(Arc<[u8]>);

impl Secret {
    /// `None` if it is too short to be a secret.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= SHORTEST).then(|| Secret(secret.into()))
    }

    /// Replaces each byte of the secret by an asterisk, wherever it occurs completely, as it is or in JSON escapes.
    /// Returns how many bytes at the end may be its beginning.
    pub(super) fn cover(&self, text: &mut [u8]) -> usize {
        let mut at = 0;
        while at < text.len() {
            match self.is_at(&text[at..]) {
                Found::Whole(len) => {
                    text[at..at + len].fill(b'*');
                    at += len;
                }
                Found::Begins => return text.len() - at,
                Found::Other => at += 1,
            }
        }
        0
    }

    fn is_at(&self, text: &[u8]) -> Found {
        let mut at = 0;
        for byte in &*self.0 {
            match spelled(&text[at..], *byte) {
                Found::Whole(len) => at += len,
                other => return other,
            }
        }
        Found::Whole(at)
    }

    /// The text with the secret masked; `None` if it does not contain the secret.
    pub(crate) fn covered(&self, text: &str) -> Option<String> {
        let mut covered = text.as_bytes().to_vec();
        self.cover(&mut covered);
        if covered == text.as_bytes() { None } else { String::from_utf8(covered).ok() }
    }

    /// Whether the value contains the secret.
    fn is_in(&self, value: &[u8]) -> bool {
        let mut covered = value.to_vec();
        self.cover(&mut covered);
        covered != value
    }

    /// Removes the headers that contain the secret.
    pub(crate) fn leave(&self, headers: &mut HeaderMap) {
        let named = |(name, value): (&HeaderName, &HeaderValue)| self.is_in(value.as_bytes()).then(|| name.clone());
        let names: Vec<_> = headers.iter().filter_map(named).collect();
        names.into_iter().for_each(|name| _ = headers.remove(name));
    }

    /// Removes the reason phrase if it contains the secret.
    pub(crate) fn leave_reason(&self, extensions: &mut Extensions) {
        if reason::of(extensions).is_some_and(|reason| self.is_in(reason)) {
            reason::forget(extensions);
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

enum Found {
    /// Found completely, in this many bytes.
    Whole(usize),
    /// The text ends before it is decided.
    Begins,
    Other,
}

/// Whether `text` starts with `byte`, as it is or as JSON may escape it.
fn spelled(text: &[u8], byte: u8) -> Found {
    match *text {
        [] | [b'\\'] => Found::Begins,
        [b'\\', next, ..] if next == byte && matches!(byte, b'/' | b'"' | b'\\') => Found::Whole(2),
        [b'\\', b'u', a, b, c, d, ..] => {
            let code = std::str::from_utf8(&[a, b, c, d]).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
            if code == Some(byte.into()) { Found::Whole(6) } else { Found::Other }
        }
        [b'\\', b'u', ..] => Found::Begins,
        [first, ..] if first == byte => Found::Whole(1),
        _ => Found::Other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const KEY: &str = "sk-proj-a/b+c";

    pub(crate) fn secret() -> Secret {
        Secret::new(KEY.as_bytes()).expect("it is long enough")
    }

    #[test]
    fn a_secret_is_covered_as_it_is_and_as_json_escapes_it_and_what_is_like_it_is_not() {
        let stars = |len| "*".repeat(len);
        for spelled in [KEY, r"sk-proj-a\/b+c", r"sk-proj-a\u002Fb\u002bc", r"\u0073k-proj-a/b+c"] {
            let text = format!("key {spelled}, sk-sk-proj-a and {spelled}{spelled}");
            let len = spelled.len();
            let expected = format!("key {}, sk-sk-proj-a and {}", stars(len), stars(2 * len));
            assert_eq!(secret().covered(&text), Some(expected));
        }
        for other in ["", "sk-proj-a/b+", r"sk-proj-a\u002", "sk-proj-a/b-c", r"C:\users\u00e9", "é"] {
            assert_eq!(secret().covered(other), None, "{other}");
        }
        assert!(Secret::new(b"ollama").is_none(), "it is a word");
    }
}
