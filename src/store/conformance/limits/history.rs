//! Random histories, each step compared with the rule of the bucket, applied to one scope at a time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{LEASE, session};
use crate::domain::bucket::{Bucket, Mark};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::conformance::random::Random;
use crate::store::conformance::{Rule, time};
use crate::store::rate_limit::{Acquire, Allowed, Permit, RateLimitStore, SLOT_WAIT, Taken, Used, Verdict};
use crate::store::{At, Session};

pub(in crate::store::conformance) async fn run<S: RateLimitStore>(
    make: &impl AsyncFn() -> S,
    seeds: Range<u64>,
    steps: usize,
) {
    for seed in seeds {
        let store = make().await;
        let mut history = History::new(seed);
        for step in 0..steps {
            let when = format!("seed {seed}, step {step}");
            history.step(&store, &when).await;
            // A fault in between persists, and each answer was checked; checking the standings costs as much as a step.
            if step % 4 == 3 || step + 1 == steps {
                history.look(&store, &when).await;
            }
        }
    }
}

const RULE: Rule = Rule("every_history_follows_the_bucket");

struct History {
    random: Random,
    /// In seconds, as the suite has it.
    clock: i64,
    sessions: [Session; 2],
    limits: Vec<Limit>,
    book: Book,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sessions = [(); 2].map(|()| Session { id: random.id(), ..session() });
        // Limits that divide a minute, so that no store is required to round like another.
        let limits = [Scope::user("ada"), Scope::team("search")].into_iter().flat_map(|scope| {
            [(Measure::Requests, 12), (Measure::Tokens, 60), (Measure::Parallel, 4)]
                .map(|(measure, most)| Limit::new(scope.clone(), measure, most))
        });
        History { random, clock: 0, sessions, limits: limits.collect(), book: Book::default() }
    }

    async fn step<S: RateLimitStore>(&mut self, store: &S, when: &str) {
        self.clock += match self.random.below(10) {
            0..6 => self.random.up_to(2),
            6..8 => self.random.up_to(LEASE),
            8 => self.random.up_to(90),
            _ => -self.random.up_to(10),
        };
        let at = At::Fixed(time(self.clock));
        self.book.pass(time(self.clock));
        let session = *self.random.of(&self.sessions).unwrap_or(&self.sessions[0]);
        match self.random.below(10) {
            0..5 => self.acquire(store, session, at, when).await,
            5..9 => self.settle(store, at, when).await,
            _ => {
                RULE.answer(store.heartbeat(session, at).await);
                self.book.renew(session);
            }
        }
    }

    /// Compares all standings.
    async fn look<S: RateLimitStore>(&mut self, store: &S, when: &str) {
        let at = At::Fixed(time(self.clock));
        let standings = RULE.answer(store.standing(&self.limits, at).await);
        let got: Vec<_> = standings.iter().map(|one| (one.left, one.full_after)).collect();
        let want: Vec<_> = self.limits.iter().map(|limit| self.book.standing(limit)).collect();
        RULE.same(&format!("{when}: what is left, and when all of it is back"), &got, &want);
    }

    async fn acquire<S: RateLimitStore>(&mut self, store: &S, session: Session, at: At, when: &str) {
        let live: Vec<_> = self.book.out.iter().filter(|(_, out)| out.freed_at.is_none()).map(|(id, _)| *id).collect();
        let repeated = self.random.of(&live).copied().filter(|_| self.random.one_in(5));
        let asked: Vec<_> = self.limits.iter().filter(|_| !self.random.one_in(3)).cloned().collect();
        let id = repeated.unwrap_or_else(|| self.random.id());
        let ask = Acquire::new(id, session, &asked).tokens(self.random.below(70));
        let got = RULE.answer(store.acquire(&ask, at).await);
        self.book.renew(session);
        let what = format!("{when}: the answer to {ask:?}");
        match (repeated, got) {
            (Some(id), Verdict::Allow(allowed)) => RULE.same(&what, &allowed.permit, &self.book.out[&id].permit),
            (Some(_), denied) => RULE.holds(&format!("{what}, asked again, is {denied:?}"), false),
            (None, Verdict::Allow(Allowed { permit, .. })) => {
                let told =
                    |taken: &[Taken]| taken.iter().map(|one| (one.limit.clone(), one.amount)).collect::<Vec<_>>();
                let want = self.book.take(&ask);
                RULE.same(&what, &Ok(told(&permit.taken)), &want.as_deref().map(told).map_err(|refused| *refused));
                let (session, taken) = (session.id, want.unwrap_or_default());
                self.book.out.insert(id, Out { permit, taken, session, freed_at: None });
            }
            (None, Verdict::Deny(denial)) => {
                let want = self.book.take(&ask);
                RULE.same(&what, &Err((denial.index, denial.retry_after)), &want);
            }
        }
    }

    async fn settle<S: RateLimitStore>(&mut self, store: &S, at: At, when: &str) {
        // The permit of a silent session can be settled for an hour.
        let now = self.book.now.as_second();
        let is_due = |out: &Out| out.freed_at.is_none_or(|at| now - at.as_second() < 3_600);
        let all: Vec<_> = self.book.out.iter().filter(|(_, out)| is_due(out)).map(|(id, _)| *id).collect();
        let Some(out) = self.random.of(&all).and_then(|id| self.book.out.remove(id)) else {
            // The store learns of every time that there was.
            return self.look(store, when).await;
        };
        let used = match self.random.below(6) {
            0 => Used::Nothing,
            1 => Used::AsEstimated,
            _ => Used::Tokens(self.random.below(90)),
        };
        for _ in 0..=self.random.below(2) {
            let settled = store.settle(&out.permit, used, at).await;
            RULE.holds(&format!("{when}: a settlement of {:?} is {settled:?}", out.permit), settled.is_ok());
        }
        self.book.settle(&out, used);
    }
}

/// The reference.
struct Book {
    now: Timestamp,
    buckets: BTreeMap<(Scope, &'static str), Bucket>,
    out: BTreeMap<Uuid, Out>,
    leases: BTreeMap<Uuid, Timestamp>,
}

struct Out {
    permit: Permit,
    /// What it took, as the reference has it.
    taken: Vec<Taken>,
    session: Uuid,
    freed_at: Option<Timestamp>,
}

impl Default for Book {
    fn default() -> Self {
        Book { now: Timestamp::MIN, buckets: BTreeMap::new(), out: BTreeMap::new(), leases: BTreeMap::new() }
    }
}

impl Book {
    fn pass(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        for out in self.out.values_mut().filter(|out| out.freed_at.is_none()) {
            if self.leases[&out.session] < self.now {
                out.freed_at = Some(self.now);
            }
        }
    }

    fn renew(&mut self, session: Session) {
        let until = self.now.saturating_add(session.lease).unwrap_or(Timestamp::MAX);
        self.leases.insert(session.id, until);
        self.out.values_mut().filter(|out| out.session == session.id).for_each(|out| out.freed_at = None);
    }

    fn nanos(&self) -> i64 {
        i64::try_from(self.now.as_nanosecond()).unwrap_or(i64::MAX)
    }

    fn bucket(&mut self, limit: &Limit) -> &mut Bucket {
        let measure = if limit.measure == Measure::Tokens { "tokens" } else { "requests" };
        self.buckets.entry((limit.scope.clone(), measure)).or_default()
    }

    /// The taken slots of a scope.
    fn slots(&self, limit: &Limit) -> u64 {
        let of = |out: &Out| out.taken.iter().filter(|one| one.limit == *limit).map(|one| one.amount).sum::<u64>();
        self.out.values().filter(|out| out.freed_at.is_none()).map(of).sum()
    }

    fn check(&mut self, limit: &Limit, amount: u64) -> Result<(), Option<Duration>> {
        let now = self.nanos();
        match limit.measure {
            Measure::Parallel if self.slots(limit) + amount <= limit.most => Ok(()),
            Measure::Parallel => Err(Some(SLOT_WAIT)),
            _ => match self.bucket(limit).check(now, limit.most, amount) {
                Ok(_) => Ok(()),
                Err(wait) => Err(wait.map(|wait| Duration::from_nanos(wait.unsigned_abs()))),
            },
        }
    }

    fn take(&mut self, ask: &Acquire<'_>) -> Result<Vec<Taken>, (usize, Option<Duration>)> {
        let mut refused: Option<(usize, Option<Duration>)> = None;
        for (index, limit) in ask.limits.iter().enumerate() {
            if let Err(wait) = self.check(limit, ask.amount(limit.measure)) {
                let length = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
                if refused.is_none_or(|(_, longest)| length(wait) > length(longest)) {
                    refused = Some((index, wait));
                }
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        let (now, mut taken) = (self.nanos(), Vec::new());
        for limit in ask.limits {
            let (amount, mut mark) = (ask.amount(limit.measure), Mark { full_at: 0, refunded: 0 });
            if limit.measure != Measure::Parallel {
                let bucket = self.bucket(limit);
                mark = bucket.take(now, limit.most, amount).unwrap_or(mark);
            }
            taken.push(Taken { limit: limit.clone(), amount, mark });
        }
        Ok(taken)
    }

    fn settle(&mut self, out: &Out, used: Used) {
        let now = self.nanos();
        for one in &out.taken {
            let unused = match (one.limit.measure, used) {
                (Measure::Parallel, _) => continue,
                (_, Used::Nothing) => one.amount,
                (Measure::Tokens, Used::Tokens(used)) if used > one.amount => {
                    self.bucket(&one.limit).owe(now, one.limit.most, used - one.amount);
                    continue;
                }
                (Measure::Tokens, Used::Tokens(used)) => one.amount - used,
                _ => 0,
            };
            self.bucket(&one.limit).give_back(now, one.limit.most, one.mark, unused);
        }
    }

    fn standing(&mut self, limit: &Limit) -> (u64, Duration) {
        let now = self.nanos();
        if limit.measure == Measure::Parallel {
            return (limit.most.saturating_sub(self.slots(limit)), Duration::ZERO);
        }
        let bucket = self.bucket(limit);
        (bucket.level(now, limit.most), Duration::from_nanos(bucket.full_after(now).unsigned_abs()))
    }
}
