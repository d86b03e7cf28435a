//! Where money is held before it is spent, and made true after.
//!
//! Reach for it to keep budgets in a database of your own; `examples/custom_store.rs` does so in a hundred lines, by the
//! rules of [`ledger`](crate::domain::ledger), and runs the conformance suite over it.
//!
//! What every store keeps, at every moment and for every pot: `spent + held <= limit` when it grants; `held` is the sum
//! of what is granted and not settled; a reservation adds exactly one final sum to `spent`, however often it is
//! settled. What nobody settles is forfeited when its session falls silent: charged whole, since the provider may have
//! been paid, until a settlement turns up and corrects it.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! # use tollgate::domain::budget::{Budget, Window};
//! # use tollgate::domain::scope::Scope;
//! use std::time::Duration;
//! use tollgate::domain::ledger::Wish;
//! use tollgate::domain::money::Money;
//! use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
//! use tollgate::store::memory::MemoryBudgets;
//! use tollgate::store::{At, Session};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!
//! let store = MemoryBudgets::new();
//! let session = Session::new(Duration::from_secs(300));
//! let pots = [Budget::new(Scope::team("search"), Window::Day, "1".parse()?)];
//! let wish = Wish { min: "0.1".parse()?, want: "0.5".parse()?, share: 1 };
//! let Verdict::Allow(grant) = store.reserve(&Reserve::new(uuid::Uuid::now_v7(), session, &pots, wish), At::Store).await? else {
//!     panic!("there is enough");
//! };
//! store.settle(&grant.reservation, "0.3".parse()?, At::Store).await?;
//! assert_eq!(store.standing(&pots, At::Store).await?[0].spent.to_string(), "0.30");
//! # Ok(()) } }
//! ```

mod told;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::told::{Crossing, Standing};
use super::{At, Session, StoreError};
use crate::domain::budget::{Budget, Pot};
use crate::domain::ledger::{Account, Wish};
use crate::domain::money::Money;

/// Holds and settles money.
///
/// All of it is about the database, and not about the handle on it: what another process has held, settled or forfeited
/// there counts at once. The rules of the suite know one handle; `conformance::budgets_shared` has two.
#[async_trait]
pub trait BudgetStore: Send + Sync + 'static {
    /// Holds one grant in every pot that is asked for, or nothing in any, in one atomic step; the rule is
    /// [`Wish::grant`]. Asked again with the id of a hold that is live, it gives the same grant again. Before it
    /// decides, it forfeits what silent sessions left.
    ///
    /// An id that was settled is not asked for again. A store that a question can reach after its settlement, because
    /// there is a network or a queue in between, must not grant it then: nobody would ever settle it.
    ///
    /// # Cancellation
    /// Whoever stops waiting settles the id for nothing: it may be held all the same.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError>;

    /// Raises the live hold of the ask's id, for a call that turns out to cost more than it was granted, while it goes on. The
    /// budgets are those that it was reserved with, and the wish is for all that it holds from then on, in every pot, by the
    /// rule of [`Wish::grant`], as if it held nothing yet; a hold never shrinks, so that asking twice is asking once. The
    /// settlement that follows is for all of it. In a pot whose window has closed meanwhile, the whole hold moves into the
    /// one that is open: see [`Account::extend`].
    ///
    /// Denied, the hold stays as it was, and the denial says how the pot stands without it.
    ///
    /// # Cancellation
    /// It may be raised all the same; its settlement makes it true.
    ///
    /// # Errors
    /// When the store cannot decide, or there is no such hold, or it is of other pots; and [always](StoreError::unsupported)
    /// where a store leaves this to the default: what is held there for a call never grows.
    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let _ = (ask, at);
        Err(StoreError::unsupported("what it holds does not grow"))
    }

    /// Makes a grant true: `actual` is spent, and the hold is gone. Unconditional: it may go beyond the limit, it
    /// corrects a forfeit, and it counts in the window in which the grant was made. Settling twice is settling once:
    /// for an hour at least, as a forfeit may be corrected for a day at least; a hold that the store does not know is
    /// charged. A pot that was held and is left out of the reservation pays nothing.
    ///
    /// Gives the [thresholds](crate::domain::ledger::THRESHOLDS) that were reached by it, each once a window: nobody who
    /// settles after is told of them again, so that one whose answer is lost on its way is told to nobody. What forfeits reach is told with the next settlement that the pot pays.
    ///
    /// # Errors
    /// When the store cannot be written; the caller settles again.
    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError>;

    /// For how long at least it knows again what it has heard of a call: see [`settle`](Self::settle). What a gateway finds of
    /// its own past at its start, it is told within that time, and not after. An hour and a day unless it says more.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// Says that a session is alive, for the length of its lease.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError>;

    /// How these budgets stand, in the order in which they were asked for.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError>;
}

/// How long a store remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// That a call was settled: settled again within this time, it is settled once.
    pub settled: Duration,
    /// That a hold was forfeited: settled within this time, the forfeit is corrected.
    pub forfeited: Duration,
}

impl Memory {
    /// Of both for so long.
    #[must_use]
    pub fn of(both: Duration) -> Self {
        Memory { settled: both, forfeited: both }
    }
}

impl Default for Memory {
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        Memory { settled: hour, forfeited: hour * 24 }
    }
}

/// What a call asks of its budgets.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Reserve<'a> {
    /// The caller's id for it, which makes asking twice asking once.
    pub id: Uuid,
    /// Who holds it.
    pub session: Session,
    /// All the pots it is paid from; a pot that is named twice is held once, under the tighter of its limits.
    pub budgets: &'a [Budget],
    /// How much.
    pub wish: Wish,
}

impl<'a> Reserve<'a> {
    /// Asks every one of `budgets` for `wish`.
    #[must_use]
    pub fn new(id: Uuid, session: Session, budgets: &'a [Budget], wish: Wish) -> Self {
        Reserve { id, session, budgets, wish }
    }

    /// The answer to it at `now`, given how each of its budgets stands, in their order. The rule is [`Wish::grant`];
    /// what is granted is still to be held in every pot of the reservation.
    ///
    /// # Panics
    /// When there are fewer standings than budgets.
    #[must_use]
    pub fn answer(&self, standings: &[Standing], now: Timestamp) -> Verdict {
        let stand = &standings[..self.budgets.len()];
        match self.wish.grant(stand.iter().map(Standing::room)) {
            Err(lack) => Verdict::Deny(Denial { standing: stand[lack.index].clone(), is_held: lack.is_held }),
            Ok(granted) => {
                let mut pots: Vec<Pinned> = Vec::with_capacity(self.budgets.len());
                for budget in self.budgets {
                    pin(&mut pots, budget, || budget.pot.window.around(now).0);
                }
                let after = |one: &Standing| Standing { held: one.held.saturating_add(granted), ..one.clone() };
                let standings = stand.iter().map(after).collect();
                Verdict::Allow(Grant { reservation: Reservation { id: self.id, granted, pots }, standings })
            }
        }
    }
}

/// Puts a pot among those that are held, once, under the tightest of its limits.
pub(crate) fn pin(pots: &mut Vec<Pinned>, budget: &Budget, window_start: impl FnOnce() -> Timestamp) {
    match pots.iter_mut().find(|pinned| pinned.pot == budget.pot) {
        Some(pinned) => pinned.limit = pinned.limit.min(budget.limit),
        None => {
            let (pot, limit) = (budget.pot.clone(), budget.limit);
            pots.push(Pinned { pot, window_start: window_start(), limit });
        }
    }
}

/// Whether a hold is extended in all of its pots, and in no others: one may be named twice.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn same_pots<P: PartialEq>(held: &[P], asked: &[P]) -> bool {
    held.iter().all(|pot| asked.contains(pot)) && asked.iter().all(|pot| held.contains(pot))
}

/// The denial of an extension, by a pot that stands so with `own` of it held by who asks.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn denied_more(mut standing: Standing, own: Money, is_held: bool) -> Verdict {
    standing.held = standing.held.saturating_sub(own);
    Verdict::Deny(Denial { standing, is_held })
}

/// There is nothing that could be extended.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn no_live_hold() -> StoreError {
    StoreError::broken("there is no live hold of this id")
}

/// What is there is held in other pots.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn other_pots() -> StoreError {
    StoreError::broken("the hold of this id is of other pots")
}

/// A store's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Held.
    Allow(Grant),
    /// Nothing is held anywhere.
    Deny(Denial),
}

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To be settled.
    pub reservation: Reservation,
    /// How every budget stands after it, in the order in which they were asked for.
    pub standings: Vec<Standing>,
}

/// Why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The pot that has too little.
    pub standing: Standing,
    /// Whether it would have enough if the calls in flight settled for nothing.
    pub is_held: bool,
}

impl Denial {
    /// The pot that would have enough if the calls in flight settled for nothing.
    pub(crate) fn held(&self) -> Option<&Pot> {
        self.is_held.then_some(&self.standing.budget.pot)
    }
}

/// Money that is held, with all that it takes to settle it, so that a store that has lost the hold can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The caller's id.
    pub id: Uuid,
    /// Held in each pot.
    pub granted: Money,
    /// The pots, each once, and the window of each that the grant belongs to.
    pub pots: Vec<Pinned>,
}

impl Reservation {
    /// Adds it to the account of one of its pots: held as long as nothing is said of what was spent. For stores that keep
    /// calls, and add them up.
    pub fn add_to(&self, account: &mut Account, pot: &Pot, spent: Option<Money>) {
        let Some(Pinned { window_start, .. }) = self.pots.iter().find(|pinned| pinned.pot == *pot) else { return };
        match spent {
            None => account.hold(pot.window, *window_start, self.granted),
            Some(spent) => account.settle(pot.window, *window_start, Money::ZERO, spent),
        }
    }

    /// Whether it names a pot, most likely there.
    pub(crate) fn names(&self, index: usize, pot: &Pot) -> bool {
        // Nearly always it is the very same.
        let is_same = |one: &Pot| Arc::ptr_eq(&one.scope.id, &pot.scope.id) && one.scope.kind == pot.scope.kind;
        let is_it = |pinned: &Pinned| {
            pinned.pot.window == pot.window && (is_same(&pinned.pot) || pinned.pot.scope == pot.scope)
        };
        self.pots.get(index).is_some_and(is_it) || self.pots.iter().any(is_it)
    }
}

/// A pot, and the start of one of its windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Whose money.
    #[serde(flatten)]
    pub pot: Pot,
    /// Of which window; of a rolling one, of which slice.
    pub window_start: Timestamp,
    /// The limit that it was asked under.
    pub limit: Money,
}

impl Pinned {
    /// What the pot was not told of yet, now that its account stands so; from now on it was.
    pub fn crossed(&self, account: &mut Account) -> impl Iterator<Item = Crossing> {
        crossed(&self.pot, self.window_start, self.limit, account)
    }
}

/// What [`Pinned::crossed`] gives, of a pot that is held somewhere else.
pub(crate) fn crossed(
    pot: &Pot,
    window_start: Timestamp,
    limit: Money,
    account: &mut Account,
) -> impl Iterator<Item = Crossing> {
    let is_current = account.is_current(pot.window, window_start);
    let (told, spent) = (is_current.then(|| account.cross(limit)), account.spent);
    told.into_iter().flatten().map(move |percent| Crossing::new(pot.clone(), window_start, limit, percent, spent))
}
