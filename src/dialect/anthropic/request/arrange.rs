//! Arranges a conversation as Messages requires: who may speak after whom, and what must not be empty.
//!
//! Everything here depends only on a turn's neighbours, so that a longer conversation begins like the shorter one did:
//! thinking is bound to what precedes it, and caches match by prefix.

use std::collections::HashSet;

use super::results;
use crate::dialect::canon::conversation::{Block, BlockKind, Conversation, Role, Tool, ToolChoice, ToolKind, Turn};
use crate::dialect::canon::warning::{Warnings, inexpressible};
use crate::domain::catalog::Abilities;
use crate::domain::rejection::Rejection;
use crate::wire::json::Escaped;

/// Introduces an operator's message if the model accepts only user messages; escaped.
const OPERATOR: &str = r"A message from the operator of this conversation:\n\n";

pub(super) fn arrange(
    conversation: &mut Conversation<'_>,
    abilities: &Abilities,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    conversation.system.retain(|block| !is_blank(block));
    drop_empties(&mut conversation.turns, warnings)?;
    let turns = std::mem::take(&mut conversation.turns);
    let turns = order(turns, abilities.system_turns, warnings)?;
    conversation.turns = results::repair(turns, warnings)?;
    if conversation.turns.first().is_none_or(|turn| turn.role != Role::User) {
        warnings.adapted("messages")?;
        // Also if nobody has spoken yet: in the next turn the assistant has.
        conversation.turns.insert(0, said(Role::User, "(conversation resumed)", 0));
    }
    prefill(&mut conversation.turns, abilities)?;
    ensure_tools(conversation)
}

fn said(role: Role, text: &'static str, at: usize) -> Turn<'static> {
    Turn { role, blocks: vec![Block::text(Escaped::new(text))], at }
}

fn is_blank(block: &Block<'_>) -> bool {
    matches!(&block.kind, BlockKind::Text(text) if text.is_blank())
}

/// Text blocks must not be empty, and a message must not be only white space. An empty user message is replaced by a
/// text that says so, unless it follows another user message. This depends only on what precedes it, since what follows
/// is not there yet when the turn is sent first. Source: measured answers of api.anthropic.com.
fn drop_empties(turns: &mut Vec<Turn<'_>>, warnings: &mut Warnings) -> Result<(), Rejection> {
    let mut has_spoken = false;
    for turn in turns.iter_mut() {
        let is_operator = turn.role == Role::System;
        match turn.blocks.iter().all(is_blank) {
            true => turn.blocks.clear(),
            false => turn.blocks.retain(|block| match &block.kind {
                BlockKind::Text(text) if is_operator => !text.is_blank(),
                BlockKind::Text(text) => !text.is_empty(),
                _ => true,
            }),
        }
        match turn.role {
            Role::User => {
                if turn.blocks.is_empty() && !has_spoken {
                    warnings.adapted(format!("messages.{}.content", turn.at))?;
                    turn.blocks.push(Block::text(Escaped::new("(empty)")));
                }
                has_spoken = true;
            }
            Role::Assistant => has_spoken &= turn.blocks.is_empty(),
            Role::System => {}
        }
    }
    turns.retain(|turn| !turn.blocks.is_empty());
    Ok(())
}

/// Results follow their calls in one message, before what the user says. What the operator says comes last before the
/// assistant speaks.
///
/// "A system message must immediately follow a user turn, and must be last or be followed by an assistant turn."
/// Source: platform.claude.com/docs, mid-conversation system messages.
fn order<'a>(turns: Vec<Turn<'a>>, takes_system: bool, warnings: &mut Warnings) -> Result<Vec<Turn<'a>>, Rejection> {
    let mut out = Ordered { turns: Vec::with_capacity(turns.len()), late: Vec::new() };
    let mut operator: Option<Turn<'a>> = None;
    for turn in turns {
        match (turn.role, &mut operator) {
            (Role::System, Some(waiting)) => waiting.blocks.extend(turn.blocks),
            (Role::System, None) => operator = Some(turn),
            (Role::User, _) => out.push_user(turn),
            (Role::Assistant, _) => {
                place(operator.take(), &mut out, takes_system, warnings)?;
                out.push(turn);
            }
        }
    }
    place(operator, &mut out, takes_system, warnings)?;
    out.settle();
    Ok(out.turns)
}

fn place<'a>(
    operator: Option<Turn<'a>>,
    out: &mut Ordered<'a>,
    takes_system: bool,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let Some(mut turn) = operator else { return Ok(()) };
    if takes_system && out.turns.last().is_some_and(|last| last.role == Role::User) {
        out.push(turn);
        return Ok(());
    }
    warnings.adapted("messages.role")?;
    turn.role = Role::User;
    if let Some(Block { kind: BlockKind::Text(text), .. }) = turn.blocks.first_mut() {
        *text = Escaped::join(&[OPERATOR, text.as_str()]);
    }
    out.push_user(turn);
    Ok(())
}

/// Turns in their order.
struct Ordered<'a> {
    turns: Vec<Turn<'a>>,
    /// Results that belong before what the user says in the last turn. They are inserted together: one by one, each
    /// would move everything that is said.
    late: Vec<Block<'a>>,
}

impl<'a> Ordered<'a> {
    fn push(&mut self, turn: Turn<'a>) {
        self.settle();
        self.turns.push(turn);
    }

    /// In a user turn, results come first.
    fn push_user(&mut self, turn: Turn<'a>) {
        let ends_in_result = |turn: &Turn<'_>| turn.blocks.last().is_some_and(results::is_result);
        match self.turns.last_mut().filter(|last| last.role == Role::User) {
            Some(last) if ends_in_result(last) => last.blocks.extend(turn.blocks),
            // Text before a result is an error.
            Some(last) if ends_in_result(&turn) && last.blocks.first().is_some_and(results::is_result) => {
                self.late.extend(turn.blocks);
            }
            _ => self.push(turn),
        }
    }

    fn settle(&mut self) {
        if let Some(last) = self.turns.last_mut().filter(|_| !self.late.is_empty()) {
            let at = last.blocks.partition_point(results::is_result);
            last.blocks.splice(at..at, self.late.drain(..));
        }
    }
}

/// The beginning of an answer, given as the last message.
fn prefill(turns: &mut [Turn<'_>], abilities: &Abilities) -> Result<(), Rejection> {
    let Some(last) = turns.last_mut().filter(|turn| turn.role == Role::Assistant) else { return Ok(()) };
    if !abilities.prefill {
        return Err(inexpressible(
            "messages",
            "the last message must not be from the assistant: this model does not continue a prefilled answer",
        ));
    }
    while last.blocks.len() > 1 && last.blocks.last().is_some_and(is_blank) {
        last.blocks.pop();
    }
    if let Some(Block { kind: BlockKind::Text(text), .. }) = last.blocks.last_mut() {
        let decoded = text.decoded();
        let trimmed = decoded.trim_end();
        if trimmed.len() != decoded.len() {
            *text = Escaped::new(trimmed).into_owned();
        }
    }
    Ok(())
}

/// A conversation with calls is refused without tools. This adds the minimal tools that explain them, which must not be
/// called again. The client's tool choice then only concerns its search, if there is one.
fn ensure_tools(conversation: &mut Conversation<'_>) -> Result<(), Rejection> {
    if !conversation.tools.is_empty() {
        return Ok(());
    }
    let (mut names, mut known) = (Vec::new(), HashSet::new());
    for block in conversation.turns.iter().flat_map(|turn| &turn.blocks) {
        if let BlockKind::ToolUse { name, .. } = &block.kind
            && known.insert(name.as_str())
        {
            names.push(name.as_str().to_owned());
        }
    }
    if conversation.search.is_none() {
        conversation.choice = Some(ToolChoice::None).filter(|_| !names.is_empty());
    }
    conversation.tools = names
        .into_iter()
        .map(|name| Tool {
            name: Escaped::owned(name),
            description: None,
            kind: ToolKind::Function { schema: None, strict: false },
            cache: None,
            extras: Vec::new(),
        })
        .collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::canon::conversation::Content;
    use crate::dialect::translate::Mode;

    fn turn(blocks: Vec<Block<'static>>) -> Turn<'static> {
        Turn { role: Role::User, blocks, at: 0 }
    }

    fn result(id: usize) -> Block<'static> {
        let id = Escaped::owned(id.to_string());
        Block::new(BlockKind::ToolResult { id, content: Content::None, is_error: false })
    }

    #[test]
    fn results_that_come_late_go_in_front_of_what_the_user_says_all_at_once() {
        let (results, said) = (100_000, 500_000);
        let mut turns = vec![turn(vec![result(0)]), turn(vec![Block::text(Escaped::new("x")); said])];
        // Each moving what the user says, they would take a quarter of an hour.
        turns.extend((1..results).map(|id| turn(vec![result(id)])));
        turns.push(turn(vec![Block::text(Escaped::new("y"))]));
        let turns = order(turns, false, &mut Warnings::new(Mode::Compat)).expect("an order");
        let lens: Vec<_> = turns.iter().map(|turn| turn.blocks.len()).collect();
        assert_eq!(lens, [results + said, 1]);
        for (at, block) in turns[0].blocks.iter().enumerate() {
            match &block.kind {
                BlockKind::ToolResult { id, .. } => assert_eq!(id.as_str().parse(), Ok(at)),
                _ => assert!(at >= results),
            }
        }
    }
}
