//! The parts of a message: of a user's message, and of a tool's result.

use std::borrow::Cow;

use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Source};
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out};

/// Replaces a document from a tool that the server does not accept in any form.
const LEFT_OUT: &str = "[a document that this model cannot be shown]";

/// Whether a user's message can have a part for it.
fn has_part(kind: &BlockKind<'_>, takes_files: bool) -> bool {
    match kind {
        BlockKind::Text(_) => true,
        BlockKind::Image(source) => !matches!(source, Source::Text(_)),
        BlockKind::Document { source, .. } => match source {
            Source::Text(_) => true,
            Source::Base64 { .. } => takes_files,
            Source::Url(_) => false,
        },
        _ => false,
    }
}

/// A part of a user's message.
pub(super) fn part(out: &mut Out, takes_files: bool, at: usize, block: &Block<'_>) -> Result<(), Rejection> {
    let path = || path_of(at, block);
    if let BlockKind::Document { source: Source::Base64 { .. }, title, context: Some(context) } = &block.kind {
        // A file has no member for its context.
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

/// The path of the block in the client's request.
pub(super) fn path_of(at: usize, block: &Block<'_>) -> String {
    let block = block.at.map(|block| format!(".{block}")).unwrap_or_default();
    format!("messages.{at}.content{block}")
}

pub(super) fn breakpoint(out: &mut Out, cache: Option<Cache>) {
    if cache.is_some() {
        out.key("prompt_cache_breakpoint").raw(r#"{"mode":"explicit"}"#);
    }
}

fn name<'t>(title: Option<&'t Escaped<'_>>) -> &'t str {
    title.map_or("document.pdf", Escaped::as_str)
}

/// A text document, with its title and context.
fn document(text: &Escaped<'_>, title: Option<&Escaped<'_>>, context: Option<&Escaped<'_>>) -> String {
    let title = title.map_or("document", Escaped::as_str);
    let mut out = [r#"<document title=\""#, title, r#"\">\n"#].concat();
    if let Some(context) = context {
        out.extend(["<context>", context.as_str(), r"</context>\n"]);
    }
    out.extend([text.as_str(), r"\n</document>"]);
    out
}

/// The text of a tool's message, line by line, and the parts for which it has no place, since base64 in it would be
/// read as text.
///
/// What the server does not accept is left out. Otherwise the history would be refused from here on, although no user
/// wanted it read.
pub(super) fn answered<'w>(
    takes_files: bool,
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
            kind if has_part(kind, takes_files) => {
                media.push(block);
                let kind = if matches!(kind, BlockKind::Image(_)) { "image" } else { "document" };
                lines.push(format!("[{kind} {} attached below]", media.len()).into());
            }
            BlockKind::Document { .. } => {
                warnings.adapted("messages.content.tool_result")?;
                lines.push(LEFT_OUT.into());
            }
            _ => warnings.dropped(format!("messages.{at}.content"))?,
        }
    }
    Ok((lines, media))
}

/// The same for a result without a call, which becomes something that the user says.
pub(super) fn unasked<'w>(
    takes_files: bool,
    at: usize,
    content: &Content<'w>,
    warnings: &mut Warnings,
) -> Result<Content<'w>, Rejection> {
    let Content::Blocks(blocks) = content else { return Ok(content.clone()) };
    let mut kept = Vec::with_capacity(blocks.len());
    for block in blocks {
        match &block.kind {
            kind if has_part(kind, takes_files) => kept.push(block.clone()),
            BlockKind::Document { .. } => {
                warnings.adapted("messages.content.tool_result")?;
                kept.push(Block { cache: block.cache, ..Block::text(Escaped::new(LEFT_OUT)) });
            }
            _ => warnings.dropped(format!("messages.{at}.content"))?,
        }
    }
    Ok(Content::Blocks(kept))
}
