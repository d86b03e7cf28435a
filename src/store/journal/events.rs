use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Shared;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::{Event, What};
use crate::domain::key::KeyRecord;
use crate::domain::outcome::{AttemptEnd, Outcome};
use crate::domain::rejection::RejectionKind;
use crate::store::budget::{Crossing, Standing};

/// How long whoever revokes a key waits for a disk that takes nothing.
const MOMENT: Duration = Duration::from_secs(1);

/// Takes events into a journal, which delivers them. Clones share the journal.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("tollgate-doc-events-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// use tollgate::store::journal::{Journal, UpstreamWatch};
/// use tollgate::store::memory::MemoryBudgets;
/// use tollgate::{BudgetLayer, GatewayLayer};
///
/// let journal = Journal::at(&dir).open()?; // `.notify("slack", …)` adds a sink
/// let events = journal.events();
/// let watch = UpstreamWatch::new(events.clone(), 5);
/// let layer = GatewayLayer::new()
///     .budget(BudgetLayer::new(MemoryBudgets::new()).on_threshold(move |crossing| events.crossing(crossing)))
///     .on_close(move |outcome| watch.see(outcome));
/// # drop((layer, journal)); std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

impl Events {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Events { shared }
    }

    #[cfg(test)]
    pub(super) fn into_shared(self) -> Arc<Shared> {
        self.shared
    }

    /// Takes this event. Does not wait until it is written. A crash before that, usually within a millisecond, loses
    /// the event.
    pub fn tell(&self, event: Event) {
        self.shared.tell_of(event, None);
    }

    /// Reports that a budget has reached a threshold: for
    /// [`BudgetLayer::on_threshold`](crate::BudgetLayer::on_threshold).
    pub fn crossing(&self, crossing: &Crossing) {
        let Crossing { pot, key_name, soft, limit, percent, spent, .. } = crossing;
        self.shared.tell(What::BudgetThreshold {
            pot: pot.clone(),
            key_name: key_name.clone(),
            limit_usd: *limit,
            spent_usd: *spent,
            percent: *percent,
            soft: *soft,
        });
    }

    /// Reports that a budget refuses calls: for [`BudgetLayer::on_exhausted`](crate::BudgetLayer::on_exhausted).
    pub fn exhausted(&self, standing: &Standing) {
        let Standing { budget, key_name, spent, resets_at, .. } = standing;
        self.shared.tell(What::BudgetExhausted {
            pot: budget.pot.clone(),
            key_name: key_name.clone(),
            limit_usd: budget.limit,
            spent_usd: *spent,
            resets_at: *resets_at,
        });
    }

    /// Reports that a key is revoked; [`WatchedKeys`](crate::store::watched::WatchedKeys) does so by itself.
    pub fn key_revoked(&self, record: &KeyRecord) {
        self.shared.tell(revoked(record));
    }

    /// The same, and waits until that is written, but not for long.
    pub(crate) async fn until_key_revoked(&self, record: &KeyRecord) {
        let (done, written) = oneshot::channel();
        self.shared.tell_of(Event::new(SystemClock.now(), revoked(record)), Some(done));
        // Without a runtime there is no clock to wait by.
        if Handle::try_current().is_ok() {
            let _ = tokio::time::timeout(MOMENT, written).await;
        }
    }
}

fn revoked(record: &KeyRecord) -> What {
    What::KeyRevoked { key_id: record.id, key_name: record.principal.name.clone() }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// Reports when an upstream goes down, and when it is up again: for [`on_close`](crate::GatewayLayer::on_close).
///
/// An upstream is down when a given number of attempts in a row have failed. An attempt fails if:
///
/// - no connection is made while the call waits for one;
/// - no response head comes in time;
/// - the status is 500 or above;
/// - the answer is not that of its API, for example an error page from a proxy in front of it;
/// - the upstream answers the gateway's credential with 401.
///
/// An upstream is up once it has answered since. An answer that broke off says neither: its cause may be the request.
///
/// If an upstream goes down again and again, that is reported at most every five minutes, and the report says how it
/// stands by then. The journal keeps the last reported state over a restart, but not the number of failures. A service
/// behind a `GatewayLayer` has no upstream name, and is not watched.
#[derive(Debug)]
pub struct UpstreamWatch {
    events: Events,
    after: u64,
    upstreams: Mutex<HashMap<Arc<str>, Watched>>,
}

/// The shortest time between two reports that an upstream is down.
const QUIET: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Default)]
struct Watched {
    /// The number of failures in a row.
    failed: u64,
    /// Down was reported last.
    is_told: bool,
    /// When down was last reported.
    told_at: Option<Timestamp>,
}

impl Watched {
    /// Whether to report a change now, and if so, whether the upstream is down.
    fn see(&mut self, is_failure: bool, after: u64, at: Timestamp) -> Option<bool> {
        self.failed = if is_failure { self.failed.saturating_add(1) } else { 0 };
        // A clock that was set back hides nothing.
        let is_quiet =
            self.told_at.is_some_and(|told| (SignedDuration::ZERO..QUIET).contains(&at.duration_since(told)));
        let is_down = match self.is_told {
            true => is_failure,
            false => self.failed >= after && !is_quiet,
        };
        let is_news = is_down != self.is_told;
        if is_news && is_down {
            self.told_at = Some(at);
        }
        self.is_told = is_down;
        is_news.then_some(is_down)
    }
}

impl UpstreamWatch {
    /// Reports to `events` the upstreams whose last `after` attempts failed.
    #[must_use]
    pub fn new(events: Events, after: u64) -> Self {
        let after = after.max(1);
        // An earlier process, or another watch, has reported these as down. They are reported again when they answer.
        let told = |upstream: &Arc<str>| (upstream.clone(), Watched { failed: after, is_told: true, told_at: None });
        let upstreams = events.shared.ongoing().down.iter().map(told).collect();
        UpstreamWatch { events, after, upstreams: Mutex::new(upstreams) }
    }

    /// Counts the attempts of a call that has closed.
    pub fn see(&self, outcome: &Outcome) {
        let at = outcome.opened_at.saturating_add(outcome.took).unwrap_or(outcome.opened_at);
        let last = outcome.attempts.len().saturating_sub(1);
        for (index, attempt) in outcome.attempts.iter().enumerate() {
            let Some(target) = &attempt.target else { continue };
            // What the gateway answered in place of the last attempt.
            let is_upstreams = outcome.rejection.is_some_and(RejectionKind::is_upstream) && index == last;
            let is_failure = match attempt.end {
                // It was abandoned before its result was known, or the gateway refused to send it.
                AttemptEnd::Abandoned if attempt.status.is_none() => continue,
                AttemptEnd::Unsent if index == last && !is_upstreams => continue,
                AttemptEnd::Broken => continue,
                AttemptEnd::Unsent | AttemptEnd::NoAnswer => true,
                _ => is_upstreams || attempt.status.is_some_and(|status| status.is_server_error()),
            };
            self.count(&target.upstream, is_failure, at);
        }
    }

    fn count(&self, upstream: &Arc<str>, is_failure: bool, at: Timestamp) {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = upstreams.entry(upstream.clone()).or_default();
        let upstream = upstream.clone();
        let what = match watched.see(is_failure, self.after, at) {
            Some(true) => What::UpstreamDown { upstream, attempts: watched.failed },
            Some(false) => What::UpstreamUp { upstream },
            None => return,
        };
        // Under the lock, so that two reports in a row keep their order.
        self.events.tell(Event::new(at, what));
        drop(upstreams);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_goes_down_again_and_again_is_told_of_every_five_minutes_and_at_last_of_how_it_stands() {
        let (mut watched, mut told) = (Watched::default(), Vec::new());
        let mut see = |second: i64, is_failure| {
            let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
            told.extend(watched.see(is_failure, 3, at).map(|is_down| (second, is_down)));
        };
        for second in 0..600 {
            see(second, second % 4 != 3);
        }
        for second in 600..1_200 {
            see(second, true);
        }
        see(1_200, false);
        assert_eq!(told, [(2, true), (3, false), (302, true), (303, false), (602, true), (1_200, false)]);
    }

    #[test]
    fn one_that_goes_down_after_the_clock_was_set_back_is_told_of_at_once() {
        let mut watched = Watched::default();
        let mut see =
            |second, is_failure| watched.see(is_failure, 1, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second));
        assert_eq!([see(7_200, true), see(7_201, false), see(7_202, true)], [Some(true), Some(false), None]);
        assert_eq!([see(3_600, true), see(3_601, false)], [Some(true), Some(false)]);
    }
}
