//! Calls and their results: each call gets a unique id and one result, and there is no result without a call.

use crate::dialect::canon::called::{Called, Ids, orphan};
use crate::dialect::canon::conversation::{Block, BlockKind, Content, Role, Turn};
use crate::dialect::canon::name::anthropic_tool_id;
use crate::dialect::canon::warning::Warnings;
use crate::domain::rejection::Rejection;
use crate::wire::json::Escaped;

pub(super) fn is_result(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolResult { .. })
}

/// Results for calls without one.
///
/// Only here may a longer conversation begin differently from the shorter one: if the real result comes after what the
/// user said meanwhile, it replaces the made-up one. Keeping that would tell the model that its tool failed, and a
/// second result for a call is an error.
fn missing<'a>(called: &mut Called<'a>, warnings: &mut Warnings) -> Result<Vec<Block<'a>>, Rejection> {
    if called.waits() {
        warnings.adapted("messages.tool_calls")?;
    }
    Ok(called.unanswered().map(no_result).collect())
}

pub(super) fn repair<'a>(turns: Vec<Turn<'a>>, warnings: &mut Warnings) -> Result<Vec<Turn<'a>>, Rejection> {
    let mut out = Vec::with_capacity(turns.len());
    let (mut ids, mut called) = (Ids::new(anthropic_tool_id), Called::default());
    for mut turn in turns {
        match turn.role {
            Role::Assistant => {
                unanswered(&mut out, &mut called, turn.at, warnings)?;
                of_calls(&mut turn, &mut ids, &mut called);
            }
            Role::User => answer(&mut turn, &mut called, warnings)?,
            Role::System => {}
        }
        out.push(turn);
    }
    unanswered(&mut out, &mut called, usize::MAX, warnings)?;
    Ok(out)
}

/// Gives each call of a turn an id that no earlier call has.
fn of_calls<'a>(turn: &mut Turn<'a>, ids: &mut Ids<'a>, called: &mut Called<'a>) {
    for block in &mut turn.blocks {
        let BlockKind::ToolUse { id, .. } = &mut block.kind else { continue };
        let theirs = std::mem::take(id);
        *id = ids.take(&theirs);
        called.push(theirs, id.clone());
    }
}

/// Results get the ids of their calls, and come first. A result without a call becomes something that the user says.
fn answer<'a>(turn: &mut Turn<'a>, called: &mut Called<'a>, warnings: &mut Warnings) -> Result<(), Rejection> {
    let blocks = std::mem::take(&mut turn.blocks);
    let (mut results, mut others) = (Vec::with_capacity(blocks.len()), Vec::new());
    for mut block in blocks {
        match &mut block.kind {
            BlockKind::ToolResult { id, content, .. } => match called.answered(id) {
                Some(ours) => {
                    *id = ours;
                    results.push(block);
                }
                None => {
                    warnings.adapted("messages.tool_call_id")?;
                    let content = std::mem::replace(content, Content::None);
                    others.extend(orphan(id, content));
                }
            },
            _ => others.push(block),
        }
    }
    results.extend(missing(called, warnings)?);
    results.append(&mut others);
    turn.blocks = results;
    Ok(())
}

/// Adds a user turn that answers calls which no user turn follows.
fn unanswered<'a>(
    out: &mut Vec<Turn<'a>>,
    called: &mut Called<'a>,
    at: usize,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let blocks = missing(called, warnings)?;
    if !blocks.is_empty() {
        out.push(Turn { role: Role::User, blocks, at });
    }
    Ok(())
}

fn no_result(id: Escaped<'_>) -> Block<'_> {
    let content = Content::Text(Escaped::new("No result provided."));
    Block::new(BlockKind::ToolResult { id, content, is_error: true })
}
