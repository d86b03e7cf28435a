//! The calls that are not done with: nothing that was written since the first of them may be removed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::line::{Intent, Seen};
use super::queue::Witness;
use super::recover::Left;
use crate::store::budget::Pinned;

#[derive(Default)]
pub(super) struct Calls {
    open: HashMap<Uuid, Open>,
    /// Calls that are done with, but began after one that still goes on.
    done: Vec<(u64, Uuid)>,
}

/// A call that is not done with.
struct Open {
    /// The line of its intent.
    seq: u64,
    /// Set until the call has closed.
    live: Option<Live>,
    /// True until its final is written.
    is_unwritten: bool,
    /// True until its budgets are settled, if any hold anything for it.
    is_held: bool,
    /// When a start would no longer settle its budgets, because their store may have forgotten whether they were
    /// settled.
    until: Option<Duration>,
    /// This process no longer settles its budgets; only a start would.
    is_given_up: bool,
}

/// A call that goes on.
struct Live {
    witness: Arc<dyn Witness>,
    /// The pots that hold money for it.
    pots: Vec<Pinned>,
    /// Its state when that was last written.
    before: Option<Seen>,
    is_closed: bool,
}

/// From which line on segments are kept, and why.
pub(super) struct Pin {
    pub(super) from: u64,
    /// The call that began there has ended, but its budgets are not settled.
    pub(super) is_untold: bool,
}

impl Calls {
    /// Calls of an earlier process, which may have died before it wrote their finals.
    pub(super) fn left(left: &[Left]) -> Self {
        let open = left.iter().map(|left| (left.id, Open::new(left.seq, None, left.record.is_some(), true)));
        Calls { open: open.collect(), done: Vec::new() }
    }

    pub(super) fn begin(&mut self, id: Uuid, seq: u64, witness: Arc<dyn Witness>, pots: Vec<Pinned>) {
        let is_held = !pots.is_empty();
        self.open
            .insert(id, Open::new(seq, Some(Live { witness, pots, before: None, is_closed: false }), true, is_held));
    }

    /// Its final is being made.
    pub(super) fn ends(&mut self, id: Uuid) {
        if let Some(open) = self.open.get_mut(&id) {
            open.live = None;
        }
    }

    /// Its final waits to be made: until then, other lines of it would only take room from that.
    pub(super) fn closed(&mut self, id: &Uuid) {
        if let Some(live) = self.open.get_mut(id).and_then(|open| open.live.as_mut()) {
            live.is_closed = true;
        }
    }

    /// The call has closed. Until `until`, a start would settle its budgets.
    pub(super) fn closes(&mut self, id: Uuid, until: Duration) {
        if let Some(open) = self.open.get_mut(&id) {
            open.until = Some(until);
        }
    }

    /// Its final is written.
    pub(super) fn written(&mut self, id: Uuid) {
        self.change(id, |open| open.is_unwritten = false);
    }

    /// Its budgets are settled.
    pub(super) fn heard(&mut self, id: Uuid) {
        self.change(id, |open| open.is_held = false);
    }

    /// Its budgets are settled only by a start.
    pub(super) fn given_up(&mut self, id: Uuid) {
        self.change(id, |open| open.is_given_up = true);
    }

    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.open.get_mut(&id) {
            change(open);
            if !open.is_unwritten && !open.is_held {
                self.done.push((open.seq, id));
                self.open.remove(&id);
            }
        }
    }

    /// Forgets calls whose budgets no start would settle any more, and returns how many they were.
    pub(super) fn forget(&mut self, now: Duration) -> usize {
        let is_late = |open: &Open| !open.is_unwritten && open.until.is_some_and(|until| until <= now);
        let late: Vec<_> = self.open.iter().filter(|(_, open)| is_late(open)).map(|(id, _)| *id).collect();
        late.iter().for_each(|id| self.heard(*id));
        late.len()
    }

    pub(super) fn contains(&self, id: &Uuid) -> bool {
        self.open.contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The first line of a call that is not done with.
    pub(super) fn pinned(&self) -> Option<Pin> {
        let first = self.open.values().min_by_key(|open| open.seq)?;
        Some(Pin { from: first.seq, is_untold: !first.is_unwritten })
    }

    /// The same, without calls that only a start would settle.
    pub(super) fn needed_from(&self) -> Option<u64> {
        self.open.values().filter(|open| open.is_unwritten || !open.is_given_up).map(|open| open.seq).min()
    }

    /// Calls that are done with and began after this line. Each is returned once.
    pub(super) fn take_done(&mut self, before: u64) -> Vec<Uuid> {
        self.done.drain(..).filter(|(seq, _)| *seq > before).map(|(_, id)| id).collect()
    }

    /// Calls that go on and began before this line, the oldest first.
    pub(super) fn that_began_before(&self, line: u64) -> Vec<Uuid> {
        let goes_on = |open: &Open| open.live.as_ref().is_some_and(|live| !live.is_closed);
        let old = self.open.iter().filter(|(_, open)| open.seq < line && goes_on(open));
        let mut old: Vec<_> = old.map(|(id, open)| (open.seq, *id)).collect();
        old.sort_unstable();
        old.into_iter().map(|(_, id)| id).collect()
    }

    /// The intent and the state of this call, if it goes on.
    pub(super) fn again(&mut self, id: &Uuid) -> Option<(Intent, Seen)> {
        let live = self.open.get_mut(id)?.live.as_mut()?;
        let (intent, seen) = asked(|| (live.witness.intent(), live.witness.seen()))?;
        live.before = Some(seen.clone());
        Some((Intent { pots: live.pots.clone(), ..intent }, seen))
    }

    /// Its intent was written again, in this line.
    pub(super) fn moved(&mut self, id: &Uuid, seq: u64) {
        if let Some(open) = self.open.get_mut(id) {
            open.seq = seq;
        }
    }

    /// The calls that go on, in no particular order.
    pub(super) fn going_on(&self) -> Vec<Uuid> {
        self.open.iter().filter(|(_, open)| open.live.is_some()).map(|(id, _)| *id).collect()
    }

    /// The state of this call, if it goes on and has changed.
    pub(super) fn seen_of(&mut self, id: &Uuid) -> Option<Seen> {
        self.open.get_mut(id)?.seen()
    }
}

impl Open {
    fn new(seq: u64, live: Option<Live>, is_unwritten: bool, is_held: bool) -> Self {
        Open { seq, live, is_unwritten, is_held, until: None, is_given_up: false }
    }

    fn seen(&mut self) -> Option<Seen> {
        let Live { witness, before, .. } = self.live.as_mut().filter(|live| !live.is_closed)?;
        let seen = asked(|| witness.seen())?;
        let is_news = before.as_ref().is_none_or(|before| seen.says_more_than(before));
        is_news.then(|| before.insert(seen).clone())
    }
}

/// Asks a call about itself. That computes prices and estimates, and a panic there must not end the journal.
pub(super) fn asked<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let said = catch_unwind(AssertUnwindSafe(ask)).ok();
    if said.is_none() {
        tracing::error!("reading the state of a call panicked");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Witness for Silent {
        fn intent(&self) -> Intent {
            panic!("nobody asks")
        }

        fn seen(&self) -> Seen {
            panic!("nobody asks")
        }
    }

    fn begin(calls: &mut Calls, number: u64, pots: serde_json::Value) -> Uuid {
        let id = Uuid::from_u128(number.into());
        calls.begin(id, number, Arc::new(Silent), serde_json::from_value(pots).expect("pots"));
        id
    }

    #[test]
    fn a_call_is_done_with_once_its_final_is_written_and_its_budgets_have_heard_if_it_has_any() {
        let pot = serde_json::json!({
            "scope": { "kind": "team", "id": "a" }, "window": "day", "window_start": "2026-11-28T00:00:00Z", "limit": "1"
        });
        for (pots, is_done) in [(vec![], true), (vec![pot], false)] {
            let mut calls = Calls::default();
            let id = begin(&mut calls, 3, pots.into());
            calls.ends(id);
            calls.written(id);
            assert_eq!(calls.is_empty(), is_done);
            calls.heard(id);
            assert!(calls.is_empty());
        }
    }

    #[test]
    fn what_is_said_again_is_of_calls_that_go_on_the_oldest_first() {
        let mut calls = Calls::default();
        let [six, two, four, five] = [6, 2, 4, 5].map(|number| begin(&mut calls, number, serde_json::json!([])));
        calls.ends(four);
        assert_eq!(calls.that_began_before(7), [two, five, six]);
        assert_eq!(calls.that_began_before(6), [two, five]);
        calls.moved(&two, 9);
        assert_eq!(calls.that_began_before(7), [five, six]);
    }

    fn ended(calls: &mut Calls, number: u64) -> Uuid {
        let id = Uuid::from_u128(number.into());
        calls.open.insert(id, Open::new(number, None, true, true));
        calls.closes(id, Duration::from_secs(60));
        id
    }

    #[test]
    fn what_no_budget_hears_of_is_kept_for_as_long_as_a_start_would_tell_it() {
        let mut calls = Calls::default();
        let (first, second) = (ended(&mut calls, 3), ended(&mut calls, 5));
        assert_eq!(calls.forget(Duration::from_secs(60)), 0, "its final is not written");
        assert!(calls.pinned().is_some_and(|pinned| pinned.from == 3 && !pinned.is_untold));
        calls.written(first);
        assert!(calls.pinned().is_some_and(|pinned| pinned.from == 3 && pinned.is_untold));
        assert_eq!(calls.forget(Duration::from_secs(59)), 0);
        assert_eq!((calls.needed_from(), calls.forget(Duration::from_secs(60))), (Some(3), 1));
        assert_eq!(calls.needed_from(), Some(5));
        calls.written(second);
        calls.heard(second);
        assert_eq!((calls.is_empty(), calls.take_done(0)), (true, vec![first, second]));
    }

    #[test]
    fn what_is_given_up_is_needed_no_more_once_it_is_written() {
        let mut calls = Calls::default();
        let id = ended(&mut calls, 3);
        calls.given_up(id);
        assert_eq!(calls.needed_from(), Some(3));
        calls.written(id);
        assert_eq!(calls.needed_from(), None);
        assert!(calls.pinned().is_some_and(|pinned| pinned.from == 3), "a start would tell it");
    }
}
