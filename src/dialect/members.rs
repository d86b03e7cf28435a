//! What may be asked of a member's value that was handed out undecoded.
//!
//! Derived readers give up on the whole for one member of the wrong type or named twice; what a provider bills must not
//! be lost for a detail.

use std::borrow::Cow;

use super::meter::ModelName;

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

/// A count as providers send it; anything but a plain unsigned number is no count.
pub(crate) fn count(raw: &str) -> Option<u64> {
    raw.parse().ok()
}

/// The most that anybody bills for one call: ten passes over the largest window that there is. What says more is wrong, and one
/// wrong word would empty a budget that many share, and keep them out of a limit for years.
const MOST_TOKENS: u64 = 100_000_000;

/// A count of what was billed. One that cannot be is none.
pub(crate) fn billed(raw: &str) -> Option<u64> {
    count(raw).filter(|tokens| *tokens <= MOST_TOKENS)
}

/// Whether the value is an object.
pub(crate) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}
