//! The part of the ledger that a batch is about, in memory: decided here by the rules, and written back as a whole.

use foldhash::{HashMap, HashMapExt, HashSet};
use jiff::Timestamp;
use uuid::Uuid;

use super::time::timestamp;
use crate::domain::budget::{Budget, Pot, Window};
use crate::domain::ledger::{Account, Room};
use crate::domain::money::Money;
use crate::store::budget::{
    Crossing, Denial, Grant, Pinned, Reservation, Reserve, Standing, Verdict, denied_more, no_live_hold, other_pots,
    pin, same_pots,
};
use crate::store::{Session, StoreError};

/// The part of the ledger that one batch touches, at one time.
pub(super) struct Ledger {
    pub(super) now: i64,
    pub(super) pots: HashMap<Pot, Kept>,
    pub(super) holds: HashMap<Uuid, Hold>,
    /// Sessions that were heard from, and until when they are presumed alive for it.
    pub(super) heard: HashMap<Uuid, i64>,
}

/// A pot's account, in its current window. One that was not in the file is empty.
pub(super) struct Kept {
    pub(super) account: Account,
    /// When that window ends.
    until: Option<Timestamp>,
    pub(super) changed: bool,
}

impl Kept {
    /// A roll alone is not written; it is written with the next change.
    pub(super) fn rolled(mut account: Account, window: Window, now: i64) -> Self {
        let (start, until) = window.around(timestamp(now));
        account.roll(window, start);
        Kept { account, until, changed: false }
    }
}

/// A row of the ledger.
pub(super) struct Hold {
    pub(super) session: Option<Uuid>,
    pub(super) state: State,
    pub(super) granted: Money,
    pub(super) actual: Option<Money>,
    pub(super) at: i64,
    pub(super) pots: Vec<Pinned>,
    /// How often it was asked for.
    pub(super) asks: i64,
    pub(super) changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Forfeited,
    Settled,
    /// It never was granted: to be deleted.
    Void,
}

impl Ledger {
    pub(super) fn new(now: i64) -> Self {
        Ledger { now, pots: HashMap::new(), holds: HashMap::new(), heard: HashMap::new() }
    }

    /// Charges the holds of silent sessions.
    pub(super) fn forfeit(&mut self, silent: &HashSet<Uuid>) {
        let Ledger { now, pots, holds, .. } = self;
        let is_silent = |hold: &Hold| hold.session.is_some_and(|session| silent.contains(&session));
        for hold in holds.values_mut().filter(|hold| hold.state == State::Live && is_silent(hold)) {
            each(pots, hold, |account, pinned| {
                account.settle(pinned.pot.window, pinned.window_start, hold.granted, hold.granted);
            });
            hold.end(State::Forfeited, Some(hold.granted), *now);
        }
    }

    pub(super) fn hear(&mut self, session: Session) {
        let lease = i64::try_from(session.lease.as_nanos()).unwrap_or(i64::MAX);
        let until = self.now.saturating_add(lease);
        let known = self.heard.entry(session.id).or_insert(until);
        *known = until.max(*known);
    }

    pub(super) fn reserve(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        let Reserve { id, session, budgets, wish } = *ask;
        self.hear(session);
        match self.holds.get_mut(&id) {
            // A forfeit stays charged until its settlement, which the caller who asks again will send.
            Some(hold) if matches!(hold.state, State::Live | State::Forfeited) => {
                (hold.asks, hold.changed) = (hold.asks.saturating_add(1), true);
                let reservation = hold.reservation(id);
                return Ok(self.granted(reservation, budgets));
            }
            Some(hold) if hold.state == State::Settled => {
                return Err(StoreError::broken("the reservation with this id is already settled"));
            }
            _ => {}
        }
        let mut pots: Vec<Pinned> = Vec::with_capacity(budgets.len());
        let granted = wish.grant(budgets.iter().map(|budget| {
            let account = &self.at(&budget.pot).account;
            // Asked under each of its limits, but held once.
            pin(&mut pots, budget, || account.window_start);
            Room::of(account, budget)
        }));
        match granted {
            Ok(granted) => {
                let (session, at) = (Some(session.id), self.now);
                let (state, actual) = (State::Live, None);
                let hold = Hold { session, state, granted, actual, at, pots, asks: 1, changed: true };
                each(&mut self.pots, &hold, |account, pinned| {
                    account.hold(pinned.pot.window, pinned.window_start, granted);
                });
                let reservation = hold.reservation(id);
                self.holds.insert(id, hold);
                Ok(self.granted(reservation, budgets))
            }
            Err(lack) => {
                let standing = self.standing(&budgets[lack.index]);
                Ok(Verdict::Deny(Denial { standing, is_held: lack.is_held }))
            }
        }
    }

    pub(super) fn extend(&mut self, ask: &Reserve<'_>) -> Result<Verdict, StoreError> {
        let Reserve { id, session, budgets, wish } = *ask;
        self.hear(session);
        let Some(hold) = self.holds.get(&id).filter(|hold| hold.state == State::Live) else {
            return Err(no_live_hold());
        };
        let (granted, mut pots) = (hold.granted, hold.pots.clone());
        let held: Vec<_> = pots.iter().map(|pinned| &pinned.pot).collect();
        if !same_pots(&held, &budgets.iter().map(|budget| &budget.pot).collect::<Vec<_>>()) {
            return Err(other_pots());
        }
        let own = |account: &Account, pot: &Pot| {
            let pinned = pots.iter().find(|pinned| pinned.pot == *pot);
            pinned.map_or(Money::ZERO, |pinned| account.holds_of(pot.window, pinned.window_start, granted))
        };
        let (mut rooms, mut has_moved) = (Vec::with_capacity(budgets.len()), false);
        for budget in budgets {
            let account = &self.at(&budget.pot).account;
            let own = own(account, &budget.pot);
            has_moved |= own < granted;
            rooms.push(Room::of(account, budget).without(own));
        }
        // A hold never shrinks, so what moves into an open window must fit there whole.
        let wish = if has_moved { wish.at_least(granted) } else { wish };
        let total = wish.grant(rooms);
        let total = match total {
            Ok(total) => total.max(granted),
            Err(lack) => {
                let budget = &budgets[lack.index];
                let own = own(&self.at(&budget.pot).account, &budget.pot);
                return Ok(denied_more(self.standing(budget), own, lack.is_held));
            }
        };
        for pinned in &mut pots {
            let kept = self.at(&pinned.pot);
            pinned.window_start = kept.account.extend(pinned.pot.window, pinned.window_start, granted, total);
            kept.changed = true;
        }
        if let Some(hold) = self.holds.get_mut(&id) {
            (hold.granted, hold.pots, hold.changed) = (total, pots.clone(), true);
        }
        Ok(self.granted(Reservation { id, granted: total, pots }, budgets))
    }

    fn granted(&mut self, reservation: Reservation, budgets: &[Budget]) -> Verdict {
        let standings = budgets.iter().map(|budget| self.standing(budget)).collect();
        Verdict::Allow(Grant { reservation, standings })
    }

    pub(super) fn settle(&mut self, reservation: &Reservation, actual: Money) -> Vec<Crossing> {
        let (now, mut news) = (self.now, Vec::new());
        let known = self.holds.get(&reservation.id);
        // A hold that the file has lost, or never had: nothing is held for it, but the money was spent.
        let is_lost = known.is_none();
        let pots = known.map_or(&reservation.pots, |hold| &hold.pots).clone();
        for pinned in &pots {
            self.at(&pinned.pot);
        }
        let hold = self.holds.entry(reservation.id).or_insert_with(|| Hold {
            session: None,
            state: State::Live,
            granted: reservation.granted,
            actual: None,
            at: now,
            pots,
            asks: 0,
            changed: true,
        });
        let held = if is_lost { Money::ZERO } else { hold.granted };
        for (index, pinned) in hold.pots.iter().enumerate() {
            let Some(kept) = self.pots.get_mut(&pinned.pot) else { continue };
            let (account, window, start) = (&mut kept.account, pinned.pot.window, pinned.window_start);
            // A pot that is left out pays nothing.
            let pays = reservation.names(index, &pinned.pot);
            let actual = if pays { actual } else { Money::ZERO };
            match hold.state {
                State::Live => account.settle(window, start, held, actual),
                State::Forfeited => account.correct(window, start, held, actual),
                State::Settled | State::Void => return news,
            }
            if pays {
                news.extend(pinned.crossed(account));
            }
            kept.changed = true;
        }
        if hold.state != State::Void {
            hold.end(State::Settled, Some(actual), now);
        }
        news
    }

    /// Takes back a grant that its caller never received, so nobody can have spent it. A caller who asked again has
    /// received it.
    pub(super) fn take_back(&mut self, id: Uuid) {
        let now = self.now;
        if let Some(hold) = self.holds.get_mut(&id).filter(|hold| hold.state == State::Live && hold.asks == 1) {
            each(&mut self.pots, hold, |account, pinned| {
                account.settle(pinned.pot.window, pinned.window_start, hold.granted, Money::ZERO);
            });
            hold.end(State::Void, None, now);
        }
    }

    pub(super) fn standing(&mut self, budget: &Budget) -> Standing {
        let Kept { account, until, .. } = self.at(&budget.pot);
        Standing::new(budget.clone(), account, *until)
    }

    fn at(&mut self, pot: &Pot) -> &mut Kept {
        let now = self.now;
        self.pots.entry(pot.clone()).or_insert_with(|| Kept::rolled(Account::default(), pot.window, now))
    }
}

/// Changes every account in which a hold is held.
fn each(pots: &mut HashMap<Pot, Kept>, hold: &Hold, change: impl Fn(&mut Account, &Pinned)) {
    for pinned in &hold.pots {
        if let Some(kept) = pots.get_mut(&pinned.pot) {
            change(&mut kept.account, pinned);
            kept.changed = true;
        }
    }
}

impl Hold {
    fn end(&mut self, state: State, actual: Option<Money>, at: i64) {
        (self.state, self.actual, self.at, self.changed) = (state, actual, at, true);
    }

    fn reservation(&self, id: Uuid) -> Reservation {
        Reservation { id, granted: self.granted, pots: self.pots.clone() }
    }
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Forfeited => "forfeited",
            State::Settled => "settled",
            State::Void => "void",
        }
    }
}
