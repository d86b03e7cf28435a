//! Documents and images of a message, and their sources.

use std::borrow::Cow;

use crate::dialect::canon::conversation::{BlockKind, Source};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{invalid, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// A document: one block, or several that keep the order if it has both text and images.
pub(super) fn document<'a>(
    path: &Path<'_>,
    given: Option<Raw<'a>>,
    title: Option<Escaped<'a>>,
    context: Option<Escaped<'a>>,
) -> Result<Vec<BlockKind<'a>>, Rejection> {
    let is_list = |source: Raw<'_>| source.member("type").and_then(Raw::text).is_some_and(|t| t.as_str() == "content");
    let Some(list) = given.filter(|given| is_list(*given)) else {
        return Ok(vec![BlockKind::Document { source: source(path, given)?, title, context }]);
    };
    let wrong = |why: &str| invalid(format!("{path}.source.content"), why);
    let content = list.member("content").ok_or_else(|| wrong("is missing"))?;
    if let Some(text) = content.text() {
        return Ok(vec![BlockKind::Document { source: Source::Text(text), title, context }]);
    }
    if !content.is_array() {
        return Err(wrong("must be a string or a list of blocks"));
    }
    let mut pieces = Pieces { kinds: Vec::new(), text: None, title, context };
    let (source_path, content_path);
    source_path = path.member("source");
    content_path = source_path.member("content");
    for (at, block) in content.elements().enumerate() {
        let path = content_path.at(at);
        let [kind, text, image] = block.pick(["type", "text", "source"]);
        match kind.and_then(Raw::text).unwrap_or_default().as_str() {
            "text" => {
                let text = text.and_then(Raw::text);
                pieces.text(&text.ok_or_else(|| invalid(format!("{path}.text"), "must be a string"))?);
            }
            "image" => pieces.image(self::image(&path, image)?),
            _ => return Err(invalid(format!("{path}.type"), "must be text or image")),
        }
    }
    Ok(pieces.end())
}

/// The title of further pieces of a document, if the first has one.
const CONTINUED: &str = "(continued)";

/// The blocks that a document becomes.
struct Pieces<'a> {
    kinds: Vec<BlockKind<'a>>,
    /// Text since the last image.
    text: Option<String>,
    /// Taken by the first piece: a client's title may be long, and would be repeated with each piece.
    title: Option<Escaped<'a>>,
    /// Taken by the first piece.
    context: Option<Escaped<'a>>,
}

impl<'a> Pieces<'a> {
    fn text(&mut self, piece: &Escaped<'_>) {
        match &mut self.text {
            Some(text) => text.extend([r"\n", piece.as_str()]),
            None => self.text = Some(piece.as_str().to_owned()),
        }
    }

    fn image(&mut self, source: Source<'a>) {
        let says_what_it_is = self.title.is_some() || self.context.is_some();
        if self.text.is_some() || (self.kinds.is_empty() && says_what_it_is) {
            self.flush();
        }
        self.kinds.push(BlockKind::Image(source));
    }

    fn flush(&mut self) {
        let source = Source::Text(Escaped::owned(self.text.take().unwrap_or_default()));
        let title = self.title.take();
        self.title = title.as_ref().map(|_| Escaped::new(CONTINUED));
        self.kinds.push(BlockKind::Document { source, title, context: self.context.take() });
    }

    fn end(mut self) -> Vec<BlockKind<'a>> {
        if self.text.is_some() || self.kinds.is_empty() {
            self.flush();
        }
        self.kinds
    }
}

/// The image types that Anthropic accepts.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The source of an image.
pub(super) fn image<'a>(path: &Path<'_>, given: Option<Raw<'a>>) -> Result<Source<'a>, Rejection> {
    let mut source = source(path, given)?;
    if let Source::Base64 { media_type, .. } = &mut source {
        // A common wrong name.
        match media_type.to_ascii_lowercase().as_str() {
            "image/jpg" => *media_type = "image/jpeg".into(),
            lower if lower != &**media_type => *media_type = lower.to_owned().into(),
            _ => {}
        }
    }
    match &source {
        Source::Base64 { media_type, .. } if !IMAGES.contains(&&**media_type) => {
            Err(invalid(format!("{path}.source.media_type"), "must be image/jpeg, image/png, image/gif or image/webp"))
        }
        _ => Ok(source),
    }
}

pub(super) fn source<'a>(path: &Path<'_>, source: Option<Raw<'a>>) -> Result<Source<'a>, Rejection> {
    let wrong = |why: &str| invalid(format!("{path}.source"), why);
    let source = source.ok_or_else(|| wrong("is missing"))?;
    let word = |name: &str| source.member(name).and_then(Raw::text);
    match word("type").unwrap_or_default().as_str() {
        "base64" => {
            let media_type = word("media_type").ok_or_else(|| wrong("has no media_type"))?;
            let data = word("data").ok_or_else(|| wrong("has no data"))?.into_plain();
            let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
            if !data.bytes().all(is_base64) {
                return Err(wrong("is not base64"));
            }
            Ok(Source::Base64 { media_type: Cow::Owned(media_type.into_plain().into_owned()), data })
        }
        "text" => Ok(Source::Text(word("data").ok_or_else(|| wrong("has no data"))?)),
        "url" => Ok(Source::Url(word("url").ok_or_else(|| wrong("has no url"))?)),
        // Files belong to one provider; another does not have them.
        "file" => Err(unsupported(format!("{path}.source"))),
        _ => Err(wrong("has an unknown type")),
    }
}
