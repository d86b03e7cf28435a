use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use uuid::Uuid;

/// How long an id is remembered at least.
const AT_LEAST: Duration = Duration::from_secs(60 * 60);
/// How much longer at most.
const AGE: Duration = Duration::from_secs(6 * 60);
/// The most time that counts as passed between two settlements. A clock that jumps, or a night without calls, then does
/// not forget what was settled a moment ago, whose repetition may still be on its way.
const STEP: Duration = Duration::from_secs(60);
/// The most ids in one age: as many as fit into the nearer caches of the processor, since every settlement adds one.
const MOST: usize = 1 << 14;

/// The ids of recent settlements, in ages. The oldest age is dropped as a whole, so remembering an id costs one
/// insertion and forgetting it costs nothing.
#[derive(Default)]
pub(super) struct Settled {
    ages: VecDeque<Age>,
    /// The time that has passed as counted here, and the time of the latest settlement.
    passed: Duration,
    latest: Option<Timestamp>,
}

struct Age {
    until: Duration,
    ids: HashSet<Uuid, RandomState>,
}

impl Settled {
    pub(super) fn remember(&mut self, id: Uuid, now: Timestamp) {
        let since = |latest| Duration::try_from(now.duration_since(latest)).unwrap_or_default();
        let step = self.latest.map_or(Duration::ZERO, since);
        (self.passed, self.latest) = (self.passed + step.min(STEP), Some(now));
        let passed = self.passed;
        if self.ages.back().is_none_or(|age| age.until < passed || age.ids.len() >= MOST) {
            while self.ages.front().is_some_and(|age| age.until + AT_LEAST < passed) {
                self.ages.pop_front();
            }
            // As large as the last one grew, so that it seldom has to be copied while everyone waits.
            let size = self.ages.back().map_or(0, |age| age.ids.len());
            let ids = HashSet::with_capacity_and_hasher(size, RandomState::default());
            self.ages.push_back(Age { until: passed + AGE, ids });
        }
        if let Some(age) = self.ages.back_mut() {
            age.ids.insert(id);
        }
    }

    /// Only for an id that is not known otherwise: it searches a dozen sets, or a few hundred at a thousand calls a
    /// second.
    pub(super) fn contains(&self, id: &Uuid) -> bool {
        self.ages.iter().any(|age| age.ids.contains(id))
    }

    pub(super) fn len(&self) -> usize {
        self.ages.iter().map(|age| age.ids.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{AGE, AT_LEAST, Duration, Settled, Timestamp, Uuid};

    fn after(time: Timestamp, by: Duration) -> Timestamp {
        time.saturating_add(by).expect("a time")
    }

    #[test]
    fn an_id_is_remembered_for_an_hour_and_forgotten_soon_after() {
        let mut settled = Settled::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut ids = Vec::new();
        for step in 0..300_u128 {
            now = after(now, Duration::from_secs(60));
            let id = Uuid::from_u128(step);
            settled.remember(id, now);
            ids.push((id, now));
            for (id, at) in &ids {
                if now <= after(*at, AT_LEAST) {
                    assert!(settled.contains(id), "{id} of {at} at {now}");
                }
                if now > after(*at, AT_LEAST + AGE * 2) {
                    assert!(!settled.contains(id), "{id} of {at} at {now}");
                }
            }
        }
        assert!(settled.len() < 90 && settled.ages.len() < 14, "{} in {}", settled.len(), settled.ages.len());
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_forget() {
        let mut settled = Settled::default();
        let mut now = Timestamp::UNIX_EPOCH;
        for id in 0..50 {
            settled.remember(Uuid::from_u128(id), now);
            now = after(now, Duration::from_secs(7_200));
        }
        assert!((0..50).all(|id| settled.contains(&Uuid::from_u128(id))));
    }
}
