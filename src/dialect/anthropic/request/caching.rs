//! Cache breakpoints: at most four, and none of an hour behind one of five minutes.
//! Source: platform.claude.com/docs/en/build-with-claude/prompt-caching.

use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Conversation};
use crate::dialect::canon::warning::Warnings;
use crate::domain::rejection::Rejection;

const MOST: usize = 4;

pub(super) fn fit(conversation: &mut Conversation<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    for turn in &mut conversation.turns {
        off_thinking(&mut turn.blocks);
    }
    if conversation.keep_breakpoints(MOST - usize::from(conversation.cache.is_some())) {
        warnings.dropped("cache_control")?;
    }
    let mut is_short = false;
    for point in conversation.breakpoints() {
        is_short |= *point == Some(Cache::FiveMinutes);
        if is_short {
            *point = Some(Cache::FiveMinutes);
        }
    }
    Ok(())
}

/// Thinking takes no breakpoint; the block before it does.
fn off_thinking(blocks: &mut [Block<'_>]) {
    let thinks =
        |block: &Block<'_>| matches!(block.kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. });
    for at in 0..blocks.len() {
        if thinks(&blocks[at])
            && let Some(cache) = blocks[at].cache.take()
            && let Some(before) = blocks[..at].iter_mut().rev().find(|block| !thinks(block))
        {
            before.cache.get_or_insert(cache);
        }
    }
}
