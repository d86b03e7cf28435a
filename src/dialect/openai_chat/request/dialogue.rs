use std::borrow::Cow;

use super::parts::{answered, breakpoint, part, path_of, unasked};
use crate::dialect::canon::called::{Called, Ids, orphan};
use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Conversation, Role, Turn};
use crate::dialect::canon::name::{openai_tool_id, tool_name};
use crate::dialect::canon::needs::{Aim, PLACEHOLDER_SIGNATURE};
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw};

/// A line that Claude Code puts into each call, different each time: it would prevent caching at any other provider.
const BILLING: &str = "x-anthropic-billing-header:";

/// The thinking of an answer whose thinking is not known, where the server wants it back: DeepSeek's and Kimi's newer
/// models refuse a request with an answer that has none, or an empty one.
const NO_THOUGHT: &str = " ";

/// Writes the messages. Results come right after their calls, one message each, with nothing in between.
pub(super) struct Dialogue<'w, 'o> {
    out: &'o mut Out,
    aim: &'w Aim<'w>,
    warnings: &'w mut Warnings,
    /// The calls of the last assistant message.
    called: Called<'w>,
    /// What was said between calls and results.
    held: Vec<Held<'w>>,
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
                Role::System if self.called.waits() => self.held.push(Held::Operator(turn)),
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
            // The model begins an answer again that the request has begun.
            self.warnings.adapted("messages")?;
        }
        Ok(())
    }

    fn role(&self) -> &'static str {
        match (self.aim.abilities.operator, self.aim.abilities.developer) {
            (false, _) => "user",
            (_, true) => "developer",
            (_, false) => "system",
        }
    }

    fn operator(&mut self, blocks: &[Block<'_>]) -> Result<(), Rejection> {
        let mut kept = Vec::new();
        let unbilled = blocks.first().and_then(unbilled);
        let first = unbilled.as_ref().or(blocks.first());
        for block in first.into_iter().chain(blocks.iter().skip(1)) {
            match &block.kind {
                BlockKind::Text(text) if text.is_empty() => {}
                BlockKind::Text(_) => kept.push(block),
                _ => self.warnings.dropped("system")?,
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        if !self.aim.abilities.operator {
            self.warnings.adapted("system")?;
        }
        let role = self.role();
        self.out.open('{').key("role").word(role).key("content");
        self.texts(&kept);
        self.out.close('}');
        Ok(())
    }

    /// In place, if the server accepts the operator there.
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

    /// One string if the server may not know parts, or if there is only one.
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
                breakpoint(self.out, block.cache);
                self.out.close('}');
            }
        }
        self.out.close(']');
    }

    /// Results first, each as a message. What else the user says waits until the last result has come, in whatever
    /// turn.
    fn user(&mut self, turn: &'w Turn<'w>) -> Result<(), Rejection> {
        let mut said = Said { at: turn.at, attached: Vec::new(), rest: Vec::new() };
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::ToolResult { id, content, is_error } => {
                    if let Some(ours) = self.called.answered(id) {
                        let result = Answered { content, is_error: *is_error, cache: block.cache };
                        self.result(&ours, result, &mut said)?;
                    } else {
                        self.warnings.adapted("messages.tool_use_id")?;
                        let content = unasked(self.aim.abilities.files, turn.at, content, self.warnings)?;
                        let mut blocks = orphan(id, content);
                        blocks.last_mut().into_iter().for_each(|last| last.cache = last.cache.or(block.cache));
                        said.rest.extend(blocks.into_iter().map(Cow::Owned));
                    }
                }
                // The user wants it read, and only one provider has it.
                BlockKind::Foreign { raw } if is_upload(*raw) => return Err(unsupported(path_of(turn.at, block))),
                BlockKind::Foreign { .. } => self.warnings.dropped("messages.content")?,
                BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {
                    self.warnings.dropped("messages.content.thinking")?;
                }
                _ => said.rest.push(Cow::Borrowed(block)),
            }
        }
        if !said.attached.is_empty() || !said.rest.is_empty() {
            self.held.push(Held::User(said));
        }
        if self.called.waits() { Ok(()) } else { self.say_held() }
    }

    fn said(&mut self, said: &Said<'_>) -> Result<(), Rejection> {
        self.out.open('{').key("role").word("user").key("content");
        match (&said.attached[..], &said.rest[..]) {
            ([], [only]) if only.cache.is_none() && matches!(only.kind, BlockKind::Text(_)) => {
                if let BlockKind::Text(text) = &only.kind {
                    self.out.text(text);
                }
            }
            _ => {
                self.out.open('[');
                for (id, blocks) in &said.attached {
                    let text = ["Attachment(s) from tool call ", id.as_str(), ":"];
                    self.out.open('{').key("type").word("text").key("text").pieces(&text).close('}');
                    for block in blocks {
                        part(self.out, self.aim.abilities.files, said.at, block)?;
                    }
                }
                for block in &said.rest {
                    part(self.out, self.aim.abilities.files, said.at, block)?;
                }
                self.out.close(']');
            }
        }
        self.out.close('}');
        Ok(())
    }

    fn result(&mut self, id: &Escaped<'w>, result: Answered<'w>, said: &mut Said<'w>) -> Result<(), Rejection> {
        let (lines, media) = answered(self.aim.abilities.files, said.at, result.content, self.warnings)?;
        if !media.is_empty() {
            self.warnings.adapted("messages.content.tool_result")?;
            said.attached.push((id.clone(), media));
        }
        let before = if result.is_error { "[tool error] " } else { "" };
        self.out.open('{').key("role").word("tool").key("tool_call_id").text(id);
        let mut pieces = Vec::with_capacity(1 + 2 * lines.len());
        pieces.push(before);
        for (at, line) in lines.iter().enumerate() {
            pieces.extend([if at == 0 { "" } else { r"\n" }, &**line]);
        }
        self.out.key("content");
        match result.cache {
            Some(_) => {
                self.out.open('[').open('{').key("type").word("text").key("text").pieces(&pieces);
                breakpoint(self.out, result.cache);
                self.out.close('}').close(']');
            }
            None => _ = self.out.pieces(&pieces),
        }
        self.out.close('}');
        Ok(())
    }

    /// Clients must send back everything they got, including a signature from such a server. That must not refuse a
    /// conversation in its second turn, in any mode.
    fn thinking_is_lost(&mut self) {
        _ = self.warnings.dropped("messages.content.thinking");
    }

    /// A message with nothing left to say stays if it is between two user messages.
    fn assistant(&mut self, turn: &'w Turn<'w>, is_between_users: bool) -> Result<(), Rejection> {
        let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = Vec::new();
        let (mut ids, mut called) = (Ids::new(openai_tool_id), Called::default());
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::Text(piece) => {
                    texts.push(piece.as_str());
                    parts.extend(Some(block).filter(|_| !piece.is_empty()));
                }
                BlockKind::Thinking { text, signature } => {
                    thoughts.push(text.as_str());
                    // A placeholder signature belongs to a server like this one, and comes back in every history.
                    let is_theirs = signature.as_str().starts_with(PLACEHOLDER_SIGNATURE);
                    let is_told = self.aim.abilities.replays_reasoning && !text.is_empty();
                    if !is_theirs && !is_told {
                        self.thinking_is_lost();
                    }
                }
                // It is encrypted for one provider, and means nothing to another.
                BlockKind::RedactedThinking { .. } => self.thinking_is_lost(),
                BlockKind::ToolUse { id, name, input } => {
                    let ours = ids.take(&id.by_ref());
                    calls.push((ours.clone(), name, input));
                    called.push(id.by_ref(), ours);
                }
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
        if self.aim.abilities.replays_reasoning {
            let thoughts = if says(&thoughts) { &thoughts[..] } else { &[NO_THOUGHT] };
            self.out.key("reasoning_content").pieces(thoughts);
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

    /// A call without a result is an error, so a result that says so is written. Then comes what was said meanwhile.
    ///
    /// If the real result comes in a later turn, before the assistant speaks again, it takes this place. Only then does
    /// a longer conversation begin differently from the shorter one. A call has one result, which comes before
    /// everything else.
    fn unanswered(&mut self) -> Result<(), Rejection> {
        for id in self.called.unanswered() {
            self.warnings.adapted("messages.tool_use")?;
            self.out.open('{').key("role").word("tool").key("tool_call_id").text(&id);
            self.out.key("content").word("No result provided.").close('}');
        }
        self.say_held()
    }

    fn say_held(&mut self) -> Result<(), Rejection> {
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Operator(turn) => self.system(turn)?,
                Held::User(said) => self.said(&said)?,
            }
        }
        Ok(())
    }
}

/// What was said before the last result came, to be written after it.
enum Held<'w> {
    Operator(&'w Turn<'w>),
    User(Said<'w>),
}

/// The parts of a user's turn that are not text results: what results contain besides text, by call, and everything
/// else.
struct Said<'w> {
    at: usize,
    attached: Vec<(Escaped<'w>, Vec<&'w Block<'w>>)>,
    rest: Vec<Cow<'w, Block<'w>>>,
}

/// A tool's result, to be written.
#[derive(Clone, Copy)]
struct Answered<'w> {
    content: &'w Content<'w>,
    is_error: bool,
    cache: Option<Cache>,
}

/// The operator's text without the billing line, if it begins with one.
fn unbilled<'a>(block: &Block<'a>) -> Option<Block<'a>> {
    let BlockKind::Text(text) = &block.kind else { return None };
    let decoded = text.as_str().starts_with(BILLING).then(|| text.decoded())?;
    let rest = decoded.split_once('\n').map_or("", |(_, rest)| rest.trim_start_matches(['\r', '\n']));
    Some(Block { cache: block.cache, ..Block::text(Escaped::new(rest).into_owned()) })
}

fn is_upload(block: Raw<'_>) -> bool {
    block.member("type").and_then(Raw::text).is_some_and(|kind| kind.as_str() == "container_upload")
}

fn joined(blocks: &[&Block<'_>]) -> String {
    let texts = blocks.iter().filter_map(|block| match &block.kind {
        BlockKind::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(r"\n\n")
}
