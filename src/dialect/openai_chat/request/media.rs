//! Images and files of a message, which Chat Completions clients send as data URLs.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use percent_encoding::percent_decode_str;

use crate::dialect::canon::conversation::{BlockKind, Source};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, inexpressible, invalid, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// The image types that both APIs accept, by the beginning of such a file in base64.
const IMAGES: [(&str, &str); 4] = [
    ("/9j/", "image/jpeg"),
    ("iVBORw0KGgo", "image/png"),
    ("R0lGOD", "image/gif"),
    // `RIFF`; the provider refuses files that are not images.
    ("UklGR", "image/webp"),
];
const PDF: (&str, &str) = ("JVBERi0", "application/pdf");

/// An `image_url` part.
pub(super) fn image<'a>(path: &Path<'_>, part: Raw<'a>, warnings: &mut Warnings) -> Result<BlockKind<'a>, Rejection> {
    let value = part.member("image_url").ok_or_else(|| invalid(format!("{path}.image_url"), "is missing"))?;
    let url = value.text().or_else(|| value.member("url").and_then(Raw::text));
    let url = url.ok_or_else(|| invalid(format!("{path}.image_url.url"), "must be a string"))?;
    if value.member("detail").and_then(Raw::text).is_some_and(|detail| detail.as_str() != "auto") {
        warnings.dropped("messages.content.image_url.detail")?;
    }
    let starts = |start: &str| url.as_str().get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start));
    if starts("http:") || starts("https:") {
        return Ok(BlockKind::Image(Source::Url(url)));
    }
    if !starts("data:") {
        return Err(invalid(format!("{path}.image_url.url"), "must be an http, https or data URL"));
    }
    let (media_type, data) = data_url(url.into_plain());
    let data = data.ok_or_else(|| invalid(format!("{path}.image_url.url"), "is not a data URL"))?;
    match image_type(&media_type, &data) {
        Some(media_type) => Ok(BlockKind::Image(Source::Base64 { media_type: media_type.into(), data })),
        None => Err(inexpressible(format!("{path}.image_url.url"), "must be a JPEG, PNG, GIF or WebP image")),
    }
}

/// A `file` part.
pub(super) fn file<'a>(path: &Path<'_>, part: Raw<'a>) -> Result<BlockKind<'a>, Rejection> {
    let file = part.member("file").ok_or_else(|| invalid(format!("{path}.file"), "is missing"))?;
    let Some(data) = file.member("file_data").and_then(Raw::text) else {
        // Files belong to one provider; another does not have them.
        return Err(unsupported(format!("{path}.file.file_id")));
    };
    let title = file.member("filename").and_then(Raw::text);
    let data = data.into_plain();
    let (media_type, data) = match data.starts_with("data:") {
        true => data_url(data),
        false => (String::new(), base64_text(without_blanks(data))),
    };
    let data = data.ok_or_else(|| invalid(format!("{path}.file.file_data"), "is neither a data URL nor base64"))?;
    if media_type == PDF.1 || data.starts_with(PDF.0) {
        return Ok(BlockKind::Document {
            source: Source::Base64 { media_type: PDF.1.into(), data },
            title,
            context: None,
        });
    }
    if let Some(media_type) = image_type(&media_type, &data) {
        return Ok(BlockKind::Image(Source::Base64 { media_type: media_type.into(), data }));
    }
    if media_type.starts_with("text/") {
        let decoded = STANDARD.decode(&*data).or_else(|_| STANDARD_NO_PAD.decode(&*data)).ok();
        if let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
            return Ok(BlockKind::Document {
                source: Source::Text(Escaped::new(&text).into_owned()),
                title,
                context: None,
            });
        }
    }
    Err(inexpressible(format!("{path}.file.file_data"), "must be a PDF, text or an image"))
}

/// The type that a data URL states, without parameters, and its payload as base64.
fn data_url(url: Cow<'_, str>) -> (String, Option<Cow<'_, str>>) {
    let Some(comma) = url.find(',') else { return (String::new(), None) };
    let head = url.get("data:".len()..comma).unwrap_or_default();
    let media_type = head.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_base64 = head.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
    let payload = match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(comma + 1..).unwrap_or_default()),
        Cow::Owned(mut url) => {
            url.drain(..=comma);
            Cow::Owned(url)
        }
    };
    let data = match is_base64 {
        true => without_blanks(payload),
        false => Cow::Owned(STANDARD.encode(percent_decode_str(&payload).collect::<Vec<u8>>())),
    };
    (media_type, base64_text(data))
}

fn without_blanks(data: Cow<'_, str>) -> Cow<'_, str> {
    match data.bytes().any(|byte| byte.is_ascii_whitespace()) {
        true => Cow::Owned(data.split_ascii_whitespace().collect()),
        false => data,
    }
}

/// Data that is not empty and is base64. It is written as it is, and a quote in it would end its string.
fn base64_text(data: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    Some(data).filter(|data| !data.is_empty() && data.bytes().all(is_one))
}

/// The actual type of the data, whatever was stated: providers refuse an image that is not of its stated type.
fn image_type(stated: &str, data: &str) -> Option<&'static str> {
    if let Some((_, seen)) = IMAGES.iter().find(|(start, _)| data.starts_with(start)) {
        return Some(seen);
    }
    let stated = if stated == "image/jpg" { "image/jpeg" } else { stated };
    IMAGES.iter().map(|(_, known)| *known).find(|known| *known == stated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::translate::Mode;

    fn read(url: &str) -> Result<(String, String), String> {
        let part = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        match image(&Path::root("messages.0.content.0"), Raw::new(&part), &mut Warnings::new(Mode::Compat)) {
            Ok(BlockKind::Image(Source::Base64 { media_type, data })) => Ok((media_type.into(), data.into())),
            Ok(other) => Err(format!("{other:?}")),
            Err(rejection) => Err(rejection.message().to_owned()),
        }
    }

    #[test]
    fn a_data_url_is_the_picture_that_it_holds() {
        let png = |data: &str| Ok(("image/png".to_owned(), data.to_owned()));
        assert_eq!(read("data:image/png;base64,iVBORw0KGgoA"), png("iVBORw0KGgoA"));
        assert_eq!(read("data:image/jpeg;base64,iVBORw0KGgoA"), png("iVBORw0KGgoA"), "it is what it is");
        assert_eq!(read(r"data:image\/png;base64,iVBO\nRw0K GgoA"), png("iVBORw0KGgoA"));
        assert_eq!(read("data:image/jpg;base64,AAAA"), Ok(("image/jpeg".into(), "AAAA".into())));
        assert_eq!(read("data:image/gif,%47%49F89a"), Ok(("image/gif".into(), "R0lGODlh".into())));
    }

    #[test]
    fn what_is_no_picture_is_refused_by_its_path() {
        for url in ["data:image/tiff;base64,AAAA", "data:image/png", "ftp://x/y.png", "data:image/png;base64,", "é"] {
            let error = read(url).expect_err(url);
            assert!(error.starts_with("messages.0.content.0.image_url.url: "), "{url}: {error}");
        }
    }
}
