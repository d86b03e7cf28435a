//! The rules of a pot: how a window begins anew, what may be granted, and how a grant is made true.
//!
//! Reach for it when you write a budget store: memory and SQLite both decide by these rules, and the suite holds yours to
//! them. Nothing here knows of time zones, locks or tables.
//!
//! ```
//! use tollgate::domain::ledger::{Account, Wish};
//! use tollgate::domain::money::Money;
//! let money = |nanos| Money::from_nanos(nanos);
//! let wish = Wish { min: money(10), want: money(100), share: 4 };
//! let account = Account { spent: money(50), held: money(30), ..Account::default() };
//! // 20 are left: a quarter of them is under the least, so the least is granted.
//! assert_eq!(wish.grant([(account, money(100))]).ok(), Some(money(10)));
//! ```

use jiff::Timestamp;

use super::money::Money;

/// What has come out of a pot in its current window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// When the window began.
    pub window_start: Timestamp,
    /// Settled and forfeited.
    pub spent: Money,
    /// Granted to calls in flight.
    pub held: Money,
}

impl Default for Account {
    fn default() -> Self {
        Account { window_start: Timestamp::UNIX_EPOCH, spent: Money::ZERO, held: Money::ZERO }
    }
}

impl Account {
    /// Begins anew if `window_start` is later than what it has: what is still held then belongs to its own, older window.
    pub fn roll(&mut self, window_start: Timestamp) {
        if window_start > self.window_start {
            *self = Account { window_start, ..Account::default() };
        }
    }

    /// What may still be granted under `limit`; less than nothing where more was spent than there was.
    #[must_use]
    pub fn left(&self, limit: Money) -> Money {
        limit.saturating_sub(self.spent).saturating_sub(self.held)
    }

    /// Holds `granted`.
    pub fn hold(&mut self, granted: Money) {
        self.held = self.held.saturating_add(granted);
    }

    /// Makes a grant of the window that began at `pinned` true. A window that has closed is not touched: what its calls
    /// cost is in their own records. A forfeit is a settlement for all that was granted.
    pub fn settle(&mut self, pinned: Timestamp, granted: Money, actual: Money) {
        if self.window_start == pinned {
            self.held = self.held.saturating_sub(granted);
            self.spent = self.spent.saturating_add(actual);
        }
    }

    /// Makes a forfeit of the window that began at `pinned` true, as [`settle`](Self::settle) does a grant.
    pub fn correct(&mut self, pinned: Timestamp, forfeited: Money, actual: Money) {
        if self.window_start == pinned {
            self.spent = self.spent.saturating_sub(forfeited).saturating_add(actual);
        }
    }
}

/// What a call asks of every one of its pots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The least that is of use.
    pub min: Money,
    /// All that the call may cost.
    pub want: Money,
    /// A grant takes at most one part in `share` of what is left, unless that is under the least. 1 takes all.
    pub share: u32,
}

/// Why a pot grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// Which of the pots, counted from 0.
    pub index: usize,
    /// Whether there would be enough once the calls in flight have settled for nothing: coming back soon may help.
    pub is_held: bool,
}

impl Wish {
    /// The grant that every pot can give, each an account and its limit. All give the same, or none gives anything.
    ///
    /// # Errors
    /// The first pot that has less than the least; of several, one that is spent comes before those that are only held.
    pub fn grant(self, pots: impl IntoIterator<Item = (Account, Money)>) -> Result<Money, Lack> {
        let mut granted = self.want;
        let mut lack: Option<Lack> = None;
        for (index, (account, limit)) in pots.into_iter().enumerate() {
            let left = account.left(limit);
            // A limit of nothing lets nothing through, not even what costs nothing.
            if left < self.min || limit <= Money::ZERO {
                let is_held = left.saturating_add(account.held) >= self.min && account.held > Money::ZERO;
                if lack.is_none_or(|lack| lack.is_held && !is_held) {
                    lack = Some(Lack { index, is_held });
                }
                continue;
            }
            let part = Money::from_nanos(left.nanos() / i64::from(self.share.max(1)));
            granted = granted.min(part.max(self.min));
        }
        match lack {
            Some(lack) => Err(lack),
            None => Ok(granted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Lack, Money, Timestamp, Wish};

    fn money(nanos: i64) -> Money {
        Money::from_nanos(nanos)
    }

    fn account(spent: i64, held: i64) -> Account {
        Account { spent: money(spent), held: money(held), ..Account::default() }
    }

    #[test]
    fn a_grant_is_the_least_that_any_pot_can_give() {
        let wish = Wish { min: money(5), want: money(40), share: 4 };
        for (pots, granted) in [
            (vec![], Ok(40)),
            (vec![(account(0, 0), 1_000)], Ok(40)),
            (vec![(account(0, 0), 100)], Ok(25)),
            (vec![(account(0, 0), 100), (account(90, 2), 100)], Ok(5)),
            (vec![(account(90, 5), 100)], Ok(5)),
            (vec![(account(90, 6), 100)], Err(Lack { index: 0, is_held: true })),
            (vec![(account(96, 0), 100)], Err(Lack { index: 0, is_held: false })),
            (vec![(account(0, 99), 100), (account(100, 0), 100)], Err(Lack { index: 1, is_held: false })),
            (vec![(account(0, 0), 0)], Err(Lack { index: 0, is_held: false })),
            (vec![(account(200, 0), 100)], Err(Lack { index: 0, is_held: false })),
        ] {
            let asked = pots.into_iter().map(|(account, limit)| (account, money(limit)));
            assert_eq!(wish.grant(asked), granted.map(money));
        }
        let free = Wish { min: Money::ZERO, want: Money::ZERO, share: 1 };
        assert!(free.grant([(account(0, 0), Money::ZERO)]).is_err(), "a limit of zero lets nothing through");
    }

    #[test]
    fn a_forfeit_is_charged_whole_until_it_is_corrected() {
        let (now, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(86_400).expect("a time"));
        let mut pot = account(5, 0);
        pot.hold(money(10));
        pot.settle(now, money(10), money(10));
        assert_eq!((pot.spent, pot.held), (money(15), Money::ZERO));
        pot.correct(later, money(10), money(3));
        assert_eq!(pot.spent, money(15), "of another window");
        pot.correct(now, money(10), money(3));
        assert_eq!((pot.spent, pot.held), (money(8), Money::ZERO));
    }

    #[test]
    fn a_settlement_counts_in_the_window_of_its_grant_and_no_other() {
        let (monday, tuesday) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(86_400).expect("a time"));
        let mut pot = account(0, 0);
        pot.hold(money(10));
        pot.roll(tuesday);
        assert_eq!((pot.spent, pot.held), (Money::ZERO, Money::ZERO));
        pot.settle(monday, money(10), money(7));
        assert_eq!((pot.spent, pot.held), (Money::ZERO, Money::ZERO));
        pot.roll(monday);
        assert_eq!(pot.window_start, tuesday, "time that goes back opens no old window");
    }
}
