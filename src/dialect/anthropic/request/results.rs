//! Calls and their results: an id for each call that is its alone, one result for each, and none for what was never called.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::dialect::canon::conversation::{Block, BlockKind, Content, Role, Turn};
use crate::dialect::canon::name::anthropic_tool_id;
use crate::dialect::canon::warning::Warnings;
use crate::domain::rejection::Rejection;
use crate::wire::json::Escaped;

pub(super) fn is_result(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolResult { .. })
}

/// The calls of the last assistant turn that have no result yet: by their ids in the client's words, those in ours.
#[derive(Default)]
struct Called {
    ours: Vec<Option<Escaped<'static>>>,
    by_id: HashMap<String, VecDeque<usize>>,
}

impl Called {
    fn push(&mut self, id: &Escaped<'_>, ours: Escaped<'static>) {
        self.by_id.entry(id.as_str().to_owned()).or_default().push_back(self.ours.len());
        self.ours.push(Some(ours));
    }

    /// The call that a result of this id answers; each is answered once.
    fn answered(&mut self, id: &Escaped<'_>) -> Option<Escaped<'static>> {
        let at = self.by_id.get_mut(id.as_str())?.pop_front()?;
        self.ours.get_mut(at)?.take()
    }

    /// Results for those that nobody answered.
    fn missing(&mut self, warnings: &mut Warnings) -> Result<Vec<Block<'static>>, Rejection> {
        let missing: Vec<_> = std::mem::take(self).ours.into_iter().flatten().map(no_result).collect();
        if !missing.is_empty() {
            warnings.adapted("messages.tool_calls")?;
        }
        Ok(missing)
    }
}

pub(super) fn repair<'a>(turns: Vec<Turn<'a>>, warnings: &mut Warnings) -> Result<Vec<Turn<'a>>, Rejection> {
    let mut out = Vec::with_capacity(turns.len());
    let (mut ids, mut called) = (Ids::default(), Called::default());
    for mut turn in turns {
        match turn.role {
            Role::Assistant => {
                unanswered(&mut out, &mut called, turn.at, warnings)?;
                called = ids.of_calls(&mut turn);
            }
            Role::User => answer(&mut turn, &mut called, warnings)?,
            Role::System => {}
        }
        out.push(turn);
    }
    unanswered(&mut out, &mut called, usize::MAX, warnings)?;
    Ok(out)
}

/// The ids that calls have so far.
#[derive(Default)]
struct Ids {
    taken: HashSet<String>,
    /// How often one was wanted.
    wanted: HashMap<String, u64>,
}

impl Ids {
    /// Gives each call of a turn an id that no earlier one has: some servers begin anew with `call_0`.
    fn of_calls(&mut self, turn: &mut Turn<'_>) -> Called {
        let mut called = Called::default();
        for block in &mut turn.blocks {
            let BlockKind::ToolUse { id, .. } = &mut block.kind else { continue };
            let ours = Escaped::owned(self.take(&anthropic_tool_id(id)));
            called.push(id, ours.clone());
            *id = ours;
        }
        called
    }

    fn take(&mut self, plain: &str) -> String {
        let times = self.wanted.entry(plain.to_owned()).or_insert(0);
        loop {
            *times += 1;
            let id = if *times == 1 { plain.to_owned() } else { format!("{plain}_{times}") };
            if self.taken.insert(id.clone()) {
                return id;
            }
        }
    }
}

/// Results take the ids of their calls, and come first. What answers none is something that the user says.
fn answer(turn: &mut Turn<'_>, called: &mut Called, warnings: &mut Warnings) -> Result<(), Rejection> {
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
    results.extend(called.missing(warnings)?);
    results.append(&mut others);
    turn.blocks = results;
    Ok(())
}

fn orphan<'a>(id: &Escaped<'_>, content: Content<'a>) -> Vec<Block<'a>> {
    let before = ["Tool result for ", id.as_str(), ": "].concat();
    let mut blocks = match content {
        Content::Blocks(blocks) => blocks,
        Content::Text(text) => vec![Block::text(text)],
        Content::None => Vec::new(),
    };
    match blocks.first_mut() {
        Some(Block { kind: BlockKind::Text(text), .. }) => *text = Escaped::join(&[&before, text.as_str()]),
        _ => blocks.insert(0, Block::text(Escaped::owned(before))),
    }
    blocks
}

/// Answers the calls that no user turn follows, by one of its own.
fn unanswered(
    out: &mut Vec<Turn<'_>>,
    called: &mut Called,
    at: usize,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let blocks = called.missing(warnings)?;
    if !blocks.is_empty() {
        out.push(Turn { role: Role::User, blocks, at });
    }
    Ok(())
}

fn no_result(id: Escaped<'static>) -> Block<'static> {
    let content = Content::Text(Escaped::new("No result provided."));
    Block::new(BlockKind::ToolResult { id, content, is_error: true })
}
