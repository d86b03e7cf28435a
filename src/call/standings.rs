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

/// How limits stand once a call that they have counted is taken out of the count.
pub(super) struct Uncounted {
    standings: Vec<Standing>,
    /// When they stood so.
    at: Timestamp,
}

impl Call {
    /// Shows how limits stand that have refused this call, or were not asked to count it.
    pub(crate) fn show_limits(&self, standings: &[Standing]) {
        self.state().uncounted = None;
        self.show(standings, self.now());
    }

    /// Shows how limits stand that have counted this call. Where it is refused further in, and nobody was asked anything, it
    /// does not count, and that is what its client is shown.
    pub(crate) fn show_counted(&self, permit: &Permit, mut standings: Vec<Standing>) {
        let at = self.now();
        self.show(&standings, at);
        standings.iter_mut().for_each(|standing| give_back(standing, permit));
        self.state().uncounted = Some(Uncounted { standings, at });
    }

    fn show(&self, standings: &[Standing], now: Timestamp) {
        for of_a_measure in headers(self.dialect(), standings, now) {
            self.set_answer_headers(of_a_measure);
        }
    }
}

impl Uncounted {
    pub(super) fn headers(&self, dialect: Dialect) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        headers(dialect, &self.standings, self.at).flatten()
    }
}

/// Of several limits of one measure, clients are shown the one that has the least left.
fn headers(
    dialect: Dialect,
    standings: &[Standing],
    now: Timestamp,
) -> impl Iterator<Item = impl Iterator<Item = (HeaderName, HeaderValue)>> {
    [Measure::Requests, Measure::Tokens].into_iter().filter_map(move |measure| {
        let of_it = standings.iter().filter(|standing| standing.limit.measure == measure);
        let standing = of_it.min_by_key(|standing| standing.left)?;
        let (most, left, full_after) = (standing.limit.most, standing.left, standing.full_after);
        Some(dialect::limit_headers(dialect, LimitState { measure, most, left, full_after, now }))
    })
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
