//! Redacts bodies.

use std::borrow::Cow;

use bytes::Bytes;

use super::document;
use crate::body::Gunzip;
use crate::call::Call;
use crate::dialect::head::Head;
use crate::dialect::translate::{Reply, gathered};
use crate::domain::dialect::Dialect;

/// Removes from texts what must not be kept.
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
    /// Returns the redacted text, or the text itself if there is nothing to remove. It never runs while a call waits.
    ///
    /// It is called for every decoded text of a body separately, including the names of members. If the result still
    /// contains backslashes, it is also called for the pieces between them, and for the text without escapes, unless
    /// redacting the result again would change it. If it panics, the body is not kept.
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str>;

    /// Whether the value of a member with this name is always hidden. `"[secret]"` then replaces a text, a number or a
    /// list. In an object it replaces those of all members, however deep, except `type`, `format`, `title` and
    /// `description`: the object may be the schema of a tool's parameter.
    ///
    /// The same goes for the `value` of an object whose `name` or `key` is such a name.
    fn hides(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// The format of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) dialect: Dialect,
    /// With several choices in one stream, their pieces are mixed.
    pub(super) has_choices: bool,
    /// The most that it may decompress to.
    pub(super) most: usize,
    pub(super) is_event_stream: bool,
    pub(super) coding: Coding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    /// An encoding that cannot be decoded here.
    Other,
}

impl Form {
    /// The form of a JSON document of this call.
    pub(super) fn of(call: &Call, most: usize) -> Self {
        let has_choices = call.head().is_some_and(|head| Head::choices(head) > 1);
        Form { dialect: call.dialect(), has_choices, most, is_event_stream: false, coding: Coding::None }
    }
}

/// The redacted body as JSON; `None` if it cannot be read.
pub(super) fn redacted(body: &[u8], form: Form, model: &str, with: &dyn Redactor) -> Option<String> {
    let unpacked = match form.coding {
        Coding::None => Cow::Borrowed(body),
        Coding::Gzip => Cow::Owned(unpacked(body, form.most)?),
        Coding::Other => return None,
    };
    if form.is_event_stream {
        // Assembled first, since a match may be split over events.
        let whole = (!form.has_choices).then(|| gathered(&unpacked, form.dialect, &Reply::new(model, "")))??;
        return document::redacted(&whole, with);
    }
    document::redacted(std::str::from_utf8(&unpacked).ok()?, with)
}

/// Decompresses as much as there is; `None` if that is more than `most`, or no gzip.
fn unpacked(body: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut gunzip = Gunzip::new(most);
    gunzip.push(Bytes::copy_from_slice(body));
    let mut out = Vec::new();
    loop {
        match gunzip.piece().ok()? {
            piece if piece.is_empty() => break,
            piece => out.extend(piece),
        }
    }
    out.extend(gunzip.finish().unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    struct NoSecret;

    impl Redactor for NoSecret {
        fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
            text.replace("secret", "[-]").into()
        }
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
        let (half, chat) = (&packed[..packed.len() - 3], Dialect::OpenAiChat);
        let form =
            Form { dialect: chat, has_choices: false, most: 10_000, is_event_stream: true, coding: Coding::None };
        for (body, coding) in [(stream.as_bytes(), Coding::None), (&packed[..], Coding::Gzip), (half, Coding::Gzip)] {
            let left = redacted(body, Form { coding, ..form }, "m", &NoSecret).expect("it is read");
            assert!(left.contains(r#""content":"[-]""#), "{left}");
        }
        for (body, form) in [
            (stream.as_bytes(), Form { dialect: Dialect::OpenAiResponses, ..form }),
            (stream.as_bytes(), Form { coding: Coding::Other, ..form }),
            (stream.as_bytes(), Form { coding: Coding::Gzip, ..form }),
            (stream.as_bytes(), Form { has_choices: true, ..form }),
            (&packed[..], Form { coding: Coding::Gzip, most: 100, ..form }),
            (&packed[..], form),
        ] {
            assert_eq!(redacted(body, form, "m", &NoSecret), None, "{form:?}");
        }
    }
}
