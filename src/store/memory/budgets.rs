use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use uuid::Uuid;

use super::leases::Leases;
use super::settled::Settled;
use super::sweep::Sweep;
use super::{lock, time};
use crate::domain::budget::{Budget, Pot};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ledger::{Account, Lack, Room};
use crate::domain::money::Money;
use crate::store::budget::{
    BudgetStore, Crossing, Denial, Grant, Pinned, Reservation, Reserve, Standing, Verdict, crossed, denied_more,
    no_live_hold, other_pots, same_pots,
};
use crate::store::{At, Session, StoreError};

/// How long a forfeit can be corrected: no call takes that long.
const CORRECTABLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Budgets in memory. Clones share them.
///
/// A settlement corrects a forfeit within a day. A later one is added to it.
#[derive(Clone)]
pub struct MemoryBudgets {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

impl MemoryBudgets {
    /// No money is spent yet.
    #[must_use]
    pub fn new() -> Self {
        MemoryBudgets { clock: Arc::new(SystemClock), state: Arc::default() }
    }

    /// Uses this clock instead of the system clock. Existing clones keep theirs.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Decides under the lock, at a time that never goes back, after the holds of silent sessions are forfeited.
    pub(super) fn decide<T>(&self, at: At, decision: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = time(at, &*self.clock);
        let mut state = lock(&self.state);
        state.now = state.now.max(now);
        let now = state.now;
        let silent = state.leases.take_silent(now);
        if !silent.is_empty() {
            state.forfeit(&silent);
        }
        // Before the decision, so that the places it looks up stay valid.
        if state.sweep.is_due(state.pots.len()) {
            state.forget_idle();
        }
        decision(&mut state, now)
    }
}

impl Default for MemoryBudgets {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl BudgetStore for MemoryBudgets {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        Ok(self.decide(at, |state, now| state.ask(ask, now)))
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.decide(at, |state, now| {
            let _ = state.leases.renew(ask.session, now);
            state.extend(ask)
        })
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        Ok(self.decide(at, |state, _| state.settle(reservation, actual)))
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.decide(at, |state, now| state.leases.renew(session, now));
        Ok(())
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        Ok(self.decide(at, |state, _| state.standings(budgets)))
    }
}

pub(super) struct State {
    /// The latest time that was decided by.
    now: Timestamp,
    index: HashMap<Pot, usize, RandomState>,
    pots: Vec<Kept>,
    /// Live and forfeited holds.
    holds: HashMap<Uuid, Hold, RandomState>,
    settled: Settled,
    leases: Leases,
    sweep: Sweep,
}

struct Kept {
    pot: Pot,
    account: Account,
    /// When its window ends, so that the calendar is asked once per window.
    until: Option<Timestamp>,
}

struct Hold {
    session: Uuid,
    granted: Money,
    pins: Vec<Pin>,
    forfeited_at: Option<Timestamp>,
}

struct Pin {
    at: usize,
    window_start: Timestamp,
    limit: Money,
}

impl Default for State {
    fn default() -> Self {
        State {
            now: Timestamp::MIN,
            index: HashMap::default(),
            pots: Vec::new(),
            holds: HashMap::default(),
            settled: Settled::default(),
            leases: Leases::default(),
            sweep: Sweep::default(),
        }
    }
}

impl State {
    pub(super) fn ask(&mut self, ask: &Reserve<'_>, now: Timestamp) -> Verdict {
        let _ = self.leases.renew(ask.session, now);
        self.reserve(ask)
    }

    fn reserve(&mut self, ask: &Reserve<'_>) -> Verdict {
        // A forfeited hold too: it stays charged until its settlement, which the caller who asks again will send.
        if let Some(hold) = self.holds.get(&ask.id) {
            let reservation = self.reservation(ask.id, hold);
            return Verdict::Allow(Grant { reservation, standings: self.standings(ask.budgets) });
        }
        // Each pot is looked up once, however often it is named.
        let places: Vec<usize> = ask.budgets.iter().map(|budget| self.at(&budget.pot)).collect();
        let placed = || places.iter().copied().zip(ask.budgets);
        let rooms = placed().map(|(at, budget)| Room::of(&self.pots[at].account, budget));
        let granted = match ask.wish.grant(rooms) {
            Ok(granted) => granted,
            Err(Lack { index, is_held }) => {
                let standing = self.pots[places[index]].standing(&ask.budgets[index]);
                return Verdict::Deny(Denial { standing, is_held });
            }
        };
        let mut pins: Vec<Pin> = Vec::with_capacity(places.len());
        for (at, budget) in placed() {
            // Asked under each of its limits, but held once.
            if let Some(pin) = pins.iter_mut().find(|pin| pin.at == at) {
                pin.limit = pin.limit.min(budget.limit);
                continue;
            }
            let Kept { pot, account, .. } = &mut self.pots[at];
            let window_start = account.window_start;
            account.hold(pot.window, window_start, granted);
            pins.push(Pin { at, window_start, limit: budget.limit });
        }
        let standings = placed().map(|(at, budget)| self.pots[at].standing(budget)).collect();
        let hold = Hold { session: ask.session.id, granted, pins, forfeited_at: None };
        let reservation = self.reservation(ask.id, &hold);
        self.holds.insert(ask.id, hold);
        Verdict::Allow(Grant { reservation, standings })
    }

    fn extend(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        let pins = match self.holds.get(&ask.id) {
            Some(hold) if hold.forfeited_at.is_none() => hold.pins.iter().map(|pin| pin.at).collect::<Vec<_>>(),
            _ => return Err(no_live_hold()),
        };
        let places: Vec<_> = ask.budgets.iter().filter_map(|budget| self.index.get(&budget.pot).copied()).collect();
        if places.len() < ask.budgets.len() || !same_pots(&pins, &places) {
            return Err(other_pots());
        }
        for at in &pins {
            self.rolled(*at);
        }
        let State { pots, holds, .. } = self;
        let Some(hold) = holds.get_mut(&ask.id) else { return Err(no_live_hold()) };
        let placed = || places.iter().copied().zip(ask.budgets);
        let own = |at: usize| {
            let Kept { pot, account, .. } = &pots[at];
            let pin = hold.pins.iter().find(|pin| pin.at == at);
            pin.map_or(Money::ZERO, |pin| account.holds_of(pot.window, pin.window_start, hold.granted))
        };
        let rooms = placed().map(|(at, budget)| Room::of(&pots[at].account, budget).without(own(at)));
        // A hold never shrinks, so what moves into an open window must fit there whole.
        let has_moved = placed().any(|(at, _)| own(at) < hold.granted);
        let wish = if has_moved { ask.wish.at_least(hold.granted) } else { ask.wish };
        let total = match wish.grant(rooms) {
            Ok(total) => total.max(hold.granted),
            Err(Lack { index, is_held }) => {
                let at = places[index];
                return Ok(denied_more(pots[at].standing(&ask.budgets[index]), own(at), is_held));
            }
        };
        for pin in &mut hold.pins {
            let Kept { pot, account, .. } = &mut pots[pin.at];
            pin.window_start = account.extend(pot.window, pin.window_start, hold.granted, total);
        }
        hold.granted = total;
        let standings = placed().map(|(at, budget)| pots[at].standing(budget)).collect();
        let reservation = self.reservation(ask.id, &self.holds[&ask.id]);
        Ok(Verdict::Allow(Grant { reservation, standings }))
    }

    fn reservation(&self, id: Uuid, hold: &Hold) -> Reservation {
        let pinned =
            |pin: &Pin| Pinned { pot: self.pots[pin.at].pot.clone(), window_start: pin.window_start, limit: pin.limit };
        Reservation { id, granted: hold.granted, pots: hold.pins.iter().map(pinned).collect() }
    }

    fn settle(&mut self, reservation: &Reservation, actual: Money) -> Vec<Crossing> {
        let mut news = Vec::new();
        match self.holds.remove(&reservation.id) {
            Some(hold) => {
                for (index, pin) in hold.pins.iter().enumerate() {
                    let Kept { pot, account, .. } = self.rolled(pin.at);
                    // A pot that is left out pays nothing.
                    let pays = reservation.names(index, pot);
                    let actual = if pays { actual } else { Money::ZERO };
                    match hold.forfeited_at {
                        None => account.settle(pot.window, pin.window_start, hold.granted, actual),
                        Some(_) => account.correct(pot.window, pin.window_start, hold.granted, actual),
                    }
                    if pays && account.may_cross(pin.limit) {
                        news.extend(crossed(pot, pin.window_start, pin.limit, account));
                    }
                }
            }
            None if self.settled.contains(&reservation.id) => return news,
            // A hold from before a restart: nothing is held for it here, but the money was spent.
            None => {
                for pinned in &reservation.pots {
                    let at = self.at(&pinned.pot);
                    let account = &mut self.pots[at].account;
                    account.settle(pinned.pot.window, pinned.window_start, Money::ZERO, actual);
                    news.extend(pinned.crossed(account));
                }
            }
        }
        self.settled.remember(reservation.id, self.now);
        news
    }

    /// Charges the holds of silent sessions, and drops forfeits that nobody has corrected in time.
    #[cold]
    fn forfeit(&mut self, silent: &[Uuid]) {
        let (now, pots) = (self.now, &mut self.pots);
        self.holds.retain(|_, hold| match hold.forfeited_at {
            Some(at) => at.saturating_add(CORRECTABLE).is_ok_and(|until| now <= until),
            None => {
                if silent.contains(&hold.session) {
                    for pin in &hold.pins {
                        let Kept { pot, account, .. } = &mut pots[pin.at];
                        account.settle(pot.window, pin.window_start, hold.granted, hold.granted);
                    }
                    hold.forfeited_at = Some(now);
                }
                true
            }
        });
    }

    /// Forgets pots that stand as a new one would, since their windows have passed. A pot of a hold stays, and so does
    /// one of a forfeit that may still be corrected.
    #[cold]
    fn forget_idle(&mut self) {
        let State { now, index, pots, holds, sweep, .. } = self;
        let pinned = holds.values().flat_map(|hold| &hold.pins).map(|pin| pin.at);
        let moved = sweep.run(pots, pinned, |kept| kept.is_idle(*now));
        index.retain(|_, at| moved.follow(at));
        index.shrink_to(moved.due);
        for pin in holds.values_mut().flat_map(|hold| &mut hold.pins) {
            moved.follow(&mut pin.at);
        }
    }

    /// Where a pot is kept, in its current window.
    fn at(&mut self, pot: &Pot) -> usize {
        let Some(&at) = self.index.get(pot) else {
            let (window_start, until) = pot.window.around(self.now);
            self.pots.push(Kept { pot: pot.clone(), account: Account::new(window_start), until });
            self.index.insert(pot.clone(), self.pots.len() - 1);
            return self.pots.len() - 1;
        };
        self.rolled(at);
        at
    }

    fn rolled(&mut self, at: usize) -> &mut Kept {
        let kept = &mut self.pots[at];
        kept.roll(self.now);
        kept
    }

    fn standings(&mut self, budgets: &[Budget]) -> Vec<Standing> {
        budgets.iter().map(|budget| self.standing(budget)).collect()
    }

    fn standing(&mut self, budget: &Budget) -> Standing {
        // A query leaves nothing behind.
        match self.index.get(&budget.pot) {
            Some(&at) => self.rolled(at).standing(budget),
            None => Standing::new(budget.clone(), &Account::default(), budget.pot.window.around(self.now).1),
        }
    }
}

impl Kept {
    fn roll(&mut self, now: Timestamp) {
        if self.until.is_some_and(|until| until <= now) {
            let (window_start, until) = self.pot.window.around(now);
            self.account.roll(self.pot.window, window_start);
            self.until = until;
        }
    }

    /// Whether a new pot would stand as this one does. A pot without an end is never idle again once something was
    /// spent. In a rolling window, thresholds that were told count for as long as the window is.
    fn is_idle(&mut self, now: Timestamp) -> bool {
        self.roll(now);
        let Account { spent, held, told, ref slices, .. } = self.account;
        (spent, held, told) == (Money::ZERO, Money::ZERO, 0) && slices.iter().all(|slice| *slice == Money::ZERO)
    }

    fn standing(&self, budget: &Budget) -> Standing {
        Standing::new(budget.clone(), &self.account, self.until)
    }
}

impl fmt::Debug for MemoryBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("MemoryBudgets")
            .field("pots", &state.pots.len())
            .field("holds", &state.holds.len())
            .field("settled", &state.settled.len())
            .field("sessions", &state.leases.len())
            .finish_non_exhaustive()
    }
}
