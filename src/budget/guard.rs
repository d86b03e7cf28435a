use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use super::refusal::used_up;
use crate::call::{Call, Said, Watch, unavailable};
use crate::dialect::meter::Reading;
use crate::domain::budget::Budget;
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::budget::{BudgetStore, Reserve, Verdict};
use crate::store::{At, Chain, Session, StoreError};

/// How long a store may take to answer; the stream goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps a stream within what is held for it, where that was a guess.
///
/// When what it would be charged if it ended here comes to nine tenths of what is held, as much more is asked for as the
/// rest of it can cost. Where there is no more, it goes on until all is used up, and ends there.
pub(super) struct Guard<B: ?Sized> {
    store: Arc<B>,
    session: Session,
    budgets: Vec<Budget>,
    share: u32,
    /// The input tokens that were guessed, by the model.
    guess: Vec<(Arc<str>, u64)>,
    contact: Option<Arc<str>>,
    state: Mutex<State>,
}

struct State {
    said: Said,
    held: Money,
    /// What the stream would be charged if it ended here.
    cost: Money,
    /// What that must come to before the store is asked.
    from: Money,
    is_asking: bool,
    over: Option<Rejection>,
}

impl<B: BudgetStore + ?Sized> Guard<B> {
    /// Of a call that was granted so much of these, by such a guess.
    pub(super) fn new(
        store: Arc<B>,
        session: Session,
        (budgets, granted): (Vec<Budget>, Money),
        share: u32,
        guess: Vec<(Arc<str>, u64)>,
        contact: Option<Arc<str>>,
    ) -> Self {
        let (said, from) = (Said::default(), nearly(granted));
        let state = State { said, held: granted, cost: Money::ZERO, from, is_asking: false, over: None };
        Guard { store, session, budgets, share, guess, contact, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_most(&self, call: &Call, reading: &Reading, took: Duration) -> Option<Money> {
        call.at_most_of(reading, took, |card| {
            self.guess.iter().find(|(model, _)| *model == card.name).map(|(_, tokens)| *tokens)
        })
    }

    /// What to ask the store for, if it is time to.
    fn wish(&self, call: &Call, reading: &Reading, took: Duration) -> Option<Wish> {
        let cost = self.at_most(call, reading, took)?;
        let mut state = self.state();
        state.cost = cost;
        if cost < state.from || state.is_asking {
            return None;
        }
        let want = self.at_most(call, reading, Duration::MAX)?.saturating_sub(state.held);
        if want <= Money::ZERO {
            return None;
        }
        state.is_asking = true;
        // Any of it lets the stream go on for a while.
        let min = cost.saturating_sub(state.held).max(Money::from_nanos(1)).min(want);
        Some(Wish { min, want, share: self.share })
    }

    async fn ask(&self, call: &Call, wish: Wish) {
        let ask = Reserve::new(call.id(), self.session, &self.budgets, wish);
        let answer = tokio::time::timeout(PATIENCE, (*self.store).extend(&ask, At::Store)).await;
        let answer = answer.unwrap_or_else(|late| Err(StoreError::unavailable(late)));
        let mut state = self.state();
        state.is_asking = false;
        let why = match answer {
            Ok(Verdict::Allow(grant)) => {
                let held = grant.reservation.granted;
                (state.held, state.from) = (held, nearly(held));
                drop(state);
                call.raise_granted(held);
                return;
            }
            Ok(Verdict::Deny(denial)) => used_up(&denial, state.held, state.cost, self.contact.as_deref()),
            Err(error) => {
                tracing::warn!(call = %call.id(), error = %Chain(&error), "a stream that comes to cost more than was held for it was granted no more");
                match error.is_unavailable() {
                    true => unavailable(&error),
                    false => Rejection::new(RejectionKind::BudgetSpent, "what was held for this answer is used up"),
                }
            }
        };
        // It is asked once more when that is so.
        if state.cost < state.held {
            state.from = state.held;
        } else {
            state.over = Some(why);
        }
    }
}

/// Nine tenths.
fn nearly(held: Money) -> Money {
    held.saturating_sub(Money::from_nanos(held.nanos() / 10))
}

impl<B: BudgetStore + ?Sized> Watch for Guard<B> {
    fn look(self: Arc<Self>, call: &Call, reading: &Reading, took: Duration) -> Option<Rejection> {
        {
            let mut state = self.state();
            if state.over.is_some() || !state.said.is_news(reading) {
                return state.over.clone();
            }
        }
        let wish = self.wish(call, reading, took)?;
        let (guard, of) = (self.clone(), call.clone());
        let mut asked = Box::pin(async move { guard.ask(&of, wish).await });
        // A store that needs no waiting, as in memory, answers here and now.
        if asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            call.settlements().spawn(asked);
        }
        self.state().over.clone()
    }
}
