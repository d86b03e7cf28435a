use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Shared;
use super::queue::Item;
use crate::domain::event::{Event, What};
use crate::domain::outcome::{AttemptEnd, Outcome};
use crate::domain::rejection::RejectionKind;
use crate::store::budget::{Crossing, Standing};

/// Takes events into a journal, which hands them on. A clone is the same journal.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("tollgate-doc-events-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// use tollgate::store::journal::{Journal, UpstreamWatch};
/// use tollgate::store::memory::MemoryBudgets;
/// use tollgate::{BudgetLayer, GatewayLayer};
///
/// let journal = Journal::at(&dir).open()?; // `.notify("slack", …)` says who hears
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

    /// Takes this one. Does not wait until it is written: until then, some milliseconds mostly, a crash takes it, and
    /// nobody tells it again.
    pub fn tell(&self, event: Event) {
        self.shared.queue.push(Item::Event(Box::new(event)));
    }

    /// A budget has reached a threshold: for [`BudgetLayer::on_threshold`](crate::BudgetLayer::on_threshold).
    pub fn crossing(&self, crossing: &Crossing) {
        let Crossing { pot, limit, percent, spent, .. } = crossing;
        self.shared.tell(What::BudgetThreshold {
            pot: pot.clone(),
            limit_usd: *limit,
            spent_usd: *spent,
            percent: *percent,
        });
    }

    /// A budget refuses: for [`BudgetLayer::on_exhausted`](crate::BudgetLayer::on_exhausted).
    pub fn exhausted(&self, standing: &Standing) {
        let Standing { budget, spent, resets_at, .. } = standing;
        self.shared.tell(What::BudgetExhausted {
            pot: budget.pot.clone(),
            limit_usd: budget.limit,
            spent_usd: *spent,
            resets_at: *resets_at,
        });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// Tells when an upstream goes down, and when it is up again: for [`on_close`](crate::GatewayLayer::on_close).
///
/// Down is one of whose attempts so many in a row failed: no connection that we waited for, no head in time, a status of 500 and above, an answer
/// that is not its API (the page of a proxy before it), or a 401 to our credential. Up is one that answered since. What was told
/// last the journal knows, over a restart too; how many had failed by then it does not.
#[derive(Debug)]
pub struct UpstreamWatch {
    events: Events,
    after: u64,
    /// How many in a row, of each.
    failed: Mutex<HashMap<Arc<str>, u64>>,
}

impl UpstreamWatch {
    /// Tells `events` of upstreams whose last `after` attempts failed.
    #[must_use]
    pub fn new(events: Events, after: u64) -> Self {
        let after = after.max(1);
        // Those that somebody was told of by an earlier process, or by one like this: they are told of when they answer.
        let failed = events.shared.ongoing().down.iter().map(|upstream| (upstream.clone(), after)).collect();
        UpstreamWatch { events, after, failed: Mutex::new(failed) }
    }

    /// A call has closed.
    pub fn see(&self, outcome: &Outcome) {
        let at = outcome.opened_at.saturating_add(outcome.took).unwrap_or(outcome.opened_at);
        let last = outcome.attempts.len().saturating_sub(1);
        for (index, attempt) in outcome.attempts.iter().enumerate() {
            let Some(target) = &attempt.target else { continue };
            // What we answered in the place of the last one.
            let is_upstreams = outcome.rejection.is_some_and(RejectionKind::is_upstream) && index == last;
            let is_failure = match attempt.end {
                // Somebody on our side let go of it before anybody could know, or refused to send it.
                AttemptEnd::Abandoned if attempt.status.is_none() => continue,
                AttemptEnd::Unsent if index == last && !is_upstreams => continue,
                AttemptEnd::Unsent | AttemptEnd::NoAnswer => true,
                _ => is_upstreams || attempt.status.is_some_and(|status| status.is_server_error()),
            };
            self.count(&target.upstream, is_failure, at);
        }
    }

    fn count(&self, upstream: &Arc<str>, is_failure: bool, at: Timestamp) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(upstream.clone()).or_default();
        let before = *count;
        *count = if is_failure { before.saturating_add(1) } else { 0 };
        let upstream = upstream.clone();
        let what = match *count {
            attempts if attempts == self.after => What::UpstreamDown { upstream, attempts },
            0 if before >= self.after => What::UpstreamUp { upstream },
            _ => return,
        };
        // Under the lock: of two that follow each other nobody must hear in the other order.
        self.events.tell(Event::new(at, what));
        drop(failed);
    }
}
