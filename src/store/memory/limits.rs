use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use uuid::Uuid;

use super::leases::Leases;
use super::sweep::Sweep;
use super::{lock, time};
use crate::domain::bucket::{Bucket, Mark};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::rate_limit::{
    Acquire, Allowed, Denial, Permit, RateLimitStore, SLOT_WAIT, Standing, Taken, Used, Verdict,
};
use crate::store::{At, Session, StoreError};

/// How long the permit of a silent session can still be settled. By then, its tokens have long drained from the bucket.
const SETTLEABLE: Duration = Duration::from_secs(60 * 60);

/// Limits in memory. Clones share them.
///
/// Settling a permit that is not outstanding (already settled, or from before a restart) has no effect.
#[derive(Clone)]
pub struct MemoryLimits {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

impl MemoryLimits {
    /// Nothing is taken yet.
    #[must_use]
    pub fn new() -> Self {
        MemoryLimits { clock: Arc::new(SystemClock), state: Arc::default() }
    }

    /// Uses this clock instead of the system clock. Existing clones keep theirs.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Decides under the lock, at a time that never goes back, after the slots of silent sessions are freed.
    pub(super) fn decide<T>(&self, at: At, decision: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = time(at, &*self.clock);
        let mut state = lock(&self.state);
        state.now = state.now.max(now);
        let now = state.now;
        let silent = state.leases.take_silent(now);
        if !silent.is_empty() {
            state.free(&silent);
        }
        // Before the decision, so that the places it looks up stay valid.
        if state.sweep.is_due(state.meters.len()) {
            state.forget_idle();
        }
        decision(&mut state, now)
    }
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl RateLimitStore for MemoryLimits {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<Verdict, StoreError> {
        Ok(self.decide(at, |state, now| match state.check(ask, now) {
            Ok(checked) => Verdict::Allow(state.take(ask, checked, now)),
            Err(denial) => Verdict::Deny(denial),
        }))
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        self.decide(at, |state, now| state.settle(permit.id, used, nanos(now)));
        Ok(())
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.decide(at, |state, now| state.hear(session, now));
        Ok(())
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<Standing>, StoreError> {
        Ok(self.decide(at, |state, now| state.standings(limits, &[], nanos(now))))
    }
}

/// Nanoseconds since 1970, as buckets count them: valid until the year 2262.
fn nanos(now: Timestamp) -> i64 {
    i64::try_from(now.as_nanosecond()).unwrap_or(if now < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

pub(super) struct State {
    /// The latest time that was decided by.
    now: Timestamp,
    index: HashMap<Scope, usize, RandomState>,
    meters: Vec<Meters>,
    permits: HashMap<Uuid, Out, RandomState>,
    leases: Leases,
    sweep: Sweep,
}

/// All the counters of one scope.
struct Meters {
    scope: Scope,
    requests: Bucket,
    tokens: Bucket,
    parallel: u64,
}

/// An outstanding permit.
struct Out {
    session: Uuid,
    taken: Vec<Took>,
    /// When its session fell silent and its slots were freed.
    freed_at: Option<Timestamp>,
}

/// What a call is to take.
pub(super) enum Check {
    /// Nothing: its permit is outstanding already.
    Out,
    /// These amounts.
    Free(Vec<Took>),
}

/// What is taken of one limit.
pub(super) struct Took {
    at: usize,
    measure: Measure,
    most: u64,
    amount: u64,
    mark: Mark,
}

impl Default for State {
    fn default() -> Self {
        State {
            now: Timestamp::MIN,
            index: HashMap::default(),
            meters: Vec::new(),
            permits: HashMap::default(),
            leases: Leases::default(),
            sweep: Sweep::default(),
        }
    }
}

impl State {
    /// Checks all limits of a call, and returns what there is to take.
    pub(super) fn check(&mut self, ask: &Acquire<'_>, now: Timestamp) -> Result<Check, Denial> {
        self.hear(ask.session, now);
        let now = nanos(now);
        if self.permits.get(&ask.id).is_some_and(|out| out.freed_at.is_none()) {
            return Ok(Check::Out);
        }
        let mut taken: Vec<Took> = Vec::with_capacity(ask.limits.len());
        let mut refused: Option<(usize, Option<i64>)> = None;
        let mut last: Option<(&Scope, usize)> = None;
        for (index, limit) in ask.limits.iter().enumerate() {
            let at = match last {
                Some((scope, at)) if *scope == limit.scope => at,
                _ => self.at(&limit.scope, now),
            };
            last = Some((&limit.scope, at));
            let amount = ask.amount(limit.measure);
            if let Err(wait) = self.meters[at].check(limit, amount, now) {
                // A wait that never helps counts as the longest.
                let is_longer = |than: Option<i64>| than.is_some_and(|than| wait.is_none_or(|wait| wait > than));
                if refused.is_none_or(|(_, than)| is_longer(than)) {
                    refused = Some((index, wait));
                }
            }
            // Asked under each of its limits, but counted once, under the tightest.
            match taken.iter_mut().find(|took| took.at == at && took.measure == limit.measure) {
                Some(took) => took.most = took.most.min(limit.most),
                None => {
                    let (measure, most) = (limit.measure, limit.most);
                    taken.push(Took { at, measure, most, amount, mark: Mark { full_at: 0, refunded: 0 } });
                }
            }
        }
        let Some((index, wait)) = refused else { return Ok(Check::Free(taken)) };
        let retry_after = wait.map(|wait| Duration::from_nanos(wait.unsigned_abs()));
        Err(Denial { index, retry_after, standings: self.standings(ask.limits, &taken, now) })
    }

    /// Takes what was checked.
    pub(super) fn take(&mut self, ask: &Acquire<'_>, checked: Check, now: Timestamp) -> Allowed {
        let now = nanos(now);
        let Check::Free(mut taken) = checked else {
            let taken = self.permits.get(&ask.id).map_or(&[][..], |out| &out.taken);
            return Allowed { permit: self.permit(ask.id, taken), standings: self.standings(ask.limits, &[], now) };
        };
        for took in &mut taken {
            took.mark = self.meters[took.at].take(took, now);
        }
        let (permit, standings) = (self.permit(ask.id, &taken), self.standings(ask.limits, &taken, now));
        self.permits.insert(ask.id, Out { session: ask.session.id, taken, freed_at: None });
        Allowed { permit, standings }
    }

    /// The standings of a call's limits if it takes nothing of them.
    pub(super) fn untaken(&self, ask: &Acquire<'_>, now: Timestamp) -> Vec<Standing> {
        self.standings(ask.limits, &[], nanos(now))
    }

    fn permit(&self, id: Uuid, taken: &[Took]) -> Permit {
        let told = |took: &Took| Taken {
            limit: Limit::new(self.meters[took.at].scope.clone(), took.measure, took.most),
            amount: took.amount,
            mark: took.mark,
        };
        Permit { id, taken: taken.iter().map(told).collect() }
    }

    fn settle(&mut self, id: Uuid, used: Used, now: i64) {
        let Some(out) = self.permits.remove(&id) else { return };
        for took in &out.taken {
            let meters = &mut self.meters[took.at];
            match (took.measure, used) {
                (Measure::Parallel, _) if out.freed_at.is_some() => {}
                (Measure::Parallel, _) => meters.parallel = meters.parallel.saturating_sub(took.amount),
                (Measure::Requests, Used::Nothing) => {
                    meters.requests.give_back(now, took.most, took.mark, took.amount);
                }
                (Measure::Requests, _) | (Measure::Tokens, Used::AsEstimated) => {}
                (Measure::Tokens, Used::Nothing) => meters.tokens.give_back(now, took.most, took.mark, took.amount),
                (Measure::Tokens, Used::Tokens(used)) if used <= took.amount => {
                    meters.tokens.give_back(now, took.most, took.mark, took.amount - used);
                }
                (Measure::Tokens, Used::Tokens(used)) => meters.tokens.owe(now, took.most, used - took.amount),
            }
        }
    }

    fn hear(&mut self, session: Session, now: Timestamp) {
        if self.leases.renew(session, now) {
            self.take_again(session.id);
        }
    }

    /// The calls of a session that is heard from again are still in flight.
    #[cold]
    fn take_again(&mut self, session: Uuid) {
        let State { permits, meters, .. } = self;
        for out in permits.values_mut().filter(|out| out.session == session && out.freed_at.is_some()) {
            for took in out.taken.iter().filter(|took| took.measure == Measure::Parallel) {
                meters[took.at].parallel += took.amount;
            }
            out.freed_at = None;
        }
    }

    /// Frees the slots of silent sessions, and forgets their permits that nobody has settled in time.
    #[cold]
    fn free(&mut self, silent: &[Uuid]) {
        let (now, meters) = (self.now, &mut self.meters);
        self.permits.retain(|_, out| match out.freed_at {
            Some(at) => at.saturating_add(SETTLEABLE).is_ok_and(|until| now <= until),
            None => {
                if silent.contains(&out.session) {
                    for took in out.taken.iter().filter(|took| took.measure == Measure::Parallel) {
                        let parallel = &mut meters[took.at].parallel;
                        *parallel = parallel.saturating_sub(took.amount);
                    }
                    out.freed_at = Some(now);
                }
                true
            }
        });
    }

    /// Forgets scopes that stand as new ones do and that no outstanding permit names. What such a permit gives back
    /// depends on what its bucket has given back before.
    #[cold]
    fn forget_idle(&mut self) {
        let State { index, meters, permits, sweep, .. } = self;
        let now = nanos(self.now);
        let taken = permits.values().flat_map(|out| &out.taken).map(|took| took.at);
        let moved = sweep.run(meters, taken, |meters| {
            meters.parallel == 0 && [meters.requests, meters.tokens].iter().all(|bucket| bucket.full_at <= now)
        });
        index.retain(|_, at| moved.follow(at));
        index.shrink_to(moved.due);
        for took in permits.values_mut().flat_map(|out| &mut out.taken) {
            moved.follow(&mut took.at);
        }
    }

    /// Where a scope is kept.
    fn at(&mut self, scope: &Scope, now: i64) -> usize {
        if let Some(&at) = self.index.get(scope) {
            return at;
        }
        let full = Bucket { full_at: now, refunded: 0 };
        self.meters.push(Meters { scope: scope.clone(), requests: full, tokens: full, parallel: 0 });
        self.index.insert(scope.clone(), self.meters.len() - 1);
        self.meters.len() - 1
    }

    /// The standings of these limits. If all were taken in the order asked, none has to be looked up.
    fn standings(&self, limits: &[Limit], taken: &[Took], now: i64) -> Vec<Standing> {
        let known = |index: usize| taken.get(index).filter(|_| taken.len() == limits.len()).map(|took| took.at);
        let standing =
            |(index, limit): (usize, &Limit)| match known(index).or_else(|| self.index.get(&limit.scope).copied()) {
                Some(at) => self.meters[at].standing(limit, now),
                None => Standing { limit: limit.clone(), left: limit.most, full_after: Duration::ZERO },
            };
        limits.iter().enumerate().map(standing).collect()
    }
}

impl Meters {
    /// Whether this much is available; if not, how long to wait.
    fn check(&self, limit: &Limit, amount: u64, now: i64) -> Result<(), Option<i64>> {
        match limit.measure {
            Measure::Requests => self.requests.check(now, limit.most, amount).map(drop),
            Measure::Tokens => self.tokens.check(now, limit.most, amount).map(drop),
            Measure::Parallel if amount > limit.most => Err(None),
            Measure::Parallel if self.parallel > limit.most - amount => Err(Some(SLOT_WAIT.as_nanos() as i64)),
            Measure::Parallel => Ok(()),
        }
    }

    /// Takes what was checked.
    fn take(&mut self, took: &Took, now: i64) -> Mark {
        let bucket = match took.measure {
            Measure::Requests => &mut self.requests,
            Measure::Tokens => &mut self.tokens,
            Measure::Parallel => {
                self.parallel += took.amount;
                return took.mark;
            }
        };
        bucket.owe(now, took.most, took.amount);
        Mark { full_at: bucket.full_at, refunded: bucket.refunded }
    }

    fn standing(&self, limit: &Limit, now: i64) -> Standing {
        let bucket = match limit.measure {
            Measure::Requests => self.requests,
            Measure::Tokens => self.tokens,
            Measure::Parallel => {
                let left = limit.most.saturating_sub(self.parallel);
                return Standing { limit: limit.clone(), left, full_after: Duration::ZERO };
            }
        };
        let full_after = Duration::from_nanos(bucket.full_after(now).unsigned_abs());
        Standing { limit: limit.clone(), left: bucket.level(now, limit.most), full_after }
    }
}

impl fmt::Debug for MemoryLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("MemoryLimits")
            .field("scopes", &state.meters.len())
            .field("permits", &state.permits.len())
            .field("sessions", &state.leases.len())
            .finish_non_exhaustive()
    }
}
