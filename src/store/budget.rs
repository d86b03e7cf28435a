//! Holds money before it is spent, and settles it afterwards.
//!
//! Implement [`BudgetStore`] to keep budgets in a database of your own. `examples/custom_store.rs` does so in a hundred
//! lines, by the rules of [`ledger`](crate::domain::ledger), and runs the conformance suite on it.
//!
//! Every store guarantees the following, at every moment and for every pot:
//!
//! - `spent + held <= limit` when it grants, unless the budget is soft.
//! - `held` is the sum of all grants that are not settled.
//! - A reservation adds exactly one final amount to `spent`, however often it is settled.
//!
//! A hold that nobody settles is forfeited when its session falls silent: it is charged in full, since the provider may
//! have been paid. A later settlement corrects the charge.
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
/// The guarantees are about the database, not about one handle on it: what another process holds, settles or forfeits
/// there counts at once. The suite's rules use one handle; `conformance::budgets_shared` uses two.
#[async_trait]
pub trait BudgetStore: Send + Sync + 'static {
    /// Holds the same grant in every pot of the request, or nothing in any, in one atomic step. [`Wish::grant`] is the
    /// rule. If it is asked again with the id of a live hold, it returns the same grant. Before it decides, it forfeits
    /// the holds of silent sessions.
    ///
    /// An id is never asked for again after it was settled. A network or a queue may deliver the request to a store
    /// after its settlement. Such a store must not grant it then: nobody would ever settle it. A denial or an error
    /// will do, since nobody waits for the answer any more.
    ///
    /// # Cancellation
    /// A caller that stops waiting must settle the id for nothing, since the money may be held.
    ///
    /// # Errors
    /// When the store cannot decide.
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError>;

    /// Raises the live hold of this id while its call goes on, for a call that turns out to cost more than it was
    /// granted.
    ///
    /// The budgets must be those of the reservation. The wish is for the new total that the call holds in every pot. It
    /// is decided by the rule of [`Wish::grant`] as if the call held nothing yet. A hold never shrinks, so asking twice
    /// has the effect of asking once. The later settlement covers the whole hold. If the window of a pot has closed
    /// meanwhile, the whole hold moves into the open window: see [`Account::extend`].
    ///
    /// If the extension is denied, the hold stays as it was, and the denial has the standing of the pot without it.
    ///
    /// # Cancellation
    /// The hold may have been raised all the same. The settlement puts that right.
    ///
    /// # Errors
    /// When the store cannot decide, when there is no such hold, and when the hold is in other pots. The default
    /// implementation [always fails](StoreError::unsupported): in such a store, the hold of a call never grows.
    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        let _ = (ask, at);
        Err(StoreError::unsupported("it does not implement `extend`"))
    }

    /// Settles a grant: `actual` is spent, and the hold is gone.
    ///
    /// A settlement is unconditional. It may exceed the limit, it corrects a forfeit, and it counts in the window in
    /// which the grant was made. A hold that the store does not know is charged. A pot that was held but is left out of
    /// the reservation pays nothing. Settling twice has the effect of settling once, for at least an hour; a forfeit
    /// can be corrected for at least a day.
    ///
    /// Returns the [thresholds](crate::domain::ledger::THRESHOLDS) that the settlement reached. Each is returned once
    /// per window: if the answer with it is lost, nobody is told. A threshold that a forfeit reached is returned with
    /// the next settlement that the pot pays.
    ///
    /// # Errors
    /// When the store cannot be written. The caller settles again.
    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError>;

    /// How long the store is certain to remember a call: see [`settle`](Self::settle). At startup, a gateway settles
    /// calls that it finds in its own past only within this time. An hour and a day unless overridden.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// Renews the lease of a session.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError>;

    /// Returns the standing of these budgets, in the order of the request.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError>;
}

/// How long a store remembers settled and forfeited holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// How long it remembers that a call was settled. Settling it again within this time has no effect.
    pub settled: Duration,
    /// How long it remembers that a hold was forfeited. A settlement within this time corrects the forfeit.
    pub forfeited: Duration,
}

impl Memory {
    /// The same time for both.
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
    /// The caller's id for the reservation. Asking twice with one id has the effect of asking once.
    pub id: Uuid,
    /// The session that holds the money.
    pub session: Session,
    /// All the pots that the call is paid from. A pot that is named twice is held once, under the tighter of its
    /// limits.
    pub budgets: &'a [Budget],
    /// How much the call asks for.
    pub wish: Wish,
}

impl<'a> Reserve<'a> {
    /// Asks each of `budgets` for `wish`.
    #[must_use]
    pub fn new(id: Uuid, session: Session, budgets: &'a [Budget], wish: Wish) -> Self {
        Reserve { id, session, budgets, wish }
    }

    /// The answer to this request at `now`, given the standings of its budgets in their order. [`Wish::grant`] is the
    /// rule. The caller still has to hold the grant in every pot of the reservation.
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

/// Adds a pot to those that are held, once, under the tightest of its limits.
pub(crate) fn pin(pots: &mut Vec<Pinned>, budget: &Budget, window_start: impl FnOnce() -> Timestamp) {
    match pots.iter_mut().find(|pinned| pinned.pot == budget.pot) {
        Some(pinned) => pinned.limit = pinned.limit.min(budget.limit),
        None => {
            let (pot, limit) = (budget.pot.clone(), budget.limit);
            pots.push(Pinned { pot, window_start: window_start(), limit });
        }
    }
}

/// Whether an extension names exactly the pots of the hold; a pot may be named twice.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn same_pots<P: PartialEq>(held: &[P], asked: &[P]) -> bool {
    held.iter().all(|pot| asked.contains(pot)) && asked.iter().all(|pot| held.contains(pot))
}

/// The denial of an extension. `own` is the part of the pot's `held` that the call itself holds.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn denied_more(mut standing: Standing, own: Money, is_held: bool) -> Verdict {
    standing.held = standing.held.saturating_sub(own);
    Verdict::Deny(Denial { standing, is_held })
}

/// There is no live hold to extend.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn no_live_hold() -> StoreError {
    StoreError::broken("there is no live hold with this id")
}

/// The hold is in other pots.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn other_pots() -> StoreError {
    StoreError::broken("the hold with this id covers other pots")
}

/// A store's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The grant is held.
    Allow(Grant),
    /// Nothing is held anywhere.
    Deny(Denial),
}

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The reservation, to be settled.
    pub reservation: Reservation,
    /// The standing of every budget after the grant, in the order of the request.
    pub standings: Vec<Standing>,
}

/// Why nothing is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The pot that has too little.
    pub standing: Standing,
    /// Whether the pot would have enough if all calls in flight settled for nothing.
    pub is_held: bool,
}

impl Denial {
    /// The pot, if it would have enough once the calls in flight settled for nothing.
    pub(crate) fn held(&self) -> Option<&Pot> {
        self.is_held.then_some(&self.standing.budget.pot)
    }
}

/// Money that is held, with all that is needed to settle it, even by a store that has lost the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The caller's id.
    pub id: Uuid,
    /// The amount held in each pot.
    pub granted: Money,
    /// The pots, each once, with the window of each that the grant belongs to.
    pub pots: Vec<Pinned>,
}

impl Reservation {
    /// Adds the reservation to the account of one of its pots: as held while `spent` is `None`, otherwise as settled.
    /// For stores that keep calls and add them up.
    pub fn add_to(&self, account: &mut Account, pot: &Pot, spent: Option<Money>) {
        let Some(Pinned { window_start, .. }) = self.pots.iter().find(|pinned| pinned.pot == *pot) else { return };
        match spent {
            None => account.hold(pot.window, *window_start, self.granted),
            Some(spent) => account.settle(pot.window, *window_start, Money::ZERO, spent),
        }
    }

    /// Whether the reservation names this pot, most likely at `index`.
    pub(crate) fn names(&self, index: usize, pot: &Pot) -> bool {
        // Nearly always it is the very same `Arc`.
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
    /// The pot.
    #[serde(flatten)]
    pub pot: Pot,
    /// The start of the window; for a rolling window, of the slice.
    pub window_start: Timestamp,
    /// The limit under which the pot was asked.
    pub limit: Money,
}

impl Pinned {
    /// The thresholds that the account has newly reached; they are marked as told.
    pub fn crossed(&self, account: &mut Account) -> impl Iterator<Item = Crossing> {
        crossed(&self.pot, self.window_start, self.limit, account)
    }
}

/// Implements [`Pinned::crossed`] for a pot that is stored elsewhere.
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
