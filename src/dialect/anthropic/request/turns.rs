use std::borrow::Cow;

use super::read::cache_control;
use crate::dialect::canon::conversation::{Block, BlockKind, Content, Source};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, invalid, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// Blocks that only Anthropic can say: what its own tools did, and what it says of the conversation.
const FOREIGN: [&str; 20] = [
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "container_upload",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "advisor_tool_result",
    "compaction",
    "fallback",
    "tool_addition",
    "tool_removal",
    "browser_state",
    "web_search_result",
    "computer_tool_result",
    "browser_tool_result",
];

/// A string, or blocks: of a message, of `system`, of a tool's result.
pub(super) fn content<'a>(
    path: &Path<'_>,
    content: Option<Raw<'a>>,
    warnings: &mut Warnings,
) -> Result<Vec<Block<'a>>, Rejection> {
    let Some(content) = content else { return Err(invalid(path.to_string(), "is missing")) };
    if let Some(text) = content.text() {
        return Ok(vec![Block::text(text)]);
    }
    if !content.is_array() {
        return Err(invalid(path.to_string(), "must be a string or a list of blocks"));
    }
    let mut blocks = Vec::new();
    for (at, raw) in content.elements().enumerate() {
        blocks.push(block(&path.at(at), raw, warnings)?);
    }
    Ok(blocks)
}

fn block<'a>(path: &Path<'_>, raw: Raw<'a>, warnings: &mut Warnings) -> Result<Block<'a>, Rejection> {
    let mut fields = Fields::default();
    for (name, value) in raw.members() {
        fields.member(&name, value);
    }
    let text = |value: Option<Raw<'a>>, name: &str| {
        value.and_then(Raw::text).ok_or_else(|| invalid(format!("{path}.{name}"), "must be a string"))
    };
    let kind = text(fields.kind, "type")?;
    let kind = match kind.as_str() {
        "text" => {
            if fields.citations.is_some_and(|list| list.elements().next().is_some()) {
                warnings.dropped("messages.content.citations")?;
            }
            BlockKind::Text(text(fields.text, "text")?)
        }
        "image" => BlockKind::Image(source(path, fields.source)?),
        "document" => {
            if fields.citations.is_some_and(|c| c.member("enabled").and_then(Raw::bool) == Some(true)) {
                warnings.dropped("messages.content.citations")?;
            }
            BlockKind::Document { source: source(path, fields.source)?, title: fields.title.and_then(Raw::text) }
        }
        "thinking" => BlockKind::Thinking {
            text: text(fields.thinking, "thinking")?,
            signature: fields.signature.and_then(Raw::text).unwrap_or_default(),
        },
        "redacted_thinking" => BlockKind::RedactedThinking { data: text(fields.data, "data")? },
        "tool_use" => {
            let input = fields.input.filter(|input| input.is_object());
            let input = input.ok_or_else(|| invalid(format!("{path}.input"), "must be an object"))?;
            BlockKind::ToolUse {
                id: text(fields.id, "id")?,
                name: text(fields.name, "name")?,
                input: Cow::Borrowed(input.as_str()),
            }
        }
        "tool_result" => BlockKind::ToolResult {
            id: text(fields.tool_use_id, "tool_use_id")?,
            content: match fields.content {
                None => Content::None,
                Some(raw) => match raw.text() {
                    Some(text) => Content::Text(text),
                    None => Content::Blocks(content(&path.member("content"), Some(raw), warnings)?),
                },
            },
            is_error: fields.is_error.and_then(Raw::bool).unwrap_or(false),
        },
        "search_result" => BlockKind::Text(search_result(&fields)),
        "tool_reference" => {
            let name = raw.member("tool_name").and_then(Raw::text).unwrap_or_default();
            BlockKind::Text(Escaped::join(&["Tool available: ", name.as_str()]))
        }
        known if FOREIGN.contains(&known) => BlockKind::Foreign { raw },
        _ => return Err(invalid(format!("{path}.type"), "is no known type of block")),
    };
    Ok(Block { kind, cache: cache_control(fields.cache_control) })
}

/// One walk over a block serves all of its kinds.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Raw<'a>>,
    text: Option<Raw<'a>>,
    source: Option<Raw<'a>>,
    title: Option<Raw<'a>>,
    thinking: Option<Raw<'a>>,
    signature: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    id: Option<Raw<'a>>,
    name: Option<Raw<'a>>,
    input: Option<Raw<'a>>,
    tool_use_id: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    is_error: Option<Raw<'a>>,
    citations: Option<Raw<'a>>,
    cache_control: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn member(&mut self, name: &str, value: Raw<'a>) {
        let field = match name {
            "type" => &mut self.kind,
            "text" => &mut self.text,
            "source" => &mut self.source,
            "title" => &mut self.title,
            "thinking" => &mut self.thinking,
            "signature" => &mut self.signature,
            "data" => &mut self.data,
            "id" => &mut self.id,
            "name" => &mut self.name,
            "input" => &mut self.input,
            "tool_use_id" => &mut self.tool_use_id,
            "content" => &mut self.content,
            "is_error" => &mut self.is_error,
            "citations" => &mut self.citations,
            "cache_control" => &mut self.cache_control,
            _ => return,
        };
        *field = Some(value);
    }
}

fn source<'a>(path: &Path<'_>, source: Option<Raw<'a>>) -> Result<Source<'a>, Rejection> {
    let wrong = |why: &str| invalid(format!("{path}.source"), why);
    let source = source.ok_or_else(|| wrong("is missing"))?;
    let word = |name: &str| source.member(name).and_then(Raw::text);
    match word("type").unwrap_or_default().as_str() {
        "base64" => {
            let media_type = word("media_type").ok_or_else(|| wrong("has no media_type"))?;
            let data = word("data").ok_or_else(|| wrong("has no data"))?.into_plain();
            let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
            if !data.bytes().all(is_base64) {
                return Err(wrong("is no base64"));
            }
            Ok(Source::Base64 { media_type: Cow::Owned(media_type.into_plain().into_owned()), data })
        }
        "text" => Ok(Source::Text(word("data").ok_or_else(|| wrong("has no data"))?)),
        "content" => {
            let texts = source.member("content").into_iter().flat_map(Raw::elements);
            let texts: Vec<_> = texts.filter_map(|block| block.member("text").and_then(Raw::text)).collect();
            let texts: Vec<_> = texts.iter().map(Escaped::as_str).collect();
            Ok(Source::Text(Escaped::owned(texts.join(r"\n"))))
        }
        "url" => Ok(Source::Url(word("url").ok_or_else(|| wrong("has no url"))?)),
        // Files are kept by one provider; another has no such file.
        "file" => Err(unsupported(format!("{path}.source"))),
        _ => Err(wrong("is of no known type")),
    }
}

/// Title, source and text, a line each.
fn search_result<'a>(fields: &Fields<'a>) -> Escaped<'a> {
    let word = |field: Option<Raw<'a>>| field.and_then(Raw::text).unwrap_or_default();
    let texts = fields.content.into_iter().flat_map(Raw::elements).filter_map(|block| block.member("text")?.text());
    let lines: Vec<_> = [word(fields.title), word(fields.source)].into_iter().chain(texts).collect();
    let lines: Vec<_> = lines.iter().map(Escaped::as_str).collect();
    Escaped::owned(lines.join(r"\n"))
}
