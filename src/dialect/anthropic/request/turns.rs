use std::borrow::Cow;

use super::documents::{document, image};
use super::read::cache_control;
use crate::dialect::canon::conversation::{Block, BlockKind, Content};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, inexpressible, invalid};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// Blocks that only Anthropic's API has: what its own tools did, and what it says about the conversation.
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

/// Whose words they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Assistant,
    /// The user or the operator: what they say must be read.
    Other,
    /// A tool, in its result.
    Tool,
}

/// A string, or blocks: of a message, of `system`, or of a tool's result.
pub(super) fn content<'a>(
    path: &Path<'_>,
    by: By,
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
        let before = blocks.len();
        block(&path.at(at), by, raw, &mut blocks, warnings)?;
        blocks.iter_mut().skip(before).for_each(|block: &mut Block<'_>| block.at = u32::try_from(at).ok());
    }
    Ok(blocks)
}

/// One block, or several with the same meaning for a document with several parts.
fn block<'a>(
    path: &Path<'_>,
    by: By,
    raw: Raw<'a>,
    blocks: &mut Vec<Block<'a>>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let mut fields = Fields::default();
    for (name, value) in raw.members() {
        fields.member(&name, value);
    }
    let text = |value: Option<Raw<'a>>, name: &str| {
        value.and_then(Raw::text).ok_or_else(|| invalid(format!("{path}.{name}"), "must be a string"))
    };
    let cache = cache_control(fields.cache_control, warnings);
    let kind = text(fields.kind, "type")?;
    let kind = match kind.as_str() {
        "text" => {
            if fields.citations.is_some_and(|list| list.elements().next().is_some()) {
                warnings.dropped("messages.content.citations")?;
            }
            BlockKind::Text(text(fields.text, "text")?)
        }
        "image" => {
            if fields.transformations.is_some_and(|list| list.elements().next().is_some() || list.is_object()) {
                warnings.dropped("messages.content.transformations")?;
            }
            BlockKind::Image(image(path, fields.source)?)
        }
        "document" => {
            uncited(&fields, warnings)?;
            let (title, context) = (fields.title.and_then(Raw::text), fields.context.and_then(Raw::text));
            blocks.extend(document(path, fields.source, title, context)?.into_iter().map(Block::new));
            blocks.last_mut().into_iter().for_each(|last| last.cache = cache);
            return Ok(());
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
        // Each of them would be read with everything in it.
        "tool_result" if by == By::Tool => return Err(invalid(format!("{path}.type"), "must not be in a result")),
        "tool_result" => BlockKind::ToolResult {
            id: text(fields.tool_use_id, "tool_use_id")?,
            content: match fields.content {
                None => Content::None,
                Some(raw) => match raw.text() {
                    Some(text) => Content::Text(text),
                    None => Content::Blocks(content(&path.member("content"), By::Tool, Some(raw), warnings)?),
                },
            },
            is_error: fields.is_error.and_then(Raw::bool).unwrap_or(false),
        },
        "search_result" => {
            uncited(&fields, warnings)?;
            BlockKind::Text(search_result(&fields))
        }
        "tool_reference" => {
            let name = raw.member("tool_name").and_then(Raw::text).unwrap_or_default();
            BlockKind::Text(Escaped::join(&["Tool available: ", name.as_str()]))
        }
        known if FOREIGN.contains(&known) => BlockKind::Foreign { raw },
        // It comes back in every history, and would end the conversation.
        _ if by == By::Assistant => BlockKind::Foreign { raw },
        _ => return Err(inexpressible(format!("{path}.type"), "is not a known type of block")),
    };
    blocks.push(Block { cache, ..Block::new(kind) });
    Ok(())
}

/// Other models do not say which of their inputs an answer is based on.
fn uncited(fields: &Fields<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    match fields.citations.and_then(|asked| asked.member("enabled")).and_then(Raw::bool) {
        Some(true) => warnings.dropped("messages.content.citations"),
        _ => Ok(()),
    }
}

/// One walk over a block serves all of its kinds.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Raw<'a>>,
    text: Option<Raw<'a>>,
    source: Option<Raw<'a>>,
    title: Option<Raw<'a>>,
    context: Option<Raw<'a>>,
    transformations: Option<Raw<'a>>,
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
            "context" => &mut self.context,
            "transformations" => &mut self.transformations,
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

/// Title, source and text, one per line.
fn search_result<'a>(fields: &Fields<'a>) -> Escaped<'a> {
    let word = |field: Option<Raw<'a>>| field.and_then(Raw::text).unwrap_or_default();
    let texts = fields.content.into_iter().flat_map(Raw::elements).filter_map(|block| block.member("text")?.text());
    let lines: Vec<_> = [word(fields.title), word(fields.source)].into_iter().chain(texts).collect();
    let lines: Vec<_> = lines.iter().map(Escaped::as_str).collect();
    Escaped::owned(lines.join(r"\n"))
}
