//! Random histories. Each step is compared with a ledger that keeps only what happened, and adds it up anew.

use jiff::Timestamp;
use uuid::Uuid;

use super::extends::can_grow;
use super::{HOUR, LEASE, day, money, session};
use crate::domain::budget::{Budget, Pot, Window};
use crate::domain::ledger::{Account, Wish};
use crate::domain::money::Money;
use crate::domain::scope::Scope;
use crate::store::budget::{BudgetStore, Crossing, Denial, Grant, Pinned, Reservation, Reserve, Standing, Verdict};
use crate::store::conformance::random::Random;
use crate::store::conformance::{Rule, time};
use crate::store::{At, Session};

pub(in crate::store::conformance) async fn run<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    seeds: std::ops::Range<u64>,
    steps: usize,
) {
    let can_grow = can_grow(make, RULE).await;
    for seed in seeds {
        let store = make().await;
        let mut history = History::new(seed);
        history.can_grow = can_grow;
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

const RULE: Rule = Rule("every_history_adds_up");

struct History {
    random: Random,
    /// In seconds, as the suite has it.
    clock: i64,
    /// Whether holds of the store can grow.
    can_grow: bool,
    sessions: [Session; 3],
    pots: Vec<Budget>,
    ledger: Ledger,
}

impl History {
    fn new(seed: u64) -> Self {
        let team = |window| Budget::new(Scope::team("search"), window, money(400));
        let mut pots = vec![day("search", 300), day("lab", 100)];
        let windows = ["week", "month", "total", "rolling 4h", "rolling 5d", "90m", "day (Europe/Berlin)"];
        pots.extend(windows.map(|text| team(text.parse().unwrap_or(Window::Total))));
        pots.extend([day("lab", 50).soft(), team(Window::Week).soft()]);
        let mut random = Random::new(seed);
        let sessions = [(); 3].map(|()| Session { id: random.id(), ..session() });
        History { random, clock: 0, can_grow: false, sessions, pots, ledger: Ledger::default() }
    }

    async fn step<S: BudgetStore>(&mut self, store: &S, when: &str) {
        self.pass();
        let at = At::Fixed(time(self.clock));
        self.ledger.pass(time(self.clock));
        let session = *self.random.of(&self.sessions).unwrap_or(&self.sessions[0]);
        match self.random.below(10) {
            0..4 => self.reserve(store, session, at, when).await,
            4 if self.can_grow && self.random.one_in(2) => self.extend(store, at, when).await,
            4 => self.reserve(store, session, at, when).await,
            5..9 => self.settle(store, at, when).await,
            _ => {
                RULE.answer(store.heartbeat(session, at).await);
                self.ledger.renew(session);
            }
        }
    }

    /// Compares all standings.
    async fn look<S: BudgetStore>(&self, store: &S, when: &str) {
        let at = At::Fixed(time(self.clock));
        let standings = RULE.answer(store.standing(&self.pots, at).await);
        let want: Vec<_> = self.pots.iter().map(|pot| self.ledger.standing(pot)).collect();
        RULE.same(&format!("{when}: standings"), &standings, &want);
    }

    /// Mostly seconds, sometimes past a lease or past midnight, and sometimes backwards.
    fn pass(&mut self) {
        self.clock += match self.random.below(20) {
            0..14 => self.random.up_to(20),
            14..17 => self.random.up_to(2 * LEASE),
            17 => self.random.up_to(10 * HOUR),
            18 => -self.random.up_to(2 * LEASE),
            // Where windows and leases end.
            _ => LEASE + self.random.up_to(1),
        };
    }

    async fn reserve<S: BudgetStore>(&mut self, store: &S, session: Session, at: At, when: &str) {
        let known = self.ledger.any(&mut self.random, |hold| hold.stage == Stage::Live);
        let repeated = known.filter(|_| self.random.one_in(5));
        let mut asked: Vec<Budget> = Vec::new();
        for _ in 0..=self.random.below(3) {
            let mut pot = self.random.of(&self.pots).unwrap_or(&self.pots[0]).clone();
            // The limit is that of the request, and one pot may be named twice.
            pot.limit = pot.limit.saturating_add(money(self.random.up_to(50)));
            asked.push(pot);
        }
        let min = self.random.up_to(40);
        let share = u32::try_from(1 + self.random.below(4)).unwrap_or(1);
        let wish = Wish { min: money(min), want: money(min + self.random.up_to(60)), share };
        let id = repeated.map_or_else(|| self.random.id(), |at| self.ledger.holds[at].reservation.id);
        let ask = Reserve::new(id, session, &asked, wish);
        let got = RULE.answer(store.reserve(&ask, at).await);
        self.ledger.renew(session);
        let what = format!("{when}: the answer to {ask:?}");
        match (repeated, got) {
            (Some(at), Verdict::Allow(grant)) => {
                RULE.same(&what, &sorted(grant.reservation), &sorted(self.ledger.holds[at].reservation.clone()));
            }
            (Some(_), denied) => RULE.holds(&format!("{what}, asked again, is {denied:?}"), false),
            (None, Verdict::Allow(Grant { reservation, standings })) => {
                let got = Verdict::Allow(Grant { reservation: sorted(reservation), standings });
                RULE.same(&what, &got, &self.ledger.reserve(&ask));
            }
            (None, denied) => RULE.same(&what, &denied, &self.ledger.reserve(&ask)),
        }
    }

    async fn extend<S: BudgetStore>(&mut self, store: &S, at: At, when: &str) {
        let Some(found) = self.ledger.any(&mut self.random, |hold| hold.stage == Stage::Live) else {
            return self.look(store, when).await;
        };
        let hold = &self.ledger.holds[found];
        let (id, asked) = (hold.reservation.id, hold.asked.clone());
        let session = self.sessions.iter().find(|session| session.id == hold.session);
        let session = *session.unwrap_or(&self.sessions[0]);
        let min = hold.reservation.granted.nanos() + self.random.up_to(30) - 10;
        let share = u32::try_from(1 + self.random.below(4)).unwrap_or(1);
        let wish = Wish { min: money(min), want: money(min + self.random.up_to(40)), share };
        let ask = Reserve::new(id, session, &asked, wish);
        let got = match RULE.answer(store.extend(&ask, at).await) {
            Verdict::Allow(Grant { reservation, standings }) => {
                Verdict::Allow(Grant { reservation: sorted(reservation), standings })
            }
            denied @ Verdict::Deny(_) => denied,
        };
        self.ledger.renew(session);
        RULE.same(&format!("{when}: the answer to so much in all, {ask:?}"), &got, &self.ledger.extend(found, &ask));
    }

    async fn settle<S: BudgetStore>(&mut self, store: &S, at: At, when: &str) {
        // A forfeit can be corrected for a day; a settlement is remembered for an hour.
        let now = self.ledger.now;
        let within = |since: Timestamp, hours: i64| (now.as_second() - since.as_second()) < hours * HOUR;
        let Some(found) = self.ledger.any(&mut self.random, |hold| match hold.stage {
            Stage::Live => true,
            Stage::Forfeited(since) => within(since, 24),
            Stage::Settled(_, since) => within(since, 1),
        }) else {
            // The store learns of every time that there was.
            return self.look(store, when).await;
        };
        let mut reservation = self.ledger.holds[found].reservation.clone();
        let actual = money(self.random.up_to(reservation.granted.nanos() * 3 / 2));
        // Some pots have nothing to pay in the end.
        reservation.pots.retain(|_| !self.random.one_in(8));
        // The caller that settles may not have received the extension.
        let mut told = if self.random.one_in(2) { self.ledger.holds[found].first.clone() } else { reservation.clone() };
        told.pots.retain(|pinned| reservation.pots.iter().any(|pays| pays.pot == pinned.pot));
        let mut news = RULE.answer(store.settle(&told, actual, at).await);
        news.sort_by(|one, other| (&one.pot, one.percent).cmp(&(&other.pot, other.percent)));
        let want = self.ledger.settle(found, &reservation, actual);
        RULE.same(&format!("{when}: what the settlement of {reservation:?} reaches"), &news, &want);
    }
}

/// A store may list the pots of a reservation in any order.
fn sorted(mut reservation: Reservation) -> Reservation {
    reservation.pots.sort_by(|one, other| one.pot.cmp(&other.pot));
    reservation
}

/// The reference: all holds there ever were.
struct Ledger {
    now: Timestamp,
    holds: Vec<Hold>,
    leases: Vec<(Uuid, Timestamp)>,
    /// Which thresholds of which pots were told, and in which of their windows.
    told: Vec<(Pot, i64, u8)>,
}

struct Hold {
    reservation: Reservation,
    /// The reservation before it grew, and the original request.
    first: Reservation,
    asked: Vec<Budget>,
    session: Uuid,
    stage: Stage,
    /// The pots that pay when it is settled.
    paying: Vec<Pot>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Live,
    Forfeited(Timestamp),
    Settled(Money, Timestamp),
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { now: Timestamp::MIN, holds: Vec::new(), leases: Vec::new(), told: Vec::new() }
    }
}

impl Ledger {
    fn pass(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        for (session, until) in &self.leases {
            for hold in self.holds.iter_mut().filter(|hold| hold.session == *session && hold.stage == Stage::Live) {
                if *until < self.now {
                    hold.stage = Stage::Forfeited(self.now);
                }
            }
        }
    }

    fn renew(&mut self, session: Session) {
        let until = self.now.saturating_add(session.lease).unwrap_or(Timestamp::MAX);
        self.leases.retain(|(id, _)| *id != session.id);
        self.leases.push((session.id, until));
    }

    /// Whether a grant in the window, or slice, with that start counts now.
    fn counts(&self, pinned: &Pinned) -> bool {
        let newest = pinned.pot.window.around(self.now).0;
        match pinned.pot.window {
            Window::Rolling(length) => {
                let back = newest.as_second() - pinned.window_start.as_second();
                back / length.slice() <= i64::from(Window::SLICES)
            }
            _ => pinned.window_start == newest,
        }
    }

    /// The sum of all holds in a pot's current window.
    fn account(&self, pot: &Pot) -> Account {
        let mut account = Account::new(pot.window.around(self.now).0);
        for hold in &self.holds {
            let Some(pinned) = hold.reservation.pots.iter().find(|pinned| pinned.pot == *pot) else { continue };
            let granted = hold.reservation.granted;
            let spent = match hold.stage {
                Stage::Live if self.counts(pinned) || matches!(pot.window, Window::Rolling(_)) => {
                    account.held = account.held.saturating_add(granted);
                    continue;
                }
                Stage::Live => continue,
                Stage::Forfeited(_) => granted,
                Stage::Settled(actual, _) if hold.paying.contains(pot) => actual,
                Stage::Settled(..) => continue,
            };
            if self.counts(pinned) {
                account.spent = account.spent.saturating_add(spent);
            }
        }
        account
    }

    /// When the oldest spending of a rolling window becomes available again.
    fn first_back(&self, pot: &Pot, slice: i64) -> Option<Timestamp> {
        let mut slices: Vec<(Timestamp, i64)> = Vec::new();
        for hold in &self.holds {
            let Some(pinned) = hold.reservation.pots.iter().find(|pinned| pinned.pot == *pot) else { continue };
            let spent = match hold.stage {
                Stage::Forfeited(_) => hold.reservation.granted.nanos(),
                Stage::Settled(actual, _) if hold.paying.contains(pot) => actual.nanos(),
                _ => 0,
            };
            if self.counts(pinned) && spent != 0 {
                slices.push((pinned.window_start, spent));
            }
        }
        let oldest = slices.iter().map(|(start, _)| start.as_second()).min()?;
        Timestamp::from_second(oldest + (i64::from(Window::SLICES) + 1) * slice).ok()
    }

    fn standing(&self, budget: &Budget) -> Standing {
        let (pot, account) = (&budget.pot, self.account(&budget.pot));
        let resets_at = match pot.window {
            Window::Rolling(length) => self.first_back(pot, length.slice()),
            window => window.around(self.now).1,
        };
        Standing { budget: budget.clone(), key_name: None, spent: account.spent, held: account.held, resets_at }
    }

    /// Settles only the first time, and returns the thresholds that it reaches.
    fn settle(&mut self, found: usize, paying: &Reservation, actual: Money) -> Vec<Crossing> {
        if matches!(self.holds[found].stage, Stage::Settled(..)) {
            return Vec::new();
        }
        self.holds[found].stage = Stage::Settled(actual, self.now);
        self.holds[found].paying = paying.pots.iter().map(|pinned| pinned.pot.clone()).collect();
        let mut news = Vec::new();
        for pinned in &paying.pots {
            let Pinned { pot, window_start, limit } = pinned.clone();
            let newest = pot.window.around(self.now).0.as_second();
            let window = match pot.window {
                Window::Rolling(length) => newest.div_euclid(length.seconds()),
                _ if self.counts(pinned) => newest,
                _ => continue,
            };
            let spent = self.account(&pot).spent;
            for percent in [50, 80, 95, 100] {
                let told = (pot.clone(), window, percent);
                let part = i128::from(limit.nanos()) * i128::from(percent);
                if limit > Money::ZERO && i128::from(spent.nanos()) * 100 >= part && !self.told.contains(&told) {
                    self.told.push(told);
                    news.push(Crossing::new(pot.clone(), window_start, limit, percent, spent));
                }
            }
        }
        news.sort_by(|one, other| (&one.pot, one.percent).cmp(&(&other.pot, other.percent)));
        news
    }

    fn reserve(&mut self, ask: &Reserve<'_>) -> Verdict {
        let standings: Vec<_> = ask.budgets.iter().map(|budget| self.standing(budget)).collect();
        let verdict = ask.answer(&standings, self.now);
        if let Verdict::Allow(Grant { reservation, standings: _ }) = verdict {
            let reservation = sorted(reservation);
            let (session, stage, paying) = (ask.session.id, Stage::Live, Vec::new());
            let (first, asked) = (reservation.clone(), ask.budgets.to_vec());
            self.holds.push(Hold { reservation: reservation.clone(), first, asked, session, stage, paying });
            let standings = ask.budgets.iter().map(|budget| self.standing(budget)).collect();
            return Verdict::Allow(Grant { reservation, standings });
        }
        verdict
    }

    fn extend(&mut self, found: usize, ask: &Reserve<'_>) -> Verdict {
        let standings: Vec<_> = ask.budgets.iter().map(|budget| self.standing(budget)).collect();
        let (now, Reservation { mut pots, granted, id }) = (self.now, self.holds[found].reservation.clone());
        let newest = |pinned: &Pinned| pinned.pot.window.around(now).0;
        // The account without the hold.
        let stays = |one: &Pinned| matches!(one.pot.window, Window::Rolling(_)) || one.window_start == newest(one);
        let is_here = |pot: &Pot| pots.iter().any(|one| one.pot == *pot && stays(one));
        let wish = if pots.iter().all(stays) { ask.wish } else { ask.wish.at_least(granted) };
        let without = |standing: &Standing| {
            let own = if is_here(&standing.budget.pot) { granted } else { Money::ZERO };
            Standing { held: standing.held.saturating_sub(own), ..standing.clone() }
        };
        let others: Vec<_> = standings.iter().map(without).collect();
        let total = match wish.grant(others.iter().map(Standing::room)) {
            Ok(total) => total.max(granted),
            Err(lack) => {
                return Verdict::Deny(Denial { standing: others[lack.index].clone(), is_held: lack.is_held });
            }
        };
        for pinned in &mut pots {
            pinned.window_start = newest(pinned);
        }
        let reservation = Reservation { id, granted: total, pots };
        self.holds[found].reservation = reservation.clone();
        let standings = ask.budgets.iter().map(|budget| self.standing(budget)).collect();
        Verdict::Allow(Grant { reservation, standings })
    }

    /// The index of a hold with this property, with a preference for the youngest.
    fn any(&self, random: &mut Random, is_so: impl Fn(&Hold) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.holds.len()).rev().filter(|at| is_so(&self.holds[*at])).take(12).collect();
        random.of(&all).copied()
    }
}
