//! Recognizes a request that continues an earlier one, by a fingerprint of the request up to each of its messages.
//!
//! A provider that has billed the input tokens of a request bills no more for the same beginning of the next one, so a
//! budget need not guess at it again. Bytes are compared. Everything outside the messages counts, since, for example,
//! the choice of a tool changes what a provider adds. `cache_control` does not count: clients move it along from turn
//! to turn, and it is not text. Callers count the bytes that a fingerprint leaves out as new.
//!
//! Use it, through [`Head::prefixes`](super::head::Head::prefixes), to tell whether a request continues one that you
//! have seen.
//!
//! ```
//! use tollgate::{Dialect, dialect::head::Head};
//!
//! let system = "Be kind. ".repeat(1_000); // requests of less than 4 KiB have no fingerprints
//! let request = |turns: &str| format!(r#"{{"model":"claude-x","system":"{system}","messages":[{turns}]}}"#);
//! let (hi, ho) = (r#"{"role":"user","content":"hi"}"#, r#"{"role":"assistant","content":"ho"}"#);
//!
//! let first = Head::read(request(hi).as_bytes(), Dialect::Anthropic)?;
//! let second = Head::read(request(&format!("{hi},{ho},{hi}")).as_bytes(), Dialect::Anthropic)?;
//! assert_eq!(first.prefixes().last(), second.prefixes().first());
//! # Ok::<(), tollgate::Rejection>(())
//! ```

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::LazyLock;

use foldhash::quality::RandomState;
use memchr::memmem;

use crate::wire::json::Found;

/// Shorter requests are not worth it: they cost next to nothing, however many tokens they may be.
const SHORTEST: usize = 4 << 10;
/// How many messages back an earlier end is looked for; turns are shorter.
const KEPT: usize = 64;

pub(super) fn is_worth_it(body: &[u8]) -> bool {
    body.len() >= SHORTEST
}

/// A beginning of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prefix {
    /// A fingerprint, valid in this process only. Nobody can deliberately make two beginnings with the same one.
    pub fingerprint: u64,
    /// The number of bytes of the request that it covers.
    pub bytes: u64,
}

/// Seeded anew in every process, so that nobody can prepare two requests with the same fingerprint.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

const MARKER: &[u8] = br#""cache_control""#;

/// The last beginnings of `body`, each with one message more than the one before. `marked` says whether it may contain
/// `cache_control`.
pub(super) fn prefixes(body: &[u8], messages: &Found, each: &[Range<usize>], marked: bool) -> Vec<Prefix> {
    if !is_worth_it(body) {
        return Vec::new();
    }
    let outside = [&body[..messages.span.start], &body[messages.span.end..]];
    let (outer, mut bytes) = (mix(mix(0, outside[0]), outside[1]), outside[0].len() + outside[1].len());
    let (mut inner, mut scratch) = (0, Vec::new());
    let earlier = each.len().saturating_sub(KEPT);
    let mut prefixes = Vec::with_capacity(each.len() - earlier);
    for (index, span) in each.iter().enumerate() {
        let message = &body[span.clone()];
        let text = match marked {
            true => unmarked(message, &mut scratch),
            false => message,
        };
        (inner, bytes) = (mix(inner, text), bytes + text.len());
        if index >= earlier {
            prefixes.push(Prefix { fingerprint: mix(inner, &outer.to_le_bytes()), bytes: bytes as u64 });
        }
    }
    prefixes
}

fn mix(before: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SEED.build_hasher();
    hasher.write_u64(before);
    hasher.write(bytes);
    hasher.finish()
}

/// A message without its `cache_control` members, including any in the input of a tool call.
///
/// Each removal is a whole member and a comma. It begins where only a key can, and consists of words without quotes or
/// brackets. So the rest parses exactly as it did before.
fn unmarked<'a>(message: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.clear();
    let mut rest = message;
    while let Some(at) = memmem::find(rest, MARKER) {
        let (before, after) = (&rest[..at], &rest[at + MARKER.len()..]);
        let kept = before.trim_ascii_end();
        // Within a text its quotes would be escaped; a key that only ends this way has a backslash before it.
        match member(after).filter(|_| matches!(kept.last(), Some(b'{' | b','))) {
            Some(len) => {
                // With the comma before it, or else the one behind it.
                let (kept, behind) = match (kept.strip_suffix(b","), after[len..].trim_ascii_start()) {
                    (Some(kept), behind) => (kept, behind),
                    (None, behind) => (kept, behind.strip_prefix(b",").unwrap_or(behind)),
                };
                scratch.extend_from_slice(kept);
                rest = behind;
            }
            None => {
                scratch.extend_from_slice(&rest[..at + MARKER.len()]);
                rest = after;
            }
        }
    }
    if scratch.is_empty() {
        return message;
    }
    scratch.extend_from_slice(rest);
    scratch
}

/// The length of a colon and a flat object of plain words: every `cache_control` has this form.
fn member(after: &[u8]) -> Option<usize> {
    let mut rest = sign(sign(after, b':')?, b'{')?;
    loop {
        rest = word(sign(word(rest)?, b':')?)?;
        match sign(rest, b',') {
            Some(more) => rest = more,
            None => return sign(rest, b'}').map(|rest| after.len() - rest.len()),
        }
    }
}

/// What follows this character.
fn sign(text: &[u8], sign: u8) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(&[sign])
}

/// What follows a string of a few letters.
fn word(text: &[u8]) -> Option<&[u8]> {
    let inside = sign(text, b'"')?;
    let end = inside.iter().take(32).position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?;
    inside[end..].strip_prefix(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dialect::Dialect;

    /// Long enough to be worth it.
    fn request(messages: &[&str], rest: &str) -> String {
        format!(r#"{{"model":"m","system":"{}","messages":[{}]{rest}}}"#, "s".repeat(SHORTEST), messages.join(","))
    }

    fn of(body: &str) -> Vec<Prefix> {
        let head = crate::dialect::head::Head::read(body.as_bytes(), Dialect::Anthropic).expect("a head");
        head.prefixes().to_vec()
    }

    const HI: &str = r#"{"role":"user","content":"hi"}"#;
    const HO: &str = r#"{"role":"assistant","content":"ho"}"#;
    const HUM: &str = r#"{"role":"user","content":[{"type":"text","text":"hum"}]}"#;

    #[test]
    fn a_conversation_that_goes_on_begins_as_it_did() {
        let (first, second) = (of(&request(&[HI], "")), of(&request(&[HI, HO, HUM], "")));
        assert_eq!((first.len(), second.len()), (1, 3));
        assert_eq!(first[0], second[0]);
        let whole = request(&[HI, HO, HUM], "").len();
        assert_eq!(second[2].bytes as usize, whole - r#"[,,]"#.len(), "all but the commas and brackets between");
        for other in [
            request(&[HO], ""),
            request(&[HUM, HI], ""),
            request(&[HI], r#","tool_choice":{"type":"any"}"#),
            request(&[HI], " "),
            request(&[HI], "").replace(r#""m""#, r#""n""#),
            request(&[HI], "").replace("sss", "sst"),
            request(&[r#"{"role":"user","content":"hi" }"#], ""),
        ] {
            assert_ne!(of(&other)[0].fingerprint, first[0].fingerprint, "{}", &other[SHORTEST..]);
        }
        assert!(of(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#).is_empty(), "not worth it");
    }

    #[test]
    fn a_cache_control_that_moves_along_is_left_out_and_not_counted() {
        let plain = r#"{"role":"user","content":[{"type":"text","text":"hum"},{"type":"text","text":"dee"}]}"#;
        let bare = of(&request(&[plain], ""));
        for marked in [
            r#"{"role":"user","content":[{"type":"text","text":"hum"},{"type":"text","text":"dee","cache_control":{"type":"ephemeral"}}]}"#,
            r#"{"role":"user","content":[{"cache_control":{"type":"ephemeral","ttl":"1h"},"type":"text","text":"hum"},{"type":"text","text":"dee"}]}"#,
            r#"{"role":"user","content":[{"type":"text", "cache_control" : { "type":"ephemeral" },"text":"hum"},{"type":"text","text":"dee"}]}"#,
        ] {
            assert_eq!(of(&request(&[marked], "")), bare, "{marked}");
        }
    }

    #[test]
    fn two_requests_that_read_differently_never_look_the_same() {
        let called = |input: &str| {
            // With one in its place besides: where there is none, none is looked for.
            let block = format!(
                r#"[{{"type":"tool_use","id":"t","name":"n","input":{input},"cache_control":{{"type":"ephemeral"}}}}]"#
            );
            of(&request(&[&format!(r#"{{"role":"assistant","content":{block}}}"#)], ""))[0]
        };
        // What is room between two members in the one is text in the other: nobody bills the first.
        let room = " ".repeat(1_000);
        for (empty, full) in [
            (
                format!(r#"{{",":1{room},":":1,"cache_control":{{"x":"}}"}}}}"#),
                format!(r#"{{"cache_control":{{"x":"}}",":1{room},":":1"}}}}"#),
            ),
            (
                format!(r#"{{"a\"cache_control":{{"x":"y"}},",":1{room},"b":1}}"#),
                format!(r#"{{"a\",":1{room},"b":1}}"#),
            ),
        ] {
            for json in [&empty, &full] {
                serde_json::from_str::<serde::de::IgnoredAny>(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            }
            assert_ne!(called(&empty), called(&full), "{empty}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_few_letters_in_it_and_nothing_that_may_begin_or_end_a_text() {
        assert_eq!(member(br#": {"type":"ephemeral", "ttl" :"1h"} ,"#), Some(35));
        for other in [r#":{"x":"\"},"#, r#":{"x":"}"}"#, r#":{"x":" "}"#, r#":{"x":1}"#, ":{}", r#":"x""#] {
            assert_eq!(member(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_only_looks_like_a_cache_control_counts() {
        let words = |text: &str| request(&[&format!(r#"{{"role":"user","content":{text}}}"#)], "");
        let same = [
            r#""say \"cache_control\":{}""#,
            r#""say \"cache_control\":{\"a\":1}""#,
            r#"[{"type":"text","text":"cache_control"}]"#,
            r#"[{"type":"text","text":"cache_control","cache_control":{"a":{}}}]"#,
            r#"[{"type":"text","text":"cache_control","cache_control":{"a":{"b":1}}}]"#,
        ];
        let all: std::collections::HashSet<_> = same.iter().map(|text| of(&words(text))[0].fingerprint).collect();
        assert_eq!(all.len(), same.len());
    }
}
