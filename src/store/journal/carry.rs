//! Calls that go on for longer than segments are kept. Their lines are written again, so that no segment is kept for
//! them alone, and no call is refused because another has not ended.

use std::collections::VecDeque;

use uuid::Uuid;

use super::line::Said;
use super::writer::Writer;

/// A new segment spends at most one part in this many on such lines, the oldest calls first, so that there is room left
/// for new calls.
const SHARE: u64 = 4;

/// Decides when such lines are written.
pub(super) struct Carry {
    /// The first lines of the latest segments, as many as may be kept for calls that go on.
    firsts: VecDeque<u64>,
    /// How many segments that may be, beside the one that is being written.
    behind: usize,
    /// A segment was begun since the last time.
    is_due: bool,
    /// Calls whose new lines are made and not yet written.
    moving: Vec<(u64, Uuid)>,
}

impl Carry {
    /// Begins with this line. As much may be kept for such calls as is kept anyway, if that leaves enough room.
    pub(super) fn new(first: u64, size: u64, keep: u64, most: u64) -> Self {
        let behind = usize::try_from(keep.min(most / SHARE) / size).unwrap_or(usize::MAX);
        Carry { firsts: [first].into(), behind, is_due: false, moving: Vec::new() }
    }

    /// A segment begins with this line.
    pub(super) fn begins(&mut self, first: u64) {
        self.firsts.push_back(first);
        if self.firsts.len() > self.behind.saturating_add(1) {
            self.firsts.pop_front();
            self.is_due = true;
        }
    }

    /// The line before which calls are due, if any may be. Returned once for each segment.
    fn take(&mut self) -> Option<u64> {
        let before = *self.firsts.front()?;
        std::mem::take(&mut self.is_due).then_some(before)
    }

    /// The calls whose new lines, up to this one, are written. Until then only their old lines count.
    pub(super) fn written(&mut self, upto: u64) -> impl Iterator<Item = (u64, Uuid)> + '_ {
        let written = self.moving.partition_point(|(seq, _)| *seq <= upto);
        self.moving.drain(..written)
    }
}

impl Writer {
    /// Makes the new lines of calls that are due.
    pub(super) fn carry_over(&mut self) {
        let Some(before) = self.carry.take() else { return };
        let most = usize::try_from(self.shared.size / SHARE).unwrap_or(usize::MAX);
        for id in self.calls.that_began_before(before) {
            if self.lines.len() >= most {
                break;
            }
            let Some((intent, seen)) = self.calls.again(&id) else { continue };
            if self.put(Said::Intent(Box::new(intent))).is_some() {
                self.carry.moving.push((self.head.seq, id));
                self.put_seen(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_that_began_before_what_is_kept_anyway() {
        let mut carry = Carry::new(1, 10, 25, 100);
        assert_eq!(carry.take(), None);
        for (first, due) in [(5, None), (9, None), (20, Some(5)), (30, Some(9))] {
            carry.begins(first);
            assert_eq!((carry.take(), carry.take()), (due, None), "{first}");
        }
        // Where there may be three segments, one of them the next, all must be in the last.
        let mut carry = Carry::new(1, 10, 0, 30);
        carry.begins(5);
        assert_eq!(carry.take(), Some(5));
    }

    #[test]
    fn calls_stand_elsewhere_once_the_lines_that_are_made_of_them_are_written_and_not_before() {
        let mut carry = Carry::new(1, 10, 0, 30);
        let [one, two, three] = [(3, Uuid::from_u128(1)), (5, Uuid::from_u128(2)), (7, Uuid::from_u128(3))];
        carry.moving = vec![one, two, three];
        let mut written = |upto| carry.written(upto).collect::<Vec<_>>();
        assert_eq!([written(2), written(5), written(6)], [vec![], vec![one, two], vec![]]);
        assert_eq!([written(u64::MAX), written(u64::MAX)], [vec![three], vec![]]);
    }
}
