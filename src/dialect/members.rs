//! What may be asked of a member's value that was handed out undecoded.
//!
//! Derived readers give up on the whole for one member of the wrong type or named twice; what a provider bills must not
//! be lost for a detail.

use std::borrow::Cow;
use std::sync::Arc;

use super::meter::ModelName;
use crate::wire::json::Raw;

pub(crate) use crate::wire::json::members;

/// A string member, if it is one.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    match inside.contains('\\') {
        true => serde_json::from_str(raw).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inside)),
    }
}

/// What an answer calls its model.
pub(crate) fn model(raw: &str) -> Option<ModelName> {
    text(raw).and_then(|name| ModelName::new(&name))
}

/// What a provider calls its error, in an answer or an event that has one: its code, where that is a word, or its type. A word and
/// no sentence, which might say something of the request.
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

/// A count as providers send it; anything but a plain unsigned number is no count.
pub(crate) fn count(raw: &str) -> Option<u64> {
    raw.parse().ok()
}

/// The most that anybody bills for one call: ten passes over the largest window that there is. What says more is wrong, and one
/// wrong word would empty a budget that many share, and keep them out of a limit for years.
const MOST_TOKENS: u64 = 100_000_000;

/// A count of what was billed, however the number is spelled: some servers write every number as a floating one. One that cannot
/// be is none.
pub(crate) fn billed(raw: &str) -> Option<u64> {
    count(raw).or_else(|| whole(raw)).filter(|tokens| *tokens <= MOST_TOKENS)
}

/// The count of this name within an object, as [`billed`] has it.
pub(crate) fn detail(object: &str, name: &str) -> Option<u64> {
    let mut found = None;
    members(object.as_bytes(), |key, value| {
        if key == name {
            found = billed(value);
        }
    });
    found
}

/// A number like `1000.0` or `1e3`.
fn whole(raw: &str) -> Option<u64> {
    let number = Raw::new(raw).number().filter(|number| number.fract() == 0.0)?;
    // Up to there every whole number is one of `f64`, and the other way round.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within the bounds")]
    (0.0..=MOST_TOKENS as f64).contains(&number).then_some(number as u64)
}

/// Whether the value is an object.
pub(crate) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}
