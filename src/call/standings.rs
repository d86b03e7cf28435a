//! How a call's limits stand, for the headers of its answer.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::Call;
use crate::dialect::{self, LimitState};
use crate::domain::bucket::{Bucket, Mark};
use crate::domain::dialect::Dialect;
use crate::domain::limit::{Limit, Measure};
use crate::store::rate_limit::{Permit, Standing};

/// How the limits of a call stand, over all layers that have checked any: for each measure the one with the least left.
#[derive(Default)]
pub(super) struct Standings {
    /// If this call counts, where limits have counted it.
    counted: Tightest,
    /// If this call does not count.
    uncounted: Tightest,
}

#[derive(Default)]
struct Tightest([Option<LimitState>; 2]);

impl Call {
    /// Shows limits that have refused this call, or that were not asked to count it.
    pub(crate) fn show_limits(&self, standings: &[Standing]) {
        let (now, mut state) = (self.now(), self.state());
        state.standings.counted.see(standings, now);
        state.standings.uncounted.see(standings, now);
    }

    /// Shows limits that have counted this call. If it is refused further in before any provider was asked, it does not
    /// count, and its headers show that.
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

/// Undoes the count of this call as its store will, by the rule of the bucket.
fn give_back(standing: &mut Standing, permit: &Permit) {
    let limit = &standing.limit;
    let mut taken = permit.taken.iter().filter(|taken| taken.limit.measure != Measure::Parallel);
    let is_of_it = |other: &Limit| other.measure == limit.measure && other.scope == limit.scope;
    let Some(taken) = taken.find(|taken| is_of_it(&taken.limit)) else { return };
    // Relative to the time of the count, and at most to the bucket's level at that time.
    let full_at = i64::try_from(standing.full_after.as_nanos()).unwrap_or(i64::MAX);
    let mut bucket = Bucket { full_at, refunded: 0 };
    bucket.give_back(0, taken.limit.most, Mark { full_at, refunded: 0 }, taken.amount);
    standing.left = bucket.level(0, limit.most);
    standing.full_after = Duration::from_nanos(bucket.full_after(0).unsigned_abs());
}
