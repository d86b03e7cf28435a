//! What stands in a message: the parts of a user's, and the text of a tool's.

use std::borrow::Cow;

use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Source};
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out};

/// A part of a user's message.
pub(super) fn part(out: &mut Out, takes_files: bool, at: usize, block: &Block<'_>) -> Result<(), Rejection> {
    let path = || format!("messages.{at}.content");
    if let BlockKind::Document { source: Source::Base64 { .. }, title, context: Some(context) } = &block.kind {
        // A file has no place for what is said of it.
        let text = ["Context of ", name(title.as_ref()), ": ", context.as_str()];
        out.open('{').key("type").word("text").key("text").pieces(&text).close('}');
    }
    out.open('{').key("type");
    match &block.kind {
        BlockKind::Text(text) => _ = out.word("text").key("text").text(text),
        BlockKind::Image(source) => {
            out.word("image_url").key("image_url").open('{').key("url");
            match source {
                Source::Url(url) => _ = out.text(url),
                Source::Base64 { media_type, data } => {
                    let media_type = Escaped::new(media_type);
                    out.pieces(&["data:", media_type.as_str(), ";base64,", data]);
                }
                Source::Text(_) => return Err(unsupported(path())),
            }
            out.close('}');
        }
        BlockKind::Document { source: Source::Text(text), title, context } => {
            out.word("text").key("text").pieces(&[&document(text, title.as_ref(), context.as_ref())]);
        }
        BlockKind::Document { source: Source::Base64 { media_type, data }, title, .. } if takes_files => {
            let media_type = Escaped::new(media_type);
            out.word("file").key("file").open('{').key("filename").pieces(&[name(title.as_ref())]);
            out.key("file_data").pieces(&["data:", media_type.as_str(), ";base64,", data]).close('}');
        }
        _ => return Err(unsupported(path())),
    }
    breakpoint(out, block.cache);
    out.close('}');
    Ok(())
}

pub(super) fn breakpoint(out: &mut Out, cache: Option<Cache>) {
    if cache.is_some() {
        out.key("prompt_cache_breakpoint").raw(r#"{"mode":"explicit"}"#);
    }
}

fn name<'t>(title: Option<&'t Escaped<'_>>) -> &'t str {
    title.map_or("document.pdf", Escaped::as_str)
}

/// A document that is text, with what it is called and what is said of it.
fn document(text: &Escaped<'_>, title: Option<&Escaped<'_>>, context: Option<&Escaped<'_>>) -> String {
    let title = title.map_or("document", Escaped::as_str);
    let mut out = [r#"<document title=\""#, title, r#"\">\n"#].concat();
    if let Some(context) = context {
        out.extend(["<context>", context.as_str(), r"</context>\n"]);
    }
    out.extend([text.as_str(), r"\n</document>"]);
    out
}

/// What a tool's message says of what the tool answered, line by line, and what has no place in one: base64 in it would be
/// read as text.
pub(super) fn answered<'w>(
    at: usize,
    content: &'w Content<'w>,
    warnings: &mut Warnings,
) -> Result<(Vec<Cow<'w, str>>, Vec<&'w Block<'w>>), Rejection> {
    let (mut lines, mut media) = (Vec::new(), Vec::new());
    let blocks = match content {
        Content::None => &[][..],
        Content::Text(text) => {
            lines.push(text.as_str().into());
            &[]
        }
        Content::Blocks(blocks) => blocks,
    };
    for block in blocks {
        match &block.kind {
            BlockKind::Text(text) => lines.push(text.as_str().into()),
            BlockKind::Document { source: Source::Text(text), title: None, context: None } => {
                lines.push(text.as_str().into());
            }
            BlockKind::Document { source: Source::Text(text), title, context } => {
                lines.push(document(text, title.as_ref(), context.as_ref()).into());
            }
            BlockKind::Image(_) | BlockKind::Document { .. } => {
                media.push(block);
                let kind = if matches!(block.kind, BlockKind::Image(_)) { "image" } else { "document" };
                lines.push(format!("[{kind} {} attached below]", media.len()).into());
            }
            _ => warnings.dropped(format!("messages.{at}.content"))?,
        }
    }
    Ok((lines, media))
}
