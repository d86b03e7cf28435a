use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::bound::Bound;
use super::layer::OverBudget;
use super::refusal::refusal;
use crate::call::{Alive, Call, Fact, Held, unavailable};
use crate::dialect::Line;
use crate::domain::dialect::Operation;
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::outcome::Decision;
use crate::domain::principal::Principal;
use crate::domain::rejection::Rejection;
use crate::gate::Gate;
use crate::store::budget::{BudgetStore, Grant, Reservation, Reserve, Verdict};
use crate::store::{At, Chain, StoreError};

/// How long a gateway may be silent before what it holds is forfeited.
const LEASE: Duration = Duration::from_secs(300);

const REMAINING: HeaderName = HeaderName::from_static("x-tollgate-budget-remaining-usd");
const CLAMPED: HeaderName = HeaderName::from_static("x-tollgate-clamped");

/// The policy of a [`BudgetLayer`](super::BudgetLayer).
pub struct BudgetGate<B: ?Sized> {
    store: Arc<B>,
    alive: Arc<Alive>,
    /// `None` for what suits the place that the gate is put in.
    over: Option<OverBudget>,
}

impl<B: BudgetStore> BudgetGate<B> {
    pub(crate) fn new(store: B) -> Self {
        BudgetGate { store: Arc::new(store), alive: Arc::new(Alive::new(LEASE)), over: None }
    }

    pub(crate) fn over_budget(mut self, over: OverBudget) -> Self {
        self.over = Some(over);
        self
    }

    /// With this choice, unless one was made.
    pub(crate) fn unless_chosen(mut self, over: OverBudget) -> Self {
        self.over.get_or_insert(over);
        self
    }

    /// The same gate, whatever its store.
    pub(crate) fn erased(self) -> BudgetGate<dyn BudgetStore> {
        BudgetGate { store: self.store, alive: self.alive, over: self.over }
    }
}

impl<B: BudgetStore + ?Sized> BudgetGate<B> {
    pub(crate) fn store(&self) -> Arc<B> {
        self.store.clone()
    }

    /// What [`Gate::admit`] does, without its box.
    pub(crate) async fn pass(&self, headers: &HeaderMap, call: &Call) -> Result<(), Rejection> {
        if !call.endpoint().has_head() {
            call.pass_unplaced("BudgetLayer");
            return Ok(());
        }
        let principal = call.require_principal()?;
        call.check_model()?;
        if principal.budgets.is_empty() || call.endpoint().operation != Operation::Generate {
            return Ok(());
        }
        let verdict = self.reserve(headers, call, principal).await;
        call.note(match &verdict {
            Ok(()) => Decision::allow("budget", "every budget pays for it"),
            Err(rejection) => Decision::refuse("budget", rejection.shared_message()),
        });
        verdict
    }

    async fn reserve(&self, headers: &HeaderMap, call: &Call, principal: &Principal) -> Result<(), Rejection> {
        let bound = Bound::of(call, call.require_head()?, headers)?;
        let wish = bound.wish(self.over.unwrap_or_default())?;
        let ask = Reserve::new(call.id(), self.alive.session(), &principal.budgets, wish);
        let unanswered = Unanswered { gate: self, call, held: Some(self.hold(call)) };
        // Past the pointer's own implementation, which would put the future in a box of its own.
        match (*self.store).reserve(&ask, At::Store).await {
            Ok(Verdict::Allow(grant)) => {
                let held = unanswered.answered();
                self.granted(call, &bound, wish, grant, held)
            }
            Ok(Verdict::Deny(denial)) => {
                drop(unanswered.answered());
                show(call, REMAINING, denial.standing.left().max(Money::ZERO));
                Err(refusal(&denial, wish.min, call.now()))
            }
            Err(error) => {
                if !error.may_have_applied() {
                    drop(unanswered.answered());
                }
                Err(unavailable(&error))
            }
        }
    }

    /// From here on the call's close settles, whatever becomes of it.
    fn granted(
        &self,
        call: &Call,
        bound: &Bound<'_>,
        wish: Wish,
        grant: Grant,
        held: Option<Held>,
    ) -> Result<(), Rejection> {
        let (store, settlements) = (self.store.clone(), call.settlements().clone());
        let (granted, left) = (grant.reservation.granted, grant.left.max(Money::ZERO));
        call.on_close(move |outcome| {
            let actual = outcome.charged.unwrap_or(granted);
            settlements.settle(outcome.id, Ended { store, reservation: grant.reservation, actual, _held: held });
        });
        let cap = bound.cap(granted, wish);
        call.set_granted(granted, cap.as_ref().ok().copied().flatten());
        show(call, REMAINING, left);
        if let Some(tokens) = cap? {
            call.cap_max_tokens(tokens);
            call.set_answer_header(CLAMPED, HeaderValue::from(tokens));
        }
        Ok(())
    }

    fn hold(&self, call: &Call) -> Held {
        let (store, session) = (self.store.clone(), self.alive.session());
        self.alive.hold(call.settlements(), move || {
            let store = store.clone();
            async move {
                if let Err(error) = store.heartbeat(session, At::Store).await {
                    tracing::warn!(error = %Chain(&error), "budgets: no sign of life could be given");
                }
            }
        })
    }
}

#[async_trait]
impl<B: BudgetStore> Gate for BudgetGate<B> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(&parts.headers, call).await
    }
}

/// A store that was asked and has not answered: dropped like that, because the client left, it may hold the money all the same.
struct Unanswered<'a, B: BudgetStore + ?Sized> {
    gate: &'a BudgetGate<B>,
    call: &'a Call,
    held: Option<Held>,
}

impl<B: BudgetStore + ?Sized> Unanswered<'_, B> {
    fn answered(mut self) -> Option<Held> {
        self.held.take()
    }
}

impl<B: BudgetStore + ?Sized> Drop for Unanswered<'_, B> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // Whatever is held under this id.
            let (id, store) = (self.call.id(), self.gate.store.clone());
            let reservation = Reservation { id, granted: Money::ZERO, pots: Vec::new() };
            let nothing = Ended { store, reservation, actual: Money::ZERO, _held: Some(held) };
            self.call.settlements().settle(id, nothing);
        }
    }
}

/// A call has ended, and the session is kept alive until the store knows.
struct Ended<B: ?Sized> {
    store: Arc<B>,
    reservation: Reservation,
    actual: Money,
    _held: Option<Held>,
}

impl<B: BudgetStore + ?Sized> Fact for Ended<B> {
    const WHAT: &'static str = "a budget";

    async fn tell(&self) -> Result<(), StoreError> {
        (*self.store).settle(&self.reservation, self.actual, At::Store).await
    }
}

fn show(call: &Call, name: HeaderName, money: Money) {
    let mut line = Line::new();
    let written = write!(line, "{money}").map(|()| line.as_bytes());
    if let Ok(Ok(value)) = written.map(HeaderValue::from_bytes) {
        call.set_answer_header(name, value);
    }
}

impl<B: ?Sized> Clone for BudgetGate<B> {
    fn clone(&self) -> Self {
        BudgetGate { store: self.store.clone(), alive: self.alive.clone(), over: self.over }
    }
}

impl<B: ?Sized> fmt::Debug for BudgetGate<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetGate").field("over", &self.over).finish_non_exhaustive()
    }
}
