use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use super::refusal::used_up;
use crate::call::{Call, Watch, unavailable};
use crate::dialect::meter::Reading;
use crate::domain::budget::Budget;
use crate::domain::estimate::ceiling;
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::usage::Usage;
use crate::store::budget::{BudgetStore, Reserve, Verdict};
use crate::store::{At, Chain, Session, in_time};

/// The smallest useful extension of a hold, in output tokens.
const AHEAD: u64 = 128;

/// Keeps a stream within its hold when the hold was a guess.
///
/// When the stream may have cost nine tenths of the hold, the guard asks the store for all that the stream may still
/// cost. If there is not enough, the stream goes on until it has cost as much as is held. It ends there unless more can
/// be held by then.
pub(super) struct Guard<B: ?Sized> {
    store: Arc<B>,
    session: Session,
    budgets: Vec<Budget>,
    share: u32,
    /// The guessed input tokens, by model.
    guess: Vec<(Arc<str>, u64)>,
    contact: Option<Arc<str>>,
    state: Mutex<State>,
}

struct State {
    held: Money,
    /// What the call has cost so far.
    cost: Money,
    is_asking: bool,
    /// The store cannot extend holds, so the grant stays a guess.
    is_off: bool,
    /// The store had less than the stream may still cost.
    is_short: bool,
    over: Option<Rejection>,
}

impl<B: BudgetStore + ?Sized> Guard<B> {
    /// Guards a call that was granted `held` of these budgets on the basis of `guess`.
    pub(super) fn new(
        store: Arc<B>,
        session: Session,
        (budgets, held): (Vec<Budget>, Money),
        share: u32,
        guess: Vec<(Arc<str>, u64)>,
        contact: Option<Arc<str>>,
    ) -> Self {
        let state = State { held, cost: Money::ZERO, is_asking: false, is_off: false, is_short: false, over: None };
        Guard { store, session, budgets, share, guess, contact, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cost of an answer with this many output tokens, and the input that the answer stated, or else the guessed
    /// input.
    fn cost(&self, call: &Call, reading: &Reading, output: u64) -> Option<Money> {
        let card = call.card()?;
        if let Some(usage) = reading.usage.filter(|usage| usage.total_input() > 0) {
            return call.cost(&Usage { output, ..usage });
        }
        let (_, input) = self.guess.iter().find(|(model, _)| *model == card.name)?;
        ceiling(call.head()?.inputs(), card, *input, output).ok()
    }

    /// What to ask the store for, if it is time to ask.
    fn wish(&self, call: &Call, reading: &Reading, took: Duration) -> Option<Wish> {
        let card = call.card()?;
        let ended = call.charged_so_far();
        let all = |cost: Money| cost.saturating_add(ended);
        let came = reading.events.max(reading.usage.map_or(0, |usage| usage.output));
        let most = call.max_tokens().unwrap_or(card.max_output);
        let most = most.saturating_mul(call.head()?.choices().max(1)).max(came);
        let cost = all(self.cost(call, reading, came)?);
        // Hidden thinking is billed but not visible in the stream.
        let is_stated = reading.usage.is_some_and(|usage| usage.total_input() > 0);
        let can_have_cost = call.at_most(reading, took).filter(|_| is_stated).map_or(cost, all);
        let min = all(self.cost(call, reading, came.saturating_add(AHEAD).min(most))?);
        let worst = all(self.cost(call, reading, most)?);

        let mut state = self.state();
        state.cost = cost;
        let is_time = if state.is_short { cost >= state.held } else { cost.max(can_have_cost) >= nearly(state.held) };
        if state.is_asking || state.is_off || !is_time || worst <= state.held {
            return None;
        }
        state.is_asking = true;
        Some(Wish { min: min.max(state.held), want: worst, share: self.share })
    }

    async fn ask(&self, call: &Call, wish: Wish) {
        let ask = Reserve::new(call.id(), self.session, &self.budgets, wish);
        let answer = in_time((*self.store).extend(&ask, At::Store)).await;
        let mut state = self.state();
        let why = match answer {
            Ok(Verdict::Allow(grant)) => {
                let held = grant.reservation.granted;
                (state.held, state.is_short) = (held, held < wish.want);
                drop(state);
                call.raise_granted(held);
                return;
            }
            Ok(Verdict::Deny(denial)) => used_up(&denial, state.cost, self.contact.as_deref()),
            Err(error) if error.is_unsupported() => {
                state.is_off = true;
                tracing::warn!(call = %call.id(), "a stream may cost more than is held for it, and its store does not support `extend`");
                return;
            }
            Err(error) => {
                tracing::warn!(call = %call.id(), error = %Chain(&error), "no more could be reserved for a stream that may cost more than is held for it");
                match error.is_unavailable() {
                    true => unavailable(&error),
                    false => Rejection::new(
                        RejectionKind::BudgetSpent,
                        "this answer was ended because all the money held for it is used up, and no more could be reserved",
                    ),
                }
            }
        };
        state.is_short = true;
        if state.cost >= state.held {
            state.over = Some(why);
        }
    }
}

/// Nine tenths of the hold.
fn nearly(held: Money) -> Money {
    held.saturating_sub(Money::from_nanos(held.nanos() / 10))
}

/// A question to the store in progress. Dropping it ends the question.
struct Asking<B: ?Sized>(Arc<Guard<B>>);

impl<B: ?Sized> Drop for Asking<B> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_asking = false;
    }
}

impl<B: BudgetStore + ?Sized> Watch for Guard<B> {
    fn look(self: Arc<Self>, call: &Call, reading: &Reading, took: Duration) {
        let Some(wish) = self.wish(call, reading, took) else { return };
        let (asking, of) = (Asking(self), call.clone());
        let mut asked = Box::pin(async move { asking.0.ask(&of, wish).await });
        // A store that answers without waiting, such as the one in memory, is asked inline.
        let is_answered =
            Handle::try_current().is_ok() && asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !is_answered {
            call.settlements().spawn(asked);
        }
    }

    fn over(&self) -> Option<Rejection> {
        self.state().over.clone()
    }
}
