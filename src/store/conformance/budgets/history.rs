//! Random histories, each step compared with a ledger that keeps nothing but what happened, and adds it up anew.

use jiff::Timestamp;
use uuid::Uuid;

use super::{HOUR, LEASE, day, money, session};
use crate::domain::budget::{Budget, Pot, Window};
use crate::domain::ledger::{Account, Wish};
use crate::domain::money::Money;
use crate::domain::scope::Scope;
use crate::store::budget::{BudgetStore, Denial, Grant, Pinned, Reservation, Reserve, Standing, Verdict};
use crate::store::conformance::random::Random;
use crate::store::conformance::{Rule, time};
use crate::store::{At, Session};

pub(in crate::store::conformance) async fn run<S: BudgetStore>(
    make: &impl AsyncFn() -> S,
    seeds: std::ops::Range<u64>,
    steps: usize,
) {
    for seed in seeds {
        let store = make().await;
        let mut history = History::new(seed);
        for step in 0..steps {
            let when = format!("seed {seed}, step {step}");
            history.step(&store, &when).await;
        }
    }
}

const RULE: Rule = Rule("every_history_adds_up");

struct History {
    random: Random,
    /// In seconds, as the suite has it.
    clock: i64,
    sessions: [Session; 3],
    pots: Vec<Budget>,
    ledger: Ledger,
}

impl History {
    fn new(seed: u64) -> Self {
        let team = |window| Budget::new(Scope::team("search"), window, money(400));
        let pots =
            vec![day("search", 300), day("lab", 100), team(Window::Week), team(Window::Month), team(Window::Total)];
        let mut random = Random::new(seed);
        let sessions = [(); 3].map(|()| Session { id: random.id(), ..session() });
        History { random, clock: 0, sessions, pots, ledger: Ledger::default() }
    }

    async fn step<S: BudgetStore>(&mut self, store: &S, when: &str) {
        self.pass();
        let at = At::Fixed(time(self.clock));
        self.ledger.pass(time(self.clock));
        let session = *self.random.of(&self.sessions).unwrap_or(&self.sessions[0]);
        match self.random.below(10) {
            0..5 => self.reserve(store, session, at, when).await,
            5..9 => self.settle(store, at, when).await,
            _ => {
                RULE.answer(store.heartbeat(session, at).await);
                self.ledger.renew(session);
            }
        }
        let standings = RULE.answer(store.standing(&self.pots, at).await);
        let want: Vec<_> = self.pots.iter().map(|pot| self.ledger.standing(pot)).collect();
        RULE.same(&format!("{when}: standings"), &standings, &want);
    }

    /// Mostly seconds, at times past a lease or past midnight, and at times backwards.
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
            // A limit is as the ask has it; and one pot may come twice.
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
            (None, Verdict::Allow(Grant { reservation, left })) => {
                let got = Verdict::Allow(Grant { reservation: sorted(reservation), left });
                RULE.same(&what, &got, &self.ledger.reserve(&ask));
            }
            (None, denied) => RULE.same(&what, &denied, &self.ledger.reserve(&ask)),
        }
    }

    async fn settle<S: BudgetStore>(&mut self, store: &S, at: At, when: &str) {
        // A forfeit may be corrected for a day; that a call was settled is remembered for an hour.
        let now = self.ledger.now;
        let within = |since: Timestamp, hours: i64| (now.as_second() - since.as_second()) < hours * HOUR;
        let Some(found) = self.ledger.any(&mut self.random, |hold| match hold.stage {
            Stage::Live => true,
            Stage::Forfeited(since) => within(since, 24),
            Stage::Settled(_, since) => within(since, 1),
        }) else {
            return;
        };
        let hold = &mut self.ledger.holds[found];
        let actual = money(self.random.up_to(hold.reservation.granted.nanos() * 3 / 2));
        if !matches!(hold.stage, Stage::Settled(..)) {
            hold.stage = Stage::Settled(actual, now);
        }
        let settled = store.settle(&hold.reservation, actual, at).await;
        if settled.is_err() {
            RULE.holds(&format!("{when}: a settlement of {:?} is {settled:?}", hold.reservation), false);
        }
    }
}

/// In which order a reservation lists its pots is the store's affair.
fn sorted(mut reservation: Reservation) -> Reservation {
    reservation.pots.sort_by(|one, other| one.pot.cmp(&other.pot));
    reservation
}

/// The reference: every hold there ever was.
struct Ledger {
    now: Timestamp,
    holds: Vec<Hold>,
    leases: Vec<(Uuid, Timestamp)>,
}

struct Hold {
    reservation: Reservation,
    session: Uuid,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Live,
    Forfeited(Timestamp),
    Settled(Money, Timestamp),
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { now: Timestamp::MIN, holds: Vec::new(), leases: Vec::new() }
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

    /// What all holds of a pot's window of now sum up to.
    fn account(&self, pot: &Pot) -> Account {
        let window_start = pot.window.around(self.now).0;
        let mut account = Account { window_start, ..Account::default() };
        let pinned = Pinned { pot: pot.clone(), window_start };
        for hold in self.holds.iter().filter(|hold| hold.reservation.pots.contains(&pinned)) {
            match hold.stage {
                Stage::Live => account.held = account.held.saturating_add(hold.reservation.granted),
                Stage::Forfeited(_) => account.spent = account.spent.saturating_add(hold.reservation.granted),
                Stage::Settled(actual, _) => account.spent = account.spent.saturating_add(actual),
            }
        }
        account
    }

    fn standing(&self, budget: &Budget) -> Standing {
        Standing::new(budget.clone(), self.account(&budget.pot), budget.pot.window.around(self.now).1)
    }

    fn reserve(&mut self, ask: &Reserve<'_>) -> Verdict {
        let accounts: Vec<_> = ask.budgets.iter().map(|one| (self.account(&one.pot), one.limit)).collect();
        let granted = match ask.wish.grant(accounts.iter().copied()) {
            Ok(granted) => granted,
            Err(lack) => {
                let standing = self.standing(&ask.budgets[lack.index]);
                return Verdict::Deny(Denial { standing, is_held: lack.is_held });
            }
        };
        let mut pots: Vec<Pinned> = Vec::new();
        for (budget, (account, _)) in ask.budgets.iter().zip(&accounts) {
            let pinned = Pinned { pot: budget.pot.clone(), window_start: account.window_start };
            if !pots.contains(&pinned) {
                pots.push(pinned);
            }
        }
        let left = accounts.iter().map(|(account, limit)| account.left(*limit)).min().unwrap_or(Money::MAX);
        let reservation = sorted(Reservation { id: ask.id, granted, pots });
        let hold = Hold { reservation: reservation.clone(), session: ask.session.id, stage: Stage::Live };
        self.holds.push(hold);
        Verdict::Allow(Grant { reservation, left: left.saturating_sub(granted) })
    }

    /// Where one of the holds of which this is so is, the youngest sooner than others.
    fn any(&self, random: &mut Random, is_so: impl Fn(&Hold) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.holds.len()).rev().filter(|at| is_so(&self.holds[*at])).take(12).collect();
        random.of(&all).copied()
    }
}
