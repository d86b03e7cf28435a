use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Hands every member of a JSON object to `each`, undecoded, and says whether it was one to its end.
///
/// Derived readers give up on the whole for one member of the wrong type or named twice; what a provider bills must not be
/// lost for a detail. Of several members of one name the last counts, for callers that let it.
pub(crate) fn members<'a>(json: &'a [u8], each: impl FnMut(&str, &'a RawValue)) -> bool {
    struct Members<F>(F);

    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                (self.0)(&key.0, value);
            }
            Ok(())
        }
    }

    let mut document = serde_json::Deserializer::from_slice(json);
    let read: Result<(), serde_json::Error> = document.deserialize_map(Members(each));
    read.and_then(|()| document.end()).is_ok()
}

/// Borrowed unless it is spelled with an escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A string member, if it is one.
pub(crate) fn text<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Key<'a>>(raw.get()).ok().map(|key| key.0)
}

/// A count as providers send it; anything but a plain unsigned number is no count.
pub(crate) fn count(raw: &RawValue) -> Option<u64> {
    raw.get().parse().ok()
}

/// Whether the value is an object.
pub(crate) fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}
