//! Readers for the undecoded value of a member.
//!
//! A derived deserializer gives up on the whole answer for one member of the wrong type or named twice; the usage that
//! a provider bills must not be lost for a detail.

use std::borrow::Cow;
use std::sync::Arc;

use super::meter::ModelName;
use crate::wire::json::Raw;

pub(crate) use crate::wire::json::members;

/// The text, if the member is a string.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    match inside.contains('\\') {
        true => serde_json::from_str(raw).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inside)),
    }
}

/// The model that an answer names.
pub(crate) fn model(raw: &str) -> Option<ModelName> {
    text(raw).and_then(|name| ModelName::new(&name))
}

/// The provider's name for its error, in an answer or an event that has one: its code, if that is a word, or its type.
/// It is one word, not a sentence, since a sentence might repeat parts of the request.
pub(crate) fn error_name(json: &[u8]) -> Option<Arc<str>> {
    let mut error = None;
    members(json, |key, value| {
        if key == "error" {
            error = Some(Raw::new(value));
        }
    });
    let is_word = |name: &Cow<'_, str>| {
        name.len() <= 64
            && name.contains(|letter: char| letter.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let named = error?.pick(["code", "type"]).into_iter().flatten();
    named.filter_map(|name| text(name.as_str())).find(is_word).map(Arc::from)
}

/// A count; `None` for anything but a plain unsigned number.
pub(crate) fn count(raw: &str) -> Option<u64> {
    raw.parse().ok()
}

/// The most that anybody bills for one call: ten passes over the largest window. A higher figure is wrong, and could
/// otherwise empty a shared budget, and block a limit for years.
const MOST_TOKENS: u64 = 100_000_000;

/// A count of billed tokens in any notation: some servers write every number as a float. `None` if it cannot be a
/// count.
pub(crate) fn billed(raw: &str) -> Option<u64> {
    count(raw).or_else(|| whole(raw)).filter(|tokens| *tokens <= MOST_TOKENS)
}

/// The count with this name in an object, read like [`billed`].
pub(crate) fn detail(object: &str, name: &str) -> Option<u64> {
    let mut found = None;
    members(object.as_bytes(), |key, value| {
        if key == name {
            found = billed(value);
        }
    });
    found
}

/// Reads a number such as `1000.0` or `1e3`.
fn whole(raw: &str) -> Option<u64> {
    let number = Raw::new(raw).number().filter(|number| number.fract() == 0.0)?;
    // Up to this bound, `f64` represents every whole number exactly.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within the bounds")]
    (0.0..=MOST_TOKENS as f64).contains(&number).then_some(number as u64)
}

/// Whether the value is an object.
pub(crate) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}
