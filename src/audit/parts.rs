//! Finds, in a batch that a sink refused, the records that it refuses.

use std::fmt::Display;
use std::ops::Range;

use crate::domain::audit::AuditRecord;

/// After this many records were refused alone, and none taken, the sink refuses everything.
const ALONE: usize = 2;

/// Splits a batch into the parts to send, in order. Each record is either taken once or given up once.
///
/// When a whole batch is refused, its first record is sent alone, then the rest at once. A sink that takes nothing is
/// thus recognized after a few requests, and a moved endpoint is not asked about each record. Once the sink has taken
/// something, the refused records are found by bisection.
#[derive(Default)]
pub(super) struct Parts {
    /// All parts that are left, without a gap; the one to send now is at the end.
    waiting: Vec<Range<usize>>,
    is_taking: bool,
    /// How many records were refused alone.
    alone: usize,
}

impl Parts {
    /// Of a batch of so many records.
    pub(super) fn of(records: usize) -> Self {
        let whole = (records > 0).then_some(0..records);
        Parts { waiting: whole.into_iter().collect(), ..Parts::default() }
    }

    /// The part to send now; never empty. It stays the same until it is known what became of it.
    pub(super) fn following(&self) -> Option<Range<usize>> {
        self.waiting.last().cloned()
    }

    /// That part was taken.
    pub(super) fn taken(&mut self) {
        self.waiting.pop();
        self.is_taking = true;
    }

    /// That part was refused. Returns the records that are given up, if any; they are not sent again.
    pub(super) fn refused(&mut self) -> Range<usize> {
        self.split(|len, is_taking| if is_taking { len / 2 } else { 1 })
    }

    /// That part was too large. Returns the records that are given up, if any.
    pub(super) fn too_large(&mut self) -> Range<usize> {
        self.split(|len, _| len / 2)
    }

    fn split(&mut self, first: impl Fn(usize, bool) -> usize) -> Range<usize> {
        let Some(Range { start, end }) = self.waiting.pop() else { return 0..0 };
        if end - start == 1 {
            self.alone += 1;
            return start..end;
        }
        if !self.is_taking && self.alone >= ALONE {
            let last = self.waiting.drain(..).next();
            return start..last.map_or(end, |last| last.end);
        }
        let first = start + first(end - start, self.is_taking);
        self.waiting.extend([first..end, start..first]);
        0..0
    }
}

/// Logs a record that no sink takes: the last place to keep it.
pub(super) fn lost(record: &AuditRecord, error: &dyn Display) {
    let record = serde_json::to_string(record).unwrap_or_default();
    tracing::error!(%error, record, "the sink refused an audit record for good; it is kept only in this log line");
}

#[cfg(test)]
pub(super) mod tests {
    use super::{AuditRecord, Parts};

    pub(in crate::audit) fn record(number: u128) -> AuditRecord {
        let record = serde_json::json!({
            "schema": 1, "id": uuid::Uuid::from_u128(number), "opened_at": "2026-11-28T09:00:00Z", "dialect": "anthropic",
            "operation": "generate", "end": "complete", "took_us": 1, "bytes_out": 1,
        });
        serde_json::from_value(record).expect("a record")
    }

    pub(in crate::audit) fn ids(records: &[AuditRecord]) -> Vec<u128> {
        records.iter().map(|record| record.id.as_u128()).collect()
    }

    /// Simulates a sink that refuses every part with a record of `faulty` in it, and takes at most `most` records at
    /// once. Returns what it took, what was given up, and how often it was asked.
    fn told(count: u128, faulty: &[u128], most: usize) -> (Vec<u128>, Vec<u128>, usize) {
        let all: Vec<_> = (0..count).map(record).collect();
        let (mut taken, mut given_up, mut asked) = (Vec::new(), Vec::new(), 0);
        let mut parts = Parts::of(all.len());
        while let Some(part) = parts.following() {
            asked += 1;
            let part = ids(&all[part]);
            if part.len() > most {
                given_up.extend(ids(&all[parts.too_large()]));
            } else if part.iter().any(|id| faulty.contains(id)) {
                given_up.extend(ids(&all[parts.refused()]));
            } else {
                parts.taken();
                taken.extend(part);
            }
        }
        (taken, given_up, asked)
    }

    #[test]
    fn of_two_records_at_fault_none_takes_another_with_it() {
        for most in [3, 20] {
            for one in 0..20 {
                for other in one..20 {
                    let (taken, given_up, _) = told(20, &[one, other], most);
                    let mut faulty = vec![one, other];
                    faulty.dedup();
                    let others: Vec<_> = (0..20).filter(|id| !faulty.contains(id)).collect();
                    assert_eq!((taken, given_up), (others, faulty), "each once, and in their order");
                }
            }
        }
    }

    #[test]
    fn who_takes_nothing_is_asked_a_few_times_and_all_of_it_is_given_up() {
        let all: Vec<u128> = (0..256).collect();
        assert_eq!(told(256, &all, 256), (Vec::new(), all.clone(), 5));
        // Each of them is too large: bisection reaches single records first.
        assert_eq!(told(256, &[], 0), (Vec::new(), all, 11));
        assert_eq!(told(0, &[], 256), (Vec::new(), Vec::new(), 0));
        // One among many is found by bisection, once something was taken.
        assert_eq!(told(256, &[100], 256).2, 19);
        assert_eq!(told(1, &[0], 256), (Vec::new(), vec![0], 1));
    }
}
