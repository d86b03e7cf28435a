use std::borrow::Cow;
use std::collections::HashMap;

use super::media;
use super::read::cache_control;
use crate::dialect::canon::conversation::{Block, BlockKind, Content, Conversation, Role, Turn};
use crate::dialect::canon::needs::PLACEHOLDER_SIGNATURE;
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, inexpressible, invalid, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw, members};

/// Reads `messages` into turns, one for each message, except the operator's at the beginning.
pub(super) struct Messages<'w> {
    warnings: &'w mut Warnings,
    /// Earlier function calls, which have no ids, by the name of the function.
    functions: HashMap<String, String>,
}

/// The members that most messages have besides their role, found in one walk.
#[derive(Clone, Copy)]
struct Said<'a> {
    name: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    /// The id of the call that a tool answers.
    id: Option<Raw<'a>>,
    is_error: Option<Raw<'a>>,
}

impl<'w> Messages<'w> {
    pub(super) fn new(warnings: &'w mut Warnings) -> Self {
        Messages { warnings, functions: HashMap::new() }
    }

    pub(super) fn read<'a>(mut self, messages: Raw<'a>, conversation: &mut Conversation<'a>) -> Result<(), Rejection> {
        let list = Path::root("messages");
        for (at, message) in messages.elements().enumerate() {
            let path = list.at(at);
            let names = ["role", "name", "cache_control", "content", "tool_call_id", "is_error"];
            let [role, name, cache, content, id, is_error] = message.pick(names);
            let said = Said { name, content, id, is_error };
            let role = role.and_then(Raw::text);
            let role = role.ok_or_else(|| invalid(format!("{path}.role"), "must be a string"))?;
            let cache = cache_control(cache, self.warnings)?;
            let (role, mut blocks) = match role.as_str() {
                "system" | "developer" => (Role::System, operator(&path, content, self.warnings)?),
                "user" => (Role::User, self.user(&path, said)?),
                "assistant" => (Role::Assistant, self.assistant(&path, at, message)?),
                "tool" | "function" => (Role::User, vec![self.result(&path, said)?]),
                _ => return Err(invalid(format!("{path}.role"), "is not a known role")),
            };
            if name.is_some() && role != Role::User {
                self.warnings.dropped("messages.name")?;
            }
            if let (Some(_), Some(last)) = (cache, blocks.last_mut()) {
                last.cache = cache;
            }
            match role {
                Role::System if conversation.turns.is_empty() => conversation.system.append(&mut blocks),
                _ => conversation.turns.push(Turn { role, blocks, at }),
            }
        }
        Ok(())
    }

    fn user<'a>(&mut self, path: &Path<'_>, said: Said<'a>) -> Result<Vec<Block<'a>>, Rejection> {
        let path = path.member("content");
        if said.name.is_some() {
            self.warnings.dropped("messages.name")?;
        }
        parts(&path, said.content, self.warnings, |part, kind, path, warnings| match kind {
            "text" | "input_text" => text(part, path).map(Some),
            "image_url" => media::image(path, part, warnings).map(Some),
            "file" => media::file(path, part).map(Some),
            // If it were left out, the model would answer as if nobody had spoken.
            "input_audio" => Err(unsupported(path.to_string())),
            _ => Err(unknown(path)),
        })
    }

    /// Thinking, then text, then calls, whatever the order of the members.
    fn assistant<'a>(&mut self, path: &Path<'_>, at: usize, message: Raw<'a>) -> Result<Vec<Block<'a>>, Rejection> {
        let (mut content, mut refusal, mut calls, mut legacy, mut thinking) = (None, None, None, None, None);
        let mut lost = [("messages.reasoning_content", false), ("messages.reasoning_details", false)];
        for (name, value) in message.members() {
            match &*name {
                "content" => content = Some(value),
                "refusal" => refusal = value.text(),
                "tool_calls" if !value.is_array() => {
                    return Err(invalid(format!("{path}.tool_calls"), "must be a list"));
                }
                "tool_calls" => calls = Some(value),
                "function_call" => legacy = Some(value),
                "thinking_blocks" => thinking = Some(value),
                "reasoning_content" | "reasoning" => {
                    let is_there = value.text().map_or_else(|| says_something(value), |text| !text.is_empty());
                    lost[0].1 |= is_there;
                }
                "reasoning_details" => lost[1].1 = says_something(value),
                "audio" => return Err(unsupported(format!("{path}.audio"))),
                // `annotations`, `citations` and `provider_specific_fields` are an answer's statements about itself,
                // tollgate's among them: they come back in every history, and no model reads them, so nothing is lost.
                _ => {}
            }
        }
        let thoughts = || thinking.into_iter().flat_map(Raw::elements);
        let mut blocks: Vec<_> = thoughts().filter_map(thought).collect();
        if blocks.len() < thoughts().count() {
            self.warnings.dropped("messages.thinking_blocks")?;
        }
        // Thinking without its signature is refused; with it, it need not be repeated.
        for (name, _) in lost.into_iter().filter(|(_, is_there)| *is_there && thinking.is_none()) {
            self.warnings.dropped(name)?;
        }
        let has_thought = !blocks.is_empty();
        blocks.extend(parts(
            &path.member("content"),
            content,
            self.warnings,
            |part, kind, path, warnings| match kind {
                "text" | "output_text" => text(part, path).map(Some),
                "refusal" => Ok(part.member("refusal").and_then(Raw::text).map(BlockKind::Text)),
                "thinking" | "redacted_thinking" if has_thought => Ok(None),
                "thinking" | "redacted_thinking" => match thought(part) {
                    Some(block) => Ok(Some(block.kind)),
                    None => warnings.dropped("messages.content.thinking").map(|()| None),
                },
                _ => Err(unknown(path)),
            },
        )?);
        blocks.extend(refusal.map(Block::text));
        let list = path.member("tool_calls");
        for (n, call) in calls.into_iter().flat_map(Raw::elements).enumerate() {
            blocks.push(self.call(&list.at(n), call)?);
        }
        if let Some(call) = legacy {
            let name = call.member("name").and_then(Raw::text).unwrap_or_default().into_owned();
            let id = format!("toolu_fn_{at}");
            self.functions.insert(name.as_str().to_owned(), id.clone());
            let input = self.input(&path.member("function_call.arguments"), call.member("arguments"))?;
            let id = Escaped::new(&id).into_owned();
            blocks.push(Block::new(BlockKind::ToolUse { id, name, input }));
        }
        Ok(blocks)
    }

    fn call<'a>(&mut self, path: &Path<'_>, call: Raw<'a>) -> Result<Block<'a>, Rejection> {
        let [id, function, custom, cache] = call.pick(["id", "function", "custom", "cache_control"]);
        let [name, arguments] = function.or(custom).unwrap_or(call).pick(["name", "arguments"]);
        let name = name.and_then(Raw::text);
        let name = name.ok_or_else(|| invalid(format!("{path}.function.name"), "must be a string"))?;
        let id = id.and_then(Raw::text).ok_or_else(|| invalid(format!("{path}.id"), "must be a string"))?;
        let input = match custom {
            Some(custom) => {
                let text = custom.member("input").and_then(Raw::text).unwrap_or_default();
                Cow::Owned(format!(r#"{{"input":"{}"}}"#, text.as_str()))
            }
            None => self.input(&path.member("function.arguments"), arguments)?,
        };
        Ok(Block { cache: cache_control(cache, self.warnings)?, ..Block::new(BlockKind::ToolUse { id, name, input }) })
    }

    /// The JSON object in the string; anything else is wrapped into one.
    fn input<'a>(&mut self, path: &Path<'_>, arguments: Option<Raw<'a>>) -> Result<Cow<'a, str>, Rejection> {
        let Some(arguments) = arguments else { return Ok(Cow::Borrowed("{}")) };
        if arguments.is_object() {
            return Ok(Cow::Borrowed(arguments.as_str()));
        }
        let text = arguments.text().ok_or_else(|| invalid(path.to_string(), "must be a string"))?;
        if text.is_blank() {
            return Ok(Cow::Borrowed("{}"));
        }
        let json = text.clone().into_plain();
        if members(json.as_bytes(), |_, _| {}) {
            return Ok(json);
        }
        self.warnings.adapted("messages.tool_calls.arguments")?;
        Ok(Cow::Owned(format!(r#"{{"_raw_arguments":"{}"}}"#, text.as_str())))
    }

    fn result<'a>(&mut self, path: &Path<'_>, said: Said<'a>) -> Result<Block<'a>, Rejection> {
        let Said { name, content, id, is_error } = said;
        let id = match id.and_then(Raw::text) {
            Some(id) => id,
            None => {
                let name = name.and_then(Raw::text).unwrap_or_default();
                let id = self.functions.get(name.as_str());
                let id = id.ok_or_else(|| invalid(format!("{path}.tool_call_id"), "must be a string"))?;
                Escaped::new(id).into_owned()
            }
        };
        let content = match content {
            None => Content::None,
            Some(content) => match content.text() {
                Some(text) => Content::Text(text),
                None => {
                    let path = path.member("content");
                    let within = parts(&path, Some(content), self.warnings, |part, kind, path, warnings| match kind {
                        "text" => text(part, path).map(Some),
                        "image_url" => media::image(path, part, warnings).map(Some),
                        "file" => media::file(path, part).map(Some),
                        _ => Err(unknown(path)),
                    });
                    Content::Blocks(within?)
                }
            },
        };
        let is_error = is_error.and_then(Raw::bool).unwrap_or(false);
        Ok(Block::new(BlockKind::ToolResult { id, content, is_error }))
    }
}

/// Whether a list or an object has anything in it.
fn says_something(value: Raw<'_>) -> bool {
    value.elements().next().is_some() || value.members().next().is_some()
}

/// A part that its own API may well know.
fn unknown(path: &Path<'_>) -> Rejection {
    inexpressible(format!("{path}.type"), "is not a known type of content")
}

/// Text alone.
fn operator<'a>(
    path: &Path<'_>,
    content: Option<Raw<'a>>,
    warnings: &mut Warnings,
) -> Result<Vec<Block<'a>>, Rejection> {
    parts(&path.member("content"), content, warnings, |part, kind, path, _| match kind {
        "text" | "input_text" => text(part, path).map(Some),
        _ => Err(invalid(format!("{path}.type"), "must be text")),
    })
}

/// A string, or parts. `each` makes a block of a part with that type, at that path.
fn parts<'a>(
    path: &Path<'_>,
    content: Option<Raw<'a>>,
    warnings: &mut Warnings,
    mut each: impl FnMut(Raw<'a>, &str, &Path<'_>, &mut Warnings) -> Result<Option<BlockKind<'a>>, Rejection>,
) -> Result<Vec<Block<'a>>, Rejection> {
    let Some(content) = content else { return Ok(Vec::new()) };
    if let Some(text) = content.text() {
        return Ok(vec![Block::text(text)]);
    }
    if !content.is_array() {
        return Err(invalid(path.to_string(), "must be a string or a list of parts"));
    }
    let mut blocks = Vec::new();
    for (at, part) in content.elements().enumerate() {
        let path = path.at(at);
        if let Some(text) = part.text() {
            blocks.push(Block::text(text));
            continue;
        }
        let [kind, cache, breakpoint] = part.pick(["type", "cache_control", "prompt_cache_breakpoint"]);
        let kind = kind.and_then(Raw::text);
        let kind = kind.ok_or_else(|| invalid(format!("{path}.type"), "must be a string"))?;
        let cache = cache_control(cache.or(breakpoint), warnings)?;
        blocks.extend(each(part, kind.as_str(), &path, warnings)?.map(|kind| Block { cache, ..Block::new(kind) }));
    }
    Ok(blocks)
}

fn text<'a>(part: Raw<'a>, path: &Path<'_>) -> Result<BlockKind<'a>, Rejection> {
    let text = part.member("text").and_then(Raw::text);
    text.map(BlockKind::Text).ok_or_else(|| invalid(format!("{path}.text"), "must be a string"))
}

/// Thinking that was signed by the provider that will read it again. Thinking with tollgate's placeholder signature is
/// dropped, and so is unsigned thinking.
fn thought(block: Raw<'_>) -> Option<Block<'_>> {
    let word = |name: &str| block.member(name).and_then(Raw::text);
    Some(Block::new(match word("type")?.as_str() {
        "thinking" => {
            let (text, signature) = (word("thinking").unwrap_or_default(), word("signature")?);
            if signature.is_empty() || signature.as_str().starts_with(PLACEHOLDER_SIGNATURE) {
                return None;
            }
            BlockKind::Thinking { text, signature }
        }
        "redacted_thinking" => BlockKind::RedactedThinking { data: word("data")? },
        _ => return None,
    }))
}
