//! Calls of tools that wait for their results.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::quality::RandomState;

use super::conversation::{Block, BlockKind, Content};
use crate::wire::json::Escaped;

/// The calls of one turn, by the ids that the client gave them: one id may be several calls.
#[derive(Default)]
pub(crate) struct Called<'a> {
    calls: Vec<Call<'a>>,
    by_id: HashMap<Escaped<'a>, Same, RandomState>,
    waiting: usize,
}

struct Call<'a> {
    /// The id that it has from us, until it is answered.
    id: Option<Escaped<'a>>,
    /// The next one of the client's id; beyond all calls, if there is none.
    next: usize,
}

/// Calls of one id: the first that waits, the last, and how many there are.
struct Same {
    first: usize,
    last: usize,
    times: usize,
}

impl<'a> Called<'a> {
    /// Adds a call, by the id that it has from us, which `ours` makes: it is told how many had the client's before.
    pub(crate) fn push(&mut self, theirs: Escaped<'a>, ours: impl FnOnce(usize) -> Escaped<'a>) {
        let here = self.calls.len();
        let before = match self.by_id.entry(theirs) {
            Entry::Vacant(alone) => {
                alone.insert(Same { first: here, last: here, times: 1 });
                0
            }
            Entry::Occupied(mut several) => {
                let same = several.get_mut();
                self.calls[same.last].next = here;
                // All before may have been answered.
                same.first = same.first.min(here);
                same.last = here;
                same.times += 1;
                same.times - 1
            }
        };
        self.calls.push(Call { id: Some(ours(before)), next: usize::MAX });
        self.waiting += 1;
    }

    /// The call that a result of this id answers; each is answered once.
    pub(crate) fn answered(&mut self, theirs: &Escaped<'_>) -> Option<Escaped<'a>> {
        let same = self.by_id.get_mut(theirs.as_str())?;
        let call = self.calls.get_mut(same.first)?;
        same.first = call.next;
        self.waiting -= 1;
        call.id.take()
    }

    /// Whether any call has no result yet.
    pub(crate) fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// Those that nobody answered, in order. None is left then.
    pub(crate) fn unanswered(&mut self) -> impl Iterator<Item = Escaped<'a>> {
        self.by_id.clear();
        self.waiting = 0;
        self.calls.drain(..).filter_map(|call| call.id)
    }
}

/// A result of no call that there is: something that the user says.
pub(crate) fn orphan<'a>(id: &Escaped<'_>, content: Content<'a>) -> Vec<Block<'a>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_id_are_answered_in_order_and_once() {
        let mut called = Called::default();
        for id in ["a", "b", "a", "c"] {
            called.push(Escaped::new(id), |before| Escaped::owned(format!("{id}{before}")));
        }
        let mut answer = |id| called.answered(&Escaped::new(id)).map(|ours| ours.as_str().to_owned());
        let answers = ["a", "c", "a", "a", "d"].map(&mut answer);
        assert_eq!(answers, [Some("a0"), Some("c0"), Some("a1"), None, None].map(|id| id.map(str::to_owned)));
        assert!(called.waits());
        assert_eq!(called.unanswered().map(|id| id.as_str().to_owned()).collect::<Vec<_>>(), ["b0"]);
        assert!(!called.waits() && called.unanswered().next().is_none());
        assert_eq!(called.answered(&Escaped::new("b")), None);
        for time in ["first", "second"] {
            called.push(Escaped::new("a"), |before| Escaped::owned(before.to_string()));
            assert!(called.answered(&Escaped::new("a")).is_some(), "{time}");
        }
    }
}
