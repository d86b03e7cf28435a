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
    let mut before: Option<&mut Block<'_>> = None;
    for block in blocks {
        if !matches!(block.kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. }) {
            before = Some(block);
        } else if let (Some(cache), Some(before)) = (block.cache.take(), &mut before) {
            before.cache.get_or_insert(cache);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Escaped;

    fn thought(cache: Option<Cache>) -> Block<'static> {
        Block { cache, ..Block::new(BlockKind::RedactedThinking { data: Escaped::default() }) }
    }

    #[test]
    fn a_breakpoint_on_thinking_goes_to_the_block_before_it_however_much_thinking_there_is() {
        let mut blocks = vec![thought(Some(Cache::Hour)), Block::text(Escaped::new("a"))];
        // Each looking for it on its own would take minutes.
        blocks.resize(400_000, thought(Some(Cache::FiveMinutes)));
        blocks.push(Block::text(Escaped::new("b")));
        off_thinking(&mut blocks);
        let left: Vec<_> = blocks.iter().enumerate().filter_map(|(at, block)| Some((at, block.cache?))).collect();
        assert_eq!(left, [(1, Cache::FiveMinutes)]);
    }
}
