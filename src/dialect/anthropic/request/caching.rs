//! Cache breakpoints: at most four, and none of an hour after one of five minutes. Source:
//! platform.claude.com/docs/en/build-with-claude/prompt-caching.

use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Conversation};
use crate::dialect::canon::warning::Warnings;
use crate::domain::rejection::Rejection;

const MOST: usize = 4;

pub(super) fn fit(conversation: &mut Conversation<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    if conversation.keep_breakpoints(MOST - usize::from(conversation.cache.is_some())) {
        warnings.dropped("cache_control")?;
    }
    let (mut is_short, mut is_shortened) = (false, false);
    let mut shorten = |point: &mut Option<Cache>| {
        is_short |= *point == Some(Cache::FiveMinutes);
        if is_short && *point == Some(Cache::Hour) {
            is_shortened = true;
            *point = Some(Cache::FiveMinutes);
        }
    };
    conversation.breakpoints().into_iter().for_each(&mut shorten);
    // The provider puts this one after all others.
    shorten(&mut conversation.cache);
    if is_shortened { warnings.adapted("cache_control.ttl") } else { Ok(()) }
}

/// Moves breakpoints to where they are allowed. Call it while everything that the client sent is still there.
pub(super) fn settle(conversation: &mut Conversation<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    for block in conversation.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        if let BlockKind::ToolResult { content: Content::Blocks(within), .. } = &mut block.kind {
            let lost = off_ineligible(within.iter_mut());
            block.cache = block.cache.or(lost);
        }
    }
    let said = conversation.turns.iter_mut().flat_map(|turn| &mut turn.blocks);
    match off_ineligible(conversation.system.iter_mut().chain(said)) {
        Some(_) => warnings.dropped("cache_control"),
        None => Ok(()),
    }
}

/// Thinking and empty text cannot have a breakpoint; the block before them gets it. If there is no block before, the
/// breakpoint is returned.
fn off_ineligible<'b, 'a: 'b>(blocks: impl Iterator<Item = &'b mut Block<'a>>) -> Option<Cache> {
    let (mut before, mut lost): (Option<&mut Block<'_>>, _) = (None, None);
    for block in blocks {
        let is_eligible = match &block.kind {
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => false,
            BlockKind::Text(text) => !text.is_blank(),
            _ => true,
        };
        if is_eligible {
            before = Some(block);
            continue;
        }
        let Some(cache) = block.cache.take() else { continue };
        match &mut before {
            Some(before) => _ = before.cache.get_or_insert(cache),
            None => lost = Some(cache),
        }
    }
    lost
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
        assert_eq!(off_ineligible(blocks.iter_mut()), Some(Cache::Hour), "nothing stands before it");
        let left: Vec<_> = blocks.iter().enumerate().filter_map(|(at, block)| Some((at, block.cache?))).collect();
        assert_eq!(left, [(1, Cache::FiveMinutes)]);
    }
}
