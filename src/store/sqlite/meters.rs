//! The part of the meters that a batch is about, in memory: decided here by the rule of the bucket, and written back as
//! a whole.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use uuid::Uuid;

use crate::domain::bucket::{Bucket, Mark};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::rate_limit::{Acquire, Allowed, Denial, Permit, SLOT_WAIT, Standing, Taken, Used, Verdict};

/// The part of the meters that one batch touches, at one time.
pub(super) struct Meters {
    pub(super) now: i64,
    pub(super) meters: HashMap<(Scope, Measure), Meter>,
    pub(super) permits: HashMap<Uuid, Out>,
    pub(super) heard: HashMap<Uuid, i64>,
    /// Sessions that had fallen silent, until they are heard from again.
    pub(super) gone: HashSet<Uuid>,
}

/// What is counted of one scope in one measure: a bucket, or calls in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    pub(super) bucket: Bucket,
    pub(super) under_way: u64,
    pub(super) changed: bool,
}

/// An outstanding permit.
pub(super) struct Out {
    pub(super) session: Uuid,
    pub(super) taken: Vec<Taken>,
    /// When its session fell silent and its slots were freed.
    pub(super) freed_at: Option<i64>,
    /// How often it was asked for.
    pub(super) asks: i64,
    pub(super) change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Write,
    /// It was settled, and need not be remembered.
    Delete,
}

impl Meters {
    pub(super) fn new(now: i64) -> Self {
        Meters { now, meters: HashMap::new(), permits: HashMap::new(), heard: HashMap::new(), gone: HashSet::new() }
    }

    /// Frees the slots of silent sessions.
    pub(super) fn free(&mut self, silent: &HashSet<Uuid>) {
        let Meters { now, meters, permits, .. } = self;
        for out in permits.values_mut().filter(|out| out.freed_at.is_none() && silent.contains(&out.session)) {
            for taken in out.taken.iter().filter(|taken| taken.limit.measure == Measure::Parallel) {
                meter(meters, &taken.limit, *now).give_slots(taken.amount);
            }
            (out.freed_at, out.change) = (Some(*now), Change::Write);
        }
    }

    pub(super) fn hear(&mut self, session: Session) {
        let lease = i64::try_from(session.lease.as_nanos()).unwrap_or(i64::MAX);
        let until = self.now.saturating_add(lease);
        let known = self.heard.entry(session.id).or_insert(until);
        *known = until.max(*known);
        if self.gone.remove(&session.id) {
            self.take_again(session.id);
        }
    }

    /// The calls of a session that is heard from again are still in flight.
    fn take_again(&mut self, session: Uuid) {
        let Meters { now, meters, permits, .. } = self;
        let is_its = |out: &&mut Out| out.session == session && out.freed_at.is_some() && out.change != Change::Delete;
        for out in permits.values_mut().filter(is_its) {
            for taken in out.taken.iter().filter(|taken| taken.limit.measure == Measure::Parallel) {
                let meter = meter(meters, &taken.limit, *now);
                (meter.under_way, meter.changed) = (meter.under_way.saturating_add(taken.amount), true);
            }
            (out.freed_at, out.change) = (None, Change::Write);
        }
    }

    pub(super) fn acquire(&mut self, ask: &Acquire<'_>) -> Verdict {
        match self.check(ask) {
            Ok(taken) => Verdict::Allow(self.take(ask, taken)),
            Err(denial) => Verdict::Deny(denial),
        }
    }

    /// What there is to take; nothing for an outstanding permit.
    pub(super) fn check(&mut self, ask: &Acquire<'_>) -> Result<Vec<Taken>, Denial> {
        self.hear(ask.session);
        if self.out(ask.id).is_some() {
            return Ok(Vec::new());
        }
        let now = self.now;
        let mut taken: Vec<Taken> = Vec::with_capacity(ask.limits.len());
        let mut refused: Option<(usize, Option<i64>)> = None;
        for (index, limit) in ask.limits.iter().enumerate() {
            let amount = ask.amount(limit.measure);
            if let Err(wait) = meter(&mut self.meters, limit, now).check(limit, amount, now) {
                // A wait that never helps counts as the longest.
                let is_longer = |than: Option<i64>| than.is_some_and(|than| wait.is_none_or(|wait| wait > than));
                if refused.is_none_or(|(_, than)| is_longer(than)) {
                    refused = Some((index, wait));
                }
            }
            // Asked under each of its limits, but counted once, under the tightest.
            let is_same = |taken: &&mut Taken| taken.limit.measure == limit.measure && taken.limit.scope == limit.scope;
            match taken.iter_mut().find(is_same) {
                Some(taken) => taken.limit.most = taken.limit.most.min(limit.most),
                None => {
                    let mark = Mark { full_at: 0, refunded: 0 };
                    taken.push(Taken { limit: limit.clone(), amount, mark });
                }
            }
        }
        let Some((index, wait)) = refused else { return Ok(taken) };
        let retry_after = wait.map(|wait| Duration::from_nanos(wait.unsigned_abs()));
        Err(Denial { index, retry_after, standings: self.standings(ask.limits) })
    }

    /// Takes what was checked.
    pub(super) fn take(&mut self, ask: &Acquire<'_>, mut taken: Vec<Taken>) -> Allowed {
        let now = self.now;
        if let Some(out) = self.out(ask.id) {
            (out.asks, out.change) = (out.asks.saturating_add(1), Change::Write);
            taken = out.taken.clone();
        } else {
            for taken in &mut taken {
                taken.mark = meter(&mut self.meters, &taken.limit, now).take(taken, now);
            }
            let (session, taken) = (ask.session.id, taken.clone());
            self.permits.insert(ask.id, Out { session, taken, freed_at: None, asks: 1, change: Change::Write });
        }
        Allowed { permit: Permit { id: ask.id, taken }, standings: self.standings(ask.limits) }
    }

    /// An outstanding permit.
    fn out(&mut self, id: Uuid) -> Option<&mut Out> {
        self.permits.get_mut(&id).filter(|out| out.change != Change::Delete && out.freed_at.is_none())
    }

    pub(super) fn settle(&mut self, id: Uuid, used: Used) {
        let Meters { now, meters, permits, .. } = self;
        let Some(out) = permits.get_mut(&id).filter(|out| out.change != Change::Delete) else { return };
        out.change = Change::Delete;
        for taken in &out.taken {
            let (most, amount) = (taken.limit.most, taken.amount);
            let meter = meter(meters, &taken.limit, *now);
            match (taken.limit.measure, used) {
                (Measure::Parallel, _) if out.freed_at.is_some() => {}
                (Measure::Parallel, _) => meter.give_slots(amount),
                (Measure::Requests | Measure::Tokens, Used::Nothing) => {
                    meter.give_back(*now, most, taken.mark, amount);
                }
                (Measure::Requests, _) | (Measure::Tokens, Used::AsEstimated) => {}
                (Measure::Tokens, Used::Tokens(used)) if used <= amount => {
                    meter.give_back(*now, most, taken.mark, amount - used);
                }
                (Measure::Tokens, Used::Tokens(used)) => meter.owe(*now, most, used - amount),
            }
        }
    }

    /// Takes back a permit that its caller never received. A caller who asked again has received it.
    pub(super) fn take_back(&mut self, id: Uuid) {
        if self.permits.get(&id).is_some_and(|out| out.asks == 1) {
            self.settle(id, Used::Nothing);
        }
    }

    pub(super) fn standings(&mut self, limits: &[Limit]) -> Vec<Standing> {
        let Meters { now, meters, .. } = self;
        limits.iter().map(|limit| meter(meters, limit, *now).standing(limit, *now)).collect()
    }
}

/// A meter that was not in the file is full.
fn meter<'a>(meters: &'a mut HashMap<(Scope, Measure), Meter>, limit: &Limit, now: i64) -> &'a mut Meter {
    meters.entry((limit.scope.clone(), limit.measure)).or_insert_with(|| Meter::new(now))
}

impl Meter {
    pub(super) fn new(now: i64) -> Self {
        Meter { bucket: Bucket { full_at: now, refunded: 0 }, under_way: 0, changed: false }
    }

    /// Whether this much is available; if not, how long to wait.
    fn check(&self, limit: &Limit, amount: u64, now: i64) -> Result<(), Option<i64>> {
        match limit.measure {
            Measure::Requests | Measure::Tokens => self.bucket.check(now, limit.most, amount).map(drop),
            Measure::Parallel if amount > limit.most => Err(None),
            Measure::Parallel if self.under_way > limit.most - amount => Err(Some(SLOT_WAIT.as_nanos() as i64)),
            Measure::Parallel => Ok(()),
        }
    }

    /// Takes what was checked.
    fn take(&mut self, taken: &Taken, now: i64) -> Mark {
        self.changed = true;
        if taken.limit.measure == Measure::Parallel {
            self.under_way = self.under_way.saturating_add(taken.amount);
            return taken.mark;
        }
        self.bucket.owe(now, taken.limit.most, taken.amount);
        Mark { full_at: self.bucket.full_at, refunded: self.bucket.refunded }
    }

    fn give_slots(&mut self, amount: u64) {
        self.under_way = self.under_way.saturating_sub(amount);
        self.changed = true;
    }

    fn give_back(&mut self, now: i64, most: u64, mark: Mark, amount: u64) {
        self.bucket.give_back(now, most, mark, amount);
        self.changed = true;
    }

    fn owe(&mut self, now: i64, most: u64, amount: u64) {
        self.bucket.owe(now, most, amount);
        self.changed = true;
    }

    fn standing(&self, limit: &Limit, now: i64) -> Standing {
        let (left, full_after) = match limit.measure {
            Measure::Parallel => (limit.most.saturating_sub(self.under_way), 0),
            Measure::Requests | Measure::Tokens => (self.bucket.level(now, limit.most), self.bucket.full_after(now)),
        };
        Standing { limit: limit.clone(), left, full_after: Duration::from_nanos(full_after.unsigned_abs()) }
    }
}
