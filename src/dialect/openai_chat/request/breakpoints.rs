//! Cache breakpoints, which OpenAI accepts only on the parts of messages.

use crate::dialect::canon::conversation::{Block, BlockKind, Content, Conversation, Role, Source};

/// Moves breakpoints to parts that can have one, and removes those for which there is none. Returns whether any was
/// removed.
pub(super) fn settle(conversation: &mut Conversation<'_>) -> bool {
    let mut lost = false;
    conversation.tools.iter_mut().for_each(|tool| lost |= tool.cache.take().is_some());
    let says_nothing = |block: &&mut Block<'_>| matches!(&block.kind, BlockKind::Text(text) if text.is_empty());
    conversation.system.iter_mut().filter(says_nothing).for_each(|block| lost |= block.cache.take().is_some());
    for turn in &mut conversation.turns {
        let is_assistant = turn.role == Role::Assistant;
        for block in &mut turn.blocks {
            match &mut block.kind {
                BlockKind::Text(text) if is_assistant && text.is_empty() => lost |= block.cache.take().is_some(),
                BlockKind::Text(_) => {}
                // All text of a result is one part; anything else in it is a part of its own.
                BlockKind::ToolResult { content: Content::Blocks(within), .. } => {
                    for part in within {
                        let is_text = matches!(
                            part.kind,
                            BlockKind::Text(_) | BlockKind::Document { source: Source::Text(_), .. }
                        );
                        if is_text && let Some(cache) = part.cache.take() {
                            block.cache.get_or_insert(cache);
                        }
                    }
                }
                BlockKind::ToolResult { .. } => {}
                BlockKind::Image(_) | BlockKind::Document { .. } if !is_assistant => {}
                _ => lost |= block.cache.take().is_some(),
            }
        }
    }
    lost
}
