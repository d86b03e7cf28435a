use std::borrow::Cow;

use crate::dialect::canon::called::Called;
use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Conversation, Role, Source, Turn};
use crate::dialect::canon::name::{openai_tool_id, tool_name};
use crate::dialect::canon::needs::Aim;
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out};

/// What Claude Code says of each call, and no two alike: it would keep any other provider from caching.
const BILLING: &str = "x-anthropic-billing-header:";

/// Writes the messages: results right behind their calls, one message each, and nothing between.
pub(super) struct Dialogue<'w, 'o> {
    out: &'o mut Out,
    aim: &'w Aim<'w>,
    warnings: &'w mut Warnings,
    /// Calls of the last assistant message.
    called: Called<'w>,
    /// What the operator said between calls and results.
    held: Vec<&'w Turn<'w>>,
}

impl<'w, 'o> Dialogue<'w, 'o> {
    pub(super) fn new(out: &'o mut Out, aim: &'w Aim<'w>, warnings: &'w mut Warnings) -> Self {
        Dialogue { out, aim, warnings, called: Called::default(), held: Vec::new() }
    }

    pub(super) fn write(mut self, conversation: &'w Conversation<'w>) -> Result<(), Rejection> {
        self.operator(&conversation.system)?;
        let users = |at: Option<usize>| {
            let turn = at.and_then(|at| conversation.turns.get(at));
            turn.is_some_and(|turn| turn.role == Role::User)
        };
        for (at, turn) in conversation.turns.iter().enumerate() {
            match turn.role {
                Role::System if self.called.waits() => self.held.push(turn),
                Role::System => self.system(turn)?,
                Role::User => self.user(turn)?,
                Role::Assistant => {
                    self.unanswered()?;
                    let is_between = users(at.checked_sub(1)) && users(at.checked_add(1));
                    self.assistant(turn, is_between)?;
                }
            }
        }
        self.unanswered()?;
        let ends_open = conversation.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        if ends_open && !self.aim.abilities.prefill {
            // Begun by the request, the answer is begun once more by the model.
            self.warnings.adapted("messages")?;
        }
        Ok(())
    }

    fn role(&self) -> &'static str {
        if self.aim.abilities.developer { "developer" } else { "system" }
    }

    fn operator(&mut self, blocks: &[Block<'_>]) -> Result<(), Rejection> {
        let mut kept = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            match &block.kind {
                BlockKind::Text(text) if at == 0 && text.as_str().starts_with(BILLING) => {}
                BlockKind::Text(text) if text.is_empty() => {}
                BlockKind::Text(_) => kept.push(block),
                _ => self.warnings.dropped("system")?,
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let role = self.role();
        self.out.open('{').key("role").word(role).key("content");
        self.texts(&kept);
        self.out.close('}');
        Ok(())
    }

    /// In place, wherever the server lets the operator speak.
    fn system(&mut self, turn: &Turn<'_>) -> Result<(), Rejection> {
        let kept: Vec<_> = turn.blocks.iter().filter(|block| matches!(block.kind, BlockKind::Text(_))).collect();
        if kept.len() < turn.blocks.len() {
            self.warnings.dropped("messages.content")?;
        }
        if kept.is_empty() {
            return Ok(());
        }
        if self.aim.abilities.system_turns {
            let role = self.role();
            self.out.open('{').key("role").word(role).key("content");
            self.texts(&kept);
        } else {
            self.warnings.adapted("messages.role")?;
            self.out.open('{').key("role").word("user").key("content");
            let text = joined(&kept);
            self.out.pieces(&[r"<system-reminder>\n", &text, r"\n</system-reminder>"]);
        }
        self.out.close('}');
        Ok(())
    }

    /// One string where the server may know no parts, or where there is one.
    fn texts(&mut self, blocks: &[&Block<'_>]) {
        let has_breakpoint = blocks.iter().any(|block| block.cache.is_some());
        if !has_breakpoint && (blocks.len() == 1 || !self.aim.abilities.completion_tokens) {
            let text = joined(blocks);
            self.out.pieces(&[&text]);
            return;
        }
        self.out.open('[');
        for block in blocks {
            if let BlockKind::Text(text) = &block.kind {
                self.out.open('{').key("type").word("text").key("text").text(text);
                self.breakpoint(block);
                self.out.close('}');
            }
        }
        self.out.close(']');
    }

    fn breakpoint(&mut self, block: &Block<'_>) {
        if block.cache.is_some() {
            self.mark();
        }
    }

    fn mark(&mut self) {
        self.out.key("prompt_cache_breakpoint").raw(r#"{"mode":"explicit"}"#);
    }

    /// Results first, each a message; what cannot stand in one follows in the user's.
    fn user(&mut self, turn: &'w Turn<'w>) -> Result<(), Rejection> {
        let (mut rest, mut attached) = (Vec::new(), Vec::new());
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::ToolResult { id, content, is_error } => {
                    if let Some(ours) = self.called.answered(id) {
                        let result = Answered { content, is_error: *is_error, is_marked: block.cache.is_some() };
                        self.result(turn.at, &ours, result, &mut attached)?;
                    } else {
                        self.warnings.adapted("messages.tool_use_id")?;
                        rest.push(orphan(id, content, block.cache));
                    }
                }
                BlockKind::Foreign { .. } => self.warnings.dropped("messages.content")?,
                BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {}
                _ => rest.push(Cow::Borrowed(block)),
            }
        }
        self.unanswered()?;
        if attached.is_empty() && rest.is_empty() {
            return Ok(());
        }
        self.out.open('{').key("role").word("user").key("content");
        match (&attached[..], &rest[..]) {
            ([], [only]) if only.cache.is_none() && matches!(only.kind, BlockKind::Text(_)) => {
                if let BlockKind::Text(text) = &only.kind {
                    self.out.text(text);
                }
            }
            _ => {
                self.out.open('[');
                for (id, blocks) in &attached {
                    let text = ["Attachment(s) from tool call ", id.as_str(), ":"];
                    self.out.open('{').key("type").word("text").key("text").pieces(&text).close('}');
                    for block in blocks {
                        self.part(turn.at, block)?;
                    }
                }
                for block in &rest {
                    self.part(turn.at, block)?;
                }
                self.out.close(']');
            }
        }
        self.out.close('}');
        Ok(())
    }

    fn result(
        &mut self,
        at: usize,
        id: &Escaped<'w>,
        result: Answered<'w>,
        attached: &mut Vec<(Escaped<'w>, Vec<&'w Block<'w>>)>,
    ) -> Result<(), Rejection> {
        let mut lines: Vec<Cow<'_, str>> = Vec::new();
        match result.content {
            Content::None => {}
            Content::Text(text) => lines.push(text.as_str().into()),
            Content::Blocks(blocks) => {
                let mut media = Vec::new();
                for block in blocks {
                    match &block.kind {
                        BlockKind::Text(text) => lines.push(text.as_str().into()),
                        BlockKind::Image(_) => {
                            media.push(block);
                            lines.push(format!("[image {} attached below]", media.len()).into());
                        }
                        BlockKind::Document { source: Source::Text(text), .. } => lines.push(text.as_str().into()),
                        BlockKind::Document { .. } => {
                            media.push(block);
                            lines.push(format!("[document {} attached below]", media.len()).into());
                        }
                        _ => self.warnings.dropped(format!("messages.{at}.content"))?,
                    }
                }
                if !media.is_empty() {
                    // A tool's message holds text alone, and base64 in it would be read as such.
                    self.warnings.adapted("messages.content.tool_result")?;
                    attached.push((id.clone(), media));
                }
            }
        }
        let before = if result.is_error { "[tool error] " } else { "" };
        self.out.open('{').key("role").word("tool").key("tool_call_id").text(id);
        let mut pieces = vec![before];
        for (at, line) in lines.iter().enumerate() {
            pieces.extend([if at == 0 { "" } else { r"\n" }, &**line]);
        }
        self.out.key("content");
        match result.is_marked {
            true => {
                self.out.open('[').open('{').key("type").word("text").key("text").pieces(&pieces);
                self.mark();
                self.out.close('}').close(']');
            }
            false => _ = self.out.pieces(&pieces),
        }
        self.out.close('}');
        Ok(())
    }

    /// A part of a user's message.
    fn part(&mut self, at: usize, block: &Block<'_>) -> Result<(), Rejection> {
        let path = || format!("messages.{at}.content");
        self.out.open('{').key("type");
        match &block.kind {
            BlockKind::Text(text) => _ = self.out.word("text").key("text").text(text),
            BlockKind::Image(source) => {
                self.out.word("image_url").key("image_url").open('{').key("url");
                match source {
                    Source::Url(url) => _ = self.out.text(url),
                    Source::Base64 { media_type, data } => {
                        let media_type = Escaped::new(media_type);
                        self.out.pieces(&["data:", media_type.as_str(), ";base64,", data]);
                    }
                    Source::Text(_) => return Err(unsupported(path())),
                }
                self.out.close('}');
            }
            BlockKind::Document { source: Source::Text(text), title } => {
                let title = title.as_ref().map_or("document", Escaped::as_str);
                let pieces = [r#"<document title=\""#, title, r#"\">\n"#, text.as_str(), r"\n</document>"];
                self.out.word("text").key("text").pieces(&pieces);
            }
            BlockKind::Document { source: Source::Base64 { media_type, data }, title } if self.aim.abilities.files => {
                let media_type = Escaped::new(media_type);
                let name = title.as_ref().map_or("document.pdf", Escaped::as_str);
                self.out.word("file").key("file").open('{').key("filename").pieces(&[name]);
                self.out.key("file_data").pieces(&["data:", media_type.as_str(), ";base64,", data]).close('}');
            }
            _ => return Err(unsupported(path())),
        }
        self.breakpoint(block);
        self.out.close('}');
        Ok(())
    }

    /// One that has nothing left to say still stands between two users.
    fn assistant(&mut self, turn: &'w Turn<'w>, is_between_users: bool) -> Result<(), Rejection> {
        let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = Vec::new();
        let mut called = Called::default();
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::Text(piece) => {
                    texts.push(piece.as_str());
                    parts.extend(Some(block).filter(|_| !piece.is_empty()));
                }
                BlockKind::Thinking { text, .. } => thoughts.push(text.as_str()),
                // Sealed for one provider, it says nothing to another.
                BlockKind::RedactedThinking { .. } => {}
                BlockKind::ToolUse { id, name, input } => called.push(id.by_ref(), |before| {
                    let ours = match (openai_tool_id(id), before) {
                        (Cow::Borrowed(_), 0) => id.by_ref(),
                        (ours, 0) => Escaped::owned(ours.into_owned()),
                        (ours, _) => Escaped::owned(format!("{ours}_{}", before + 1)),
                    };
                    calls.push((ours.clone(), name, input));
                    ours
                }),
                _ => self.warnings.dropped("messages.content")?,
            }
        }
        let says = |texts: &[&str]| texts.iter().any(|text| !text.is_empty());
        if !says(&texts) && calls.is_empty() && !is_between_users {
            return Ok(());
        }
        self.out.open('{').key("role").word("assistant").key("content");
        match texts.is_empty() && !calls.is_empty() {
            true => _ = self.out.raw("null"),
            false if parts.iter().any(|block| block.cache.is_some()) => self.texts(&parts),
            false => _ = self.out.pieces(&texts),
        }
        if self.aim.abilities.replays_reasoning && says(&thoughts) {
            self.out.key("reasoning_content").pieces(&thoughts);
        }
        if !calls.is_empty() {
            self.out.key("tool_calls").open('[');
            for (id, name, input) in &calls {
                self.out.open('{').key("id").text(id).key("type").word("function").key("function");
                self.out.open('{').key("name").pieces(&[&tool_name(name)]).key("arguments").plain(input);
                self.out.close('}').close('}');
            }
            self.out.close(']');
        }
        self.out.close('}');
        self.called = called;
        Ok(())
    }

    /// A call without a result is an error: the result says so. Then what the operator said meanwhile.
    fn unanswered(&mut self) -> Result<(), Rejection> {
        for id in self.called.unanswered() {
            self.warnings.adapted("messages.tool_use")?;
            self.out.open('{').key("role").word("tool").key("tool_call_id").text(&id);
            self.out.key("content").word("No result provided.").close('}');
        }
        for turn in std::mem::take(&mut self.held) {
            self.system(turn)?;
        }
        Ok(())
    }
}

/// What a tool answered, to be written.
#[derive(Clone, Copy)]
struct Answered<'w> {
    content: &'w Content<'w>,
    is_error: bool,
    /// A cache breakpoint stands behind it.
    is_marked: bool,
}

fn joined(blocks: &[&Block<'_>]) -> String {
    let texts = blocks.iter().filter_map(|block| match &block.kind {
        BlockKind::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(r"\n\n")
}

/// A result of no call that there is.
fn orphan<'a>(id: &Escaped<'_>, content: &Content<'_>, cache: Option<Cache>) -> Cow<'a, Block<'a>> {
    let mut text = ["Tool result for ", id.as_str(), ": "].concat();
    match content {
        Content::None => {}
        Content::Text(result) => text.push_str(result.as_str()),
        Content::Blocks(blocks) => text.push_str(&joined(&blocks.iter().collect::<Vec<_>>())),
    }
    Cow::Owned(Block { cache, ..Block::text(Escaped::owned(text)) })
}
