//! The rules of a pot: how a window begins anew, what may be granted, and how a grant is settled.
//!
//! Use it to write a budget store: the memory and SQLite stores both decide by these rules, and the conformance suite
//! checks yours against them. Nothing here uses clocks, locks or tables.
//!
//! ```
//! use tollgate::domain::ledger::{Room, Wish};
//! use tollgate::domain::money::Money;
//! let money = |nanos| Money::from_nanos(nanos);
//! let wish = Wish { min: money(10), want: money(100), share: 4 };
//! let room = Room { spent: money(50), held: money(30), limit: money(100), soft: false };
//! // 20 are left. A quarter of them is less than the minimum, so the minimum is granted.
//! assert_eq!(wish.grant([room]).ok(), Some(money(10)));
//! ```

mod account;

pub use self::account::{Account, THRESHOLDS};
use super::budget::Budget;
use super::money::Money;

/// What a pot has, for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Settled and forfeited.
    pub spent: Money,
    /// Granted to calls in flight.
    pub held: Money,
    /// The most that both together may be.
    pub limit: Money,
    /// Whether more than the limit may be granted.
    pub soft: bool,
}

impl Room {
    /// The room of an account under a budget.
    #[must_use]
    pub fn of(account: &Account, budget: &Budget) -> Self {
        Room { spent: account.spent, held: account.held, limit: budget.limit, soft: budget.soft }
    }

    /// The room for a call that already holds `own` of it.
    #[must_use]
    pub fn without(mut self, own: Money) -> Self {
        self.held = self.held.saturating_sub(own);
        self
    }

    /// What may still be granted; negative if more was spent than the limit.
    #[must_use]
    pub fn left(self) -> Money {
        self.limit.saturating_sub(self.spent).saturating_sub(self.held)
    }

    /// What can be held in addition without exceeding [`Money`]. More would saturate when it is held, be subtracted in
    /// full when it is settled, and make `held` negative.
    fn countable(self) -> Money {
        Money::MAX.saturating_sub(self.spent).saturating_sub(self.held).max(Money::ZERO)
    }
}

/// What a call asks of each of its pots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The smallest useful grant.
    pub min: Money,
    /// All that the call may cost.
    pub want: Money,
    /// A grant takes at most one part in `share` of what is left, but never less than `min`. 1 takes all.
    pub share: u32,
}

/// Why a pot grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// The index of the pot.
    pub index: usize,
    /// Whether there would be enough if all calls in flight settled for nothing. Then a retry may help soon.
    pub is_held: bool,
}

impl Wish {
    /// The wish of a call that holds `granted` already, and must hold as much in windows that have begun since.
    #[must_use]
    pub fn at_least(self, granted: Money) -> Self {
        Wish { min: self.min.max(granted), want: self.want.max(granted), ..self }
    }

    /// The grant that every pot can give. All pots give the same, or none gives anything. Soft pots give all that is
    /// wanted, as far as [`Money`] can count the total spent and held.
    ///
    /// # Errors
    /// The first pot that has less than `min`. If several do, a spent pot comes before those that are only held.
    pub fn grant(self, pots: impl IntoIterator<Item = Room>) -> Result<Money, Lack> {
        let mut granted = self.want;
        let mut lack: Option<Lack> = None;
        for (index, room) in pots.into_iter().enumerate() {
            granted = granted.min(room.countable());
            if room.soft {
                continue;
            }
            let left = room.left();
            // A limit of zero lets nothing through, not even a call that costs nothing.
            if left < self.min || room.limit <= Money::ZERO {
                let is_held = left.saturating_add(room.held) >= self.min && room.held > Money::ZERO;
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
    use super::{Lack, Money, Room, Wish};

    fn money(nanos: i64) -> Money {
        Money::from_nanos(nanos)
    }

    #[test]
    fn a_grant_is_the_least_that_any_pot_can_give() {
        let wish = Wish { min: money(5), want: money(40), share: 4 };
        for (pots, granted) in [
            (vec![], Ok(40)),
            (vec![(0, 0, 1_000)], Ok(40)),
            (vec![(0, 0, 100)], Ok(25)),
            (vec![(0, 0, 100), (90, 2, 100)], Ok(5)),
            (vec![(90, 5, 100)], Ok(5)),
            (vec![(90, 6, 100)], Err(Lack { index: 0, is_held: true })),
            (vec![(96, 0, 100)], Err(Lack { index: 0, is_held: false })),
            (vec![(0, 99, 100), (100, 0, 100)], Err(Lack { index: 1, is_held: false })),
            (vec![(0, 0, 0)], Err(Lack { index: 0, is_held: false })),
            (vec![(200, 0, 100)], Err(Lack { index: 0, is_held: false })),
        ] {
            let room = |(spent, held, limit)| Room {
                spent: money(spent),
                held: money(held),
                limit: money(limit),
                soft: false,
            };
            assert_eq!(wish.grant(pots.iter().copied().map(room)), granted.map(money));
            let soft = pots.iter().map(|pot| Room { soft: true, ..room(*pot) });
            assert_eq!(wish.grant(soft), Ok(wish.want), "a soft pot keeps nobody from anything");
            let one = Room { spent: money(0), held: money(0), limit: money(100), soft: false };
            let behind = pots.iter().map(|pot| Room { soft: true, ..room(*pot) }).chain([one]);
            assert_eq!(wish.grant(behind), Ok(money(25)), "and has no say beside a hard one");
        }
        let full = Room { spent: money(7), held: money(i64::MAX - 9), limit: money(1), soft: true };
        assert_eq!(wish.grant([full]), Ok(money(2)), "what is held can be counted");
        assert_eq!(wish.grant([Room { spent: Money::MAX, ..full }]), Ok(Money::ZERO));
        let free = Wish { min: Money::ZERO, want: Money::ZERO, share: 1 };
        let nothing = Room { spent: Money::ZERO, held: Money::ZERO, limit: Money::ZERO, soft: false };
        assert!(free.grant([nothing]).is_err(), "a limit of zero lets nothing through");
    }
}
