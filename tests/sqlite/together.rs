//! Questions that share a transaction are answered as if they had come one after the other: random batches, each question
//! of which is put to the stores in memory too.

use std::error::Error as _;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tollgate::domain::budget::Budget;
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::admission::{AdmissionStore, Admit, Admitted, Verdict as OfBoth};
use tollgate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};
use tollgate::store::memory::MemoryStore;
use tollgate::store::rate_limit::{Acquire, Permit, RateLimitStore, Used, Verdict as OfLimits};
use tollgate::store::{At, Session, StoreError};
use uuid::Uuid;

use crate::{Dir, money, open};

/// The stores of one side.
#[derive(Clone)]
struct Stores {
    budgets: Arc<dyn BudgetStore>,
    limits: Arc<dyn RateLimitStore>,
    both: Arc<dyn AdmissionStore>,
}

#[derive(Debug, Clone)]
enum Ask {
    Reserve(Uuid, Session, Vec<Budget>, Wish),
    Extend(Uuid, Session, Vec<Budget>, Wish),
    Settle(Reservation, Money),
    Beat(Session),
    Standing(Vec<Budget>),
    Acquire(Uuid, Session, Vec<Limit>, u64),
    Release(Permit, Used),
    BeatLimits(Session),
    Limits(Vec<Limit>),
    Admit(Uuid, Session, Option<(Vec<Limit>, u64)>, Option<(Vec<Budget>, Wish)>),
}

/// What an answer leaves to be settled.
#[derive(Debug, PartialEq)]
struct Answer {
    said: String,
    granted: Option<Reservation>,
    permit: Option<Permit>,
}

impl Ask {
    /// In which order the writer takes the questions of a batch.
    fn rank(&self) -> u8 {
        match self {
            Ask::Reserve(..) | Ask::Extend(..) | Ask::Settle(..) | Ask::Beat(_) | Ask::Standing(_) => 0,
            Ask::Acquire(..) | Ask::Release(..) | Ask::BeatLimits(_) | Ask::Limits(_) => 1,
            Ask::Admit(..) => 2,
        }
    }

    async fn put(&self, to: &Stores, at: At) -> Answer {
        fn said<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> (String, Option<T>) {
            match answer {
                Ok(answer) => (format!("{answer:?}"), Some(answer)),
                Err(error) => (format!("{error}: {:?}", error.source().map(ToString::to_string)), None),
            }
        }
        let plain = |said| Answer { said, granted: None, permit: None };
        let of_budgets = |(said, verdict): (String, Option<Verdict>)| match verdict {
            Some(Verdict::Allow(grant)) => Answer { said, granted: Some(grant.reservation), permit: None },
            _ => Answer { said, granted: None, permit: None },
        };
        match self {
            Ask::Reserve(id, session, budgets, wish) => {
                of_budgets(said(to.budgets.reserve(&Reserve::new(*id, *session, budgets, *wish), at).await))
            }
            Ask::Extend(id, session, budgets, wish) => {
                of_budgets(said(to.budgets.extend(&Reserve::new(*id, *session, budgets, *wish), at).await))
            }
            Ask::Settle(reservation, actual) => plain(said(to.budgets.settle(reservation, *actual, at).await).0),
            Ask::Beat(session) => plain(said(to.budgets.heartbeat(*session, at).await).0),
            Ask::Standing(budgets) => plain(said(to.budgets.standing(budgets, at).await).0),
            Ask::Acquire(id, session, limits, tokens) => {
                let ask = Acquire::new(*id, *session, limits).tokens(*tokens);
                let (said, verdict) = said(to.limits.acquire(&ask, at).await);
                let permit = match verdict {
                    Some(OfLimits::Allow(allowed)) => Some(allowed.permit),
                    _ => None,
                };
                Answer { said, granted: None, permit }
            }
            Ask::Release(permit, used) => plain(said(to.limits.settle(permit, *used, at).await).0),
            Ask::BeatLimits(session) => plain(said(to.limits.heartbeat(*session, at).await).0),
            Ask::Limits(limits) => plain(said(to.limits.standing(limits, at).await).0),
            Ask::Admit(id, session, limits, budgets) => {
                let mut ask = Admit::new();
                ask.limits = limits.as_ref().map(|(all, tokens)| Acquire::new(*id, *session, all).tokens(*tokens));
                ask.budgets = budgets.as_ref().map(|(all, wish)| Reserve::new(*id, *session, all, *wish));
                let (said, verdict) = said(to.both.admit(&ask, at).await);
                match verdict {
                    Some(OfBoth::Allow(Admitted { allowed, grant })) => Answer {
                        said,
                        granted: grant.map(|grant| grant.reservation),
                        permit: allowed.map(|allowed| allowed.permit),
                    },
                    _ => Answer { said, granted: None, permit: None },
                }
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("few")].clone()
    }

    fn some<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        (0..=self.below(3)).map(|_| self.of(all)).collect()
    }

    fn amount(&mut self) -> i64 {
        match self.below(40) {
            0 => i64::MAX - 1,
            1 => 0,
            _ => i64::try_from(self.below(40)).expect("small"),
        }
    }

    fn wish(&mut self) -> Wish {
        let min = self.amount();
        let want = money(min).saturating_add(money(self.amount()));
        Wish { min: money(min), want, share: u32::try_from(1 + self.below(3)).expect("small") }
    }

    fn tokens(&mut self) -> u64 {
        match self.below(40) {
            0 => u64::MAX,
            _ => self.below(300),
        }
    }
}

struct History {
    random: Random,
    sessions: [Session; 3],
    budgets: Vec<Budget>,
    limits: Vec<Limit>,
    /// What is held, with what was asked, and of which session.
    held: Vec<(Reservation, Vec<Budget>, Session)>,
    counted: Vec<Permit>,
    /// What was settled in this batch or before, and may be settled again.
    settled: Vec<Reservation>,
    released: Vec<Permit>,
}

impl History {
    fn new(seed: u64) -> Self {
        let lease = std::time::Duration::from_secs(60);
        let mut random = Random(seed);
        let scopes = [Scope::team("search"), Scope::team("a \0 \"'\u{1f600}"), Scope::key("k")];
        let windows = ["day", "total", "rolling 1h", "90m", "rolling 1m"].map(|text| text.parse().expect("a window"));
        let (mut budgets, mut limits) = (Vec::new(), Vec::new());
        for scope in &scopes {
            for window in windows {
                let limit = money(if random.below(12) == 0 { i64::MAX } else { 200 });
                let budget = Budget::new(scope.clone(), window, limit);
                budgets.push(if random.below(4) == 0 { budget.clone().soft() } else { budget.clone() });
                budgets.push(Budget::new(scope.clone(), window, money(150)));
            }
            for (measure, most) in [(Measure::Requests, 20), (Measure::Tokens, 1_000), (Measure::Parallel, 6)] {
                limits.push(Limit::new(scope.clone(), measure, if random.below(12) == 0 { u64::MAX } else { most }));
                limits.push(Limit::new(scope.clone(), measure, most / 2));
            }
        }
        let sessions = [(); 3].map(|()| Session::new(lease));
        let (held, counted) = (Vec::new(), Vec::new());
        History { random, sessions, budgets, limits, held, counted, settled: Vec::new(), released: Vec::new() }
    }

    fn ask(&mut self) -> Ask {
        let Self { random, sessions, budgets, limits, held, counted, settled, released } = self;
        let (id, session) = (Uuid::now_v7(), random.of(sessions));
        match random.below(24) {
            0..4 => Ask::Reserve(id, session, random.some(budgets), random.wish()),
            4 | 5 if !held.is_empty() => {
                let (reservation, asked, session) = random.of(held);
                let wish = random.wish();
                match random.below(3) {
                    0 => Ask::Reserve(reservation.id, session, asked, wish),
                    1 => Ask::Extend(reservation.id, session, random.some(budgets), wish),
                    _ => Ask::Extend(reservation.id, session, asked, wish),
                }
            }
            6..10 if !held.is_empty() => {
                let at = usize::try_from(random.below(held.len() as u64)).expect("few");
                let mut reservation = held.swap_remove(at).0;
                settled.push(reservation.clone());
                reservation.pots.retain(|_| random.below(8) > 0);
                Ask::Settle(reservation, money(random.amount()))
            }
            10 if !settled.is_empty() => Ask::Settle(random.of(settled), money(random.amount())),
            11 => Ask::Beat(session),
            12 => Ask::Standing(random.some(budgets)),
            13..16 => Ask::Acquire(id, session, random.some(limits), random.tokens()),
            16..19 if !counted.is_empty() => {
                let at = usize::try_from(random.below(counted.len() as u64)).expect("few");
                let permit = counted.swap_remove(at);
                released.push(permit.clone());
                let used = [Used::AsEstimated, Used::Nothing, Used::Tokens(random.tokens())];
                Ask::Release(permit, random.of(&used))
            }
            19 if !released.is_empty() => Ask::Release(random.of(released), Used::Tokens(random.tokens())),
            20 => Ask::BeatLimits(session),
            21 => Ask::Limits(random.some(limits)),
            _ => {
                let limits = (random.below(4) > 0).then(|| (random.some(limits), random.tokens()));
                let budgets = (random.below(4) > 0).then(|| (random.some(budgets), random.wish()));
                Ask::Admit(id, session, limits, budgets)
            }
        }
    }
}

async fn compare(seed: u64, batches: u64) {
    let dir = Dir::new(&format!("together-{seed}"));
    let (sqlite, memory) = (open(&dir.file()).await, MemoryStore::new());
    let file = Stores {
        budgets: Arc::new(sqlite.budgets()),
        limits: Arc::new(sqlite.limits()),
        both: Arc::new(sqlite.admission()),
    };
    let memory =
        Stores { budgets: Arc::new(memory.budgets()), limits: Arc::new(memory.limits()), both: Arc::new(memory) };
    let mut history = History::new(seed);
    let mut now: Timestamp = "2026-11-24T22:30:00Z".parse().expect("a time");
    for batch in 0..batches {
        let random = &mut history.random;
        now += std::time::Duration::from_millis(match random.below(10) {
            0..6 => random.below(5_000),
            6..9 => random.below(100_000),
            _ => 60_001,
        });
        let has_times = random.below(3) == 0;
        let many = 1 + random.below(40);
        let mut asks: Vec<(Ask, At)> = Vec::new();
        for _ in 0..many {
            let other = history.random.below(20_000);
            let at = if has_times { now + std::time::Duration::from_millis(other) } else { now };
            asks.push((history.ask(), At::Fixed(at)));
        }
        // In the order in which the writer takes them.
        asks.sort_by_key(|(ask, _)| ask.rank());
        let mut tasks = JoinSet::new();
        for (index, (ask, at)) in asks.iter().cloned().enumerate() {
            let file = file.clone();
            tasks.spawn(async move { (index, ask.put(&file, at).await) });
        }
        let mut got = tasks.join_all().await;
        got.sort_by_key(|(index, _)| *index);
        for ((index, got), (ask, at)) in got.into_iter().zip(&asks) {
            if ask.rank() == 2 {
                // The file decides all of an admission by one time, whatever it is about.
                memory.budgets.standing(&[], *at).await.expect("it answers");
                memory.limits.standing(&[], *at).await.expect("it answers");
            }
            let want = ask.put(&memory, *at).await;
            assert_eq!(got, want, "seed {seed}, batch {batch}, question {index} of {many}: {ask:?} at {at:?}");
            match ask {
                Ask::Reserve(id, session, budgets, _) | Ask::Admit(id, session, _, Some((budgets, _))) => {
                    let is_new = got.granted.is_some() && history.settled.iter().all(|before| before.id != *id);
                    if is_new && history.held.iter().all(|(before, ..)| before.id != *id) {
                        history.held.extend(got.granted.map(|grant| (grant, budgets.clone(), *session)));
                    }
                }
                _ => {}
            }
            history.counted.extend(got.permit);
        }
    }
    sqlite.close().await.expect("it closes");
}

#[tokio::test]
async fn questions_that_share_a_transaction_are_answered_as_those_that_come_one_after_the_other() {
    let many = std::env::var("TOLLGATE_HISTORIES").ok().and_then(|many| many.parse().ok()).unwrap_or(24);
    for seed in 0..many {
        compare(seed, 60).await;
    }
}
