//! How the limits of a call stand, as its client reads it off the head of the answer.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::Call;
use crate::dialect::{self, LimitState};
use crate::domain::bucket::{Bucket, Mark};
use crate::domain::dialect::Dialect;
use crate::domain::limit::{Limit, Measure};
use crate::store::rate_limit::{Permit, Standing};

/// How the limits of a call stand, of all layers that have looked at any: of each measure the one that has the least left.
#[derive(Default)]
pub(super) struct Standings {
    /// With this call, where they have counted it.
    counted: Tightest,
    /// Should it not count.
    uncounted: Tightest,
}

#[derive(Default)]
struct Tightest([Option<LimitState>; 2]);

impl Call {
    /// Shows how limits stand that have refused this call, or were not asked to count it.
    pub(crate) fn show_limits(&self, standings: &[Standing]) {
        let (now, mut state) = (self.now(), self.state());
        state.standings.counted.see(standings, now);
        state.standings.uncounted.see(standings, now);
    }

    /// Shows how limits stand that have counted this call. Where it is refused further in, and nobody was asked anything, it
    /// does not count, and that is what its client is shown.
    pub(crate) fn show_counted(&self, permit: &Permit, mut standings: Vec<Standing>) {
        let (now, mut state) = (self.now(), self.state());
        state.standings.counted.see(&standings, now);
        standings.iter_mut().for_each(|standing| give_back(standing, permit));
        state.standings.uncounted.see(&standings, now);
    }
}

impl Standings {
    pub(super) fn headers(&self, dialect: Dialect, counts: bool) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let Tightest(states) = if counts { &self.counted } else { &self.uncounted };
        states.iter().flatten().flat_map(move |state| dialect::limit_headers(dialect, *state))
    }
}

impl Tightest {
    fn see(&mut self, standings: &[Standing], now: Timestamp) {
        for (measure, tightest) in [Measure::Requests, Measure::Tokens].into_iter().zip(&mut self.0) {
            let of_it = standings.iter().filter(|standing| standing.limit.measure == measure);
            let state = |standing: &Standing| {
                let (most, left, full_after) = (standing.limit.most, standing.left, standing.full_after);
                LimitState { measure, most, left, full_after, now }
            };
            *tightest = tightest.iter().copied().chain(of_it.map(state)).min_by_key(|state| state.left);
        }
    }
}

/// As its store will give it back, by the rule of the bucket.
fn give_back(standing: &mut Standing, permit: &Permit) {
    let limit = &standing.limit;
    let mut taken = permit.taken.iter().filter(|taken| taken.limit.measure != Measure::Parallel);
    let is_of_it = |other: &Limit| other.measure == limit.measure && other.scope == limit.scope;
    let Some(taken) = taken.find(|taken| is_of_it(&taken.limit)) else { return };
    // Counted from the moment at which it was taken, up to where the bucket stood then.
    let full_at = i64::try_from(standing.full_after.as_nanos()).unwrap_or(i64::MAX);
    let mut bucket = Bucket { full_at, refunded: 0 };
    bucket.give_back(0, taken.limit.most, Mark { full_at, refunded: 0 }, taken.amount);
    standing.left = bucket.level(0, limit.most);
    standing.full_after = Duration::from_nanos(bucket.full_after(0).unsigned_abs());
}
