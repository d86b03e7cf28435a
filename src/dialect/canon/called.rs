//! Tool calls that wait for their results, and the ids that tell them apart.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::quality::RandomState;

use super::conversation::{Block, BlockKind, Content};
use crate::wire::json::Escaped;

/// The calls of one turn, by the client's ids; several calls may share an id.
#[derive(Default)]
pub(crate) struct Called<'a> {
    calls: Vec<Call<'a>>,
    by_id: HashMap<Escaped<'a>, Same, RandomState>,
    waiting: usize,
}

struct Call<'a> {
    /// The id that the translation gave it, until it is answered.
    id: Option<Escaped<'a>>,
    /// The next call with the same client id; beyond all calls if there is none.
    next: usize,
}

/// The calls with one id: the first that waits, and the last.
struct Same {
    first: usize,
    last: usize,
}

impl<'a> Called<'a> {
    /// Adds a call, with the id that the translation gave it.
    pub(crate) fn push(&mut self, theirs: Escaped<'a>, ours: Escaped<'a>) {
        let here = self.calls.len();
        match self.by_id.entry(theirs) {
            Entry::Vacant(alone) => _ = alone.insert(Same { first: here, last: here }),
            Entry::Occupied(mut several) => {
                let same = several.get_mut();
                self.calls[same.last].next = here;
                // All earlier ones may have been answered.
                same.first = same.first.min(here);
                same.last = here;
            }
        }
        self.calls.push(Call { id: Some(ours), next: usize::MAX });
        self.waiting += 1;
    }

    /// The call that a result with this id answers; each call is answered once.
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

    /// The calls without a result, in order. None is left afterwards.
    pub(crate) fn unanswered(&mut self) -> impl Iterator<Item = Escaped<'a>> {
        self.by_id.clear();
        self.waiting = 0;
        self.calls.drain(..).filter_map(|call| call.id)
    }
}

/// How an API spells an id.
type Form = for<'b, 'c> fn(&'b Escaped<'c>) -> Cow<'b, str>;

/// The ids of calls so far, and how often each was wanted.
pub(crate) struct Ids<'a> {
    form: Form,
    wanted: HashMap<Escaped<'a>, u64, RandomState>,
}

impl<'a> Ids<'a> {
    /// For an API whose ids have the form that this function produces.
    pub(crate) fn new(form: Form) -> Self {
        Ids { form, wanted: HashMap::default() }
    }

    /// An id that no earlier call has: some servers begin again with `call_0`.
    pub(crate) fn take(&mut self, theirs: &Escaped<'a>) -> Escaped<'a> {
        let plain = match (self.form)(theirs) {
            Cow::Borrowed(_) => theirs.clone(),
            Cow::Owned(id) => Escaped::owned(id),
        };
        let Some(&before) = self.wanted.get(&plain) else {
            self.wanted.insert(plain.clone(), 1);
            return plain;
        };
        let mut times = before;
        let id = loop {
            times += 1;
            let id = Escaped::owned(format!("{}_{times}", plain.as_str()));
            let id = Escaped::owned((self.form)(&id).into_owned());
            if !self.wanted.contains_key(&id) {
                break id;
            }
        };
        self.wanted.insert(plain, times);
        self.wanted.insert(id.clone(), 1);
        id
    }
}

/// Turns a result without a call into something that the user says.
pub(crate) fn orphan<'a>(id: &Escaped<'_>, content: Content<'a>) -> Vec<Block<'a>> {
    let before = ["Tool result for ", id.as_str(), ": "].concat();
    let mut blocks = match content {
        Content::Blocks(blocks) => blocks,
        Content::Text(text) => vec![Block::text(text)],
        Content::None => Vec::new(),
    };
    // A result may be empty, but a message may not.
    blocks.retain(|block| !matches!(&block.kind, BlockKind::Text(text) if text.is_empty()));
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
    fn a_result_of_no_call_says_whose_it_was_to_be_and_nothing_empty() {
        let text = |text: &'static str| Block::text(Escaped::new(text));
        for (content, said) in [
            (vec![text(""), text("")], vec!["Tool result for a: "]),
            (vec![text(""), text("it is")], vec!["Tool result for a: it is"]),
            (vec![text("it"), text("is")], vec!["Tool result for a: it", "is"]),
        ] {
            let blocks = orphan(&Escaped::new("a"), Content::Blocks(content));
            let texts = blocks.iter().map(|block| match &block.kind {
                BlockKind::Text(text) => text.as_str().to_owned(),
                other => panic!("{other:?}"),
            });
            assert_eq!(texts.collect::<Vec<_>>(), said);
        }
    }

    #[test]
    fn calls_of_one_id_are_answered_in_order_and_once() {
        let mut called = Called::default();
        for (id, ours) in [("a", "a0"), ("b", "b0"), ("a", "a1"), ("c", "c0")] {
            called.push(Escaped::new(id), Escaped::new(ours));
        }
        let mut answer = |id| called.answered(&Escaped::new(id)).map(|ours| ours.as_str().to_owned());
        let answers = ["a", "c", "a", "a", "d"].map(&mut answer);
        assert_eq!(answers, [Some("a0"), Some("c0"), Some("a1"), None, None].map(|id| id.map(str::to_owned)));
        assert!(called.waits());
        assert_eq!(called.unanswered().map(|id| id.as_str().to_owned()).collect::<Vec<_>>(), ["b0"]);
        assert!(!called.waits() && called.unanswered().next().is_none());
        assert_eq!(called.answered(&Escaped::new("b")), None);
        for time in ["first", "second"] {
            called.push(Escaped::new("a"), Escaped::new("a"));
            assert!(called.answered(&Escaped::new("a")).is_some(), "{time}");
        }
    }
}
