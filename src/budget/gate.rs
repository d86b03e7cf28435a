use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::bound::Bound;
use super::layer::OverBudget;
use super::queue::Queues;
use super::refusal::refusal;
use super::standing::{allowed, fullest, spent};
use crate::call::{Alive, Asked, Call, Fact, Held, has_used, unavailable};
use crate::dialect::Line;
use crate::domain::budget::Budget;
use crate::domain::dialect::{Dialect, Operation};
use crate::domain::ledger::{Account, Wish};
use crate::domain::money::Money;
use crate::domain::outcome::Decision;
use crate::domain::rejection::Rejection;
use crate::gate::Gate;
use crate::store::budget::{BudgetStore, Crossing, Grant, Reservation, Reserve, Standing, Verdict};
use crate::store::{At, Chain, StoreError};

/// How long a gateway may be silent before what it holds is forfeited.
const LEASE: Duration = Duration::from_secs(300);

const REMAINING: HeaderName = HeaderName::from_static("x-tollgate-budget-remaining-usd");
const CLAMPED: HeaderName = HeaderName::from_static("x-tollgate-clamped");

/// The policy of a [`BudgetLayer`](super::BudgetLayer).
pub struct BudgetGate<B: ?Sized> {
    store: Arc<B>,
    alive: Arc<Alive>,
    /// What every caller in its scope pays from too.
    everyone: Arc<[Budget]>,
    /// `None` for what suits the place that the gate is put in.
    over: Option<OverBudget>,
    /// Whom a client may ask for more.
    contact: Option<Arc<str>>,
    /// Where calls wait for what others hold, if they may.
    queues: Option<Arc<Queues>>,
    /// Who is told that a part of a budget is spent, besides the log.
    on_threshold: Option<OnThreshold>,
}

/// Hears of each threshold of each pot once a window.
pub(super) type OnThreshold = Arc<dyn Fn(&Crossing) + Send + Sync>;

impl<B: BudgetStore> BudgetGate<B> {
    pub(crate) fn new(store: B) -> Self {
        BudgetGate {
            store: Arc::new(store),
            alive: Arc::new(Alive::new(LEASE)),
            everyone: Arc::default(),
            over: None,
            contact: None,
            queues: None,
            on_threshold: None,
        }
    }

    pub(super) fn for_everyone(mut self, budget: Budget) -> Self {
        self.everyone = self.everyone.iter().cloned().chain([budget]).collect();
        self
    }

    pub(super) fn on_threshold(mut self, tell: OnThreshold) -> Self {
        self.on_threshold = Some(tell);
        self
    }

    pub(crate) fn wait(mut self, most: Duration) -> Self {
        self.queues = (!most.is_zero()).then(|| Arc::new(Queues::new(most)));
        self
    }

    pub(crate) fn contact(mut self, contact: Arc<str>) -> Self {
        self.contact = Some(contact);
        self
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
        let BudgetGate { store, alive, everyone, over, contact, queues, on_threshold } = self;
        BudgetGate { store, alive, everyone, over, contact, queues, on_threshold }
    }
}

impl<B: BudgetStore + ?Sized> BudgetGate<B> {
    pub(crate) fn store(&self) -> Arc<B> {
        self.store.clone()
    }

    pub(crate) fn everyone(&self) -> Arc<[Budget]> {
        self.everyone.clone()
    }

    /// What [`Gate::admit`] does, without its box.
    pub(crate) async fn pass(&self, headers: &HeaderMap, call: &Call) -> Result<(), Rejection> {
        if !call.endpoint().has_head() {
            call.pass_unplaced("BudgetLayer");
            return Ok(());
        }
        let principal = call.require_principal()?;
        call.check_model()?;
        if call.endpoint().operation != Operation::Generate {
            return Ok(());
        }
        let budgets = call.counted(principal, &principal.budgets, &self.everyone)?;
        if budgets.is_empty() {
            return Ok(());
        }
        let verdict = self.reserve(headers, call, &budgets).await;
        call.note(match &verdict {
            Ok(()) => Decision::allow("budget", "every budget pays for it"),
            Err(rejection) => Decision::refuse("budget", rejection.shared_message()),
        });
        verdict
    }

    async fn reserve(&self, headers: &HeaderMap, call: &Call, budgets: &[Budget]) -> Result<(), Rejection> {
        if budgets.iter().all(|budget| budget.soft) {
            self.count(headers, call, budgets).await;
            return Ok(());
        }
        let bound = Bound::of(call, call.require_head()?, headers)?;
        let wish = bound.wish(self.over.unwrap_or_default())?;
        let ask = Reserve::new(call.id(), self.alive.session(), budgets, wish);
        let answer = match &self.queues {
            None => self.ask(call, &ask).await,
            Some(queues) => self.ask_in_turn(call, &ask, queues).await,
        };
        match answer {
            Ok((Verdict::Allow(grant), ended)) => {
                let cap = bound.cap(grant.reservation.granted, wish);
                granted(call, grant, cap.as_ref().ok().copied().flatten(), ended);
                if let Some(tokens) = cap? {
                    call.cap_max_tokens(tokens);
                    call.set_answer_header(CLAMPED, HeaderValue::from(tokens));
                }
                Ok(())
            }
            Ok((Verdict::Deny(denial), _)) => {
                show(call, REMAINING, denial.standing.left().max(Money::ZERO));
                if call.dialect() == Dialect::Anthropic && !denial.is_held {
                    call.set_answer_headers(spent(&denial.standing));
                }
                Err(refusal(&denial, wish.min, call.now(), self.contact.as_deref()))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Where every budget is soft nothing refuses: not a cost without a bound, and not a store that cannot answer, which
    /// is told of what was spent all the same.
    async fn count(&self, headers: &HeaderMap, call: &Call, budgets: &[Budget]) {
        let bound = call.require_head().and_then(|head| Bound::of(call, head, headers));
        let want = bound.and_then(|bound| bound.wish(OverBudget::Reject)).map_or(Money::ZERO, |wish| wish.want);
        let ask = Reserve::new(call.id(), self.alive.session(), budgets, Wish { min: Money::ZERO, want, share: 1 });
        let asked = Asked::new(call, self.nothing(call));
        let verdict = (*self.store).reserve(&ask, At::Store).await.unwrap_or_else(|error| {
            tracing::warn!(call = %call.id(), error = %Chain(&error), "let through: all its budgets are soft, and their store cannot answer");
            let unknown = budgets.iter().map(|budget| Standing::new(budget.clone(), &Account::default(), None));
            ask.answer(&unknown.collect::<Vec<_>>(), call.now())
        });
        if let Verdict::Allow(grant) = verdict {
            granted(call, grant, None, asked.answered());
        }
    }

    async fn ask(&self, call: &Call, ask: &Reserve<'_>) -> Result<Answer<B>, StoreError> {
        let asked = Asked::new(call, self.nothing(call));
        // Past the pointer's own implementation, which would put the future in a box of its own.
        match (*self.store).reserve(ask, At::Store).await {
            Ok(verdict) => Ok((verdict, asked.answered())),
            Err(error) => {
                if !error.may_have_applied() {
                    drop(asked.answered());
                }
                Err(error)
            }
        }
    }

    /// Behind those who wait already, and then for as long as what is missing is only held.
    async fn ask_in_turn(&self, call: &Call, ask: &Reserve<'_>, queues: &Queues) -> Result<Answer<B>, StoreError> {
        let pot = match queues.ahead(ask.budgets) {
            Some(pot) => pot.clone(),
            None => match self.ask(call, ask).await {
                Ok((Verdict::Deny(denial), _)) if denial.is_held => denial.standing.budget.pot,
                answer => return answer,
            },
        };
        let Some(mut turn) = queues.turn(&pot).await else { return self.ask(call, ask).await };
        loop {
            turn.begin();
            match self.ask(call, ask).await {
                Ok((Verdict::Deny(denial), _)) if denial.is_held && turn.has_news().await => {}
                answer => return answer,
            }
        }
    }

    /// Of whatever is held under the call's id, and with the session kept alive until the store knows.
    fn nothing(&self, call: &Call) -> Ended<B> {
        let (store, session) = (self.store.clone(), self.alive.session());
        let held = self.alive.hold(call.settlements(), move || {
            let store = store.clone();
            async move { (*store).heartbeat(session, At::Store).await }
        });
        let reservation = Reservation { id: call.id(), granted: Money::ZERO, pots: Vec::new() };
        let (queues, on_threshold) = (self.queues.clone(), self.on_threshold.clone());
        let (store, actual) = (self.store.clone(), Money::ZERO);
        Ended { store, reservation, actual, queues, on_threshold, _held: held }
    }
}

/// From here on the call's close settles, whatever becomes of it.
fn granted<B: BudgetStore + ?Sized>(call: &Call, grant: Grant, clamped: Option<u64>, ended: Option<Ended<B>>) {
    let Grant { mut reservation, standings } = grant;
    let (granted, settlements) = (reservation.granted, call.settlements().clone());
    call.on_close(move |outcome| {
        let actual = outcome.charged.unwrap_or(granted);
        if let Some(ended) = ended {
            reservation.pots.retain(|pinned| has_used(outcome, &pinned.pot.scope));
            settlements.settle(outcome.id, Ended { reservation, actual, ..ended });
        }
    });
    call.set_granted(granted, clamped);
    // What a soft one has left is of interest where nothing else is.
    if let Some(tightest) = standings.iter().min_by_key(|standing| (standing.budget.soft, standing.left())) {
        show(call, REMAINING, tightest.left().max(Money::ZERO));
    }
    if let (Dialect::Anthropic, Some(standing)) = (call.dialect(), fullest(&standings)) {
        call.set_answer_headers(allowed(standing));
    }
}

#[async_trait]
impl<B: BudgetStore> Gate for BudgetGate<B> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(&parts.headers, call).await
    }
}

/// What has come of a call that money was held for.
struct Ended<B: ?Sized> {
    store: Arc<B>,
    reservation: Reservation,
    actual: Money,
    queues: Option<Arc<Queues>>,
    on_threshold: Option<OnThreshold>,
    _held: Held,
}

/// What a store says, and who tells it how it ended.
type Answer<B> = (Verdict, Option<Ended<B>>);

impl<B: BudgetStore + ?Sized> Fact for Ended<B> {
    const WHAT: &'static str = "a budget";

    async fn tell(&self) -> Result<(), StoreError> {
        let news = (*self.store).settle(&self.reservation, self.actual, At::Store).await?;
        self.queues.iter().for_each(|queues| queues.settled());
        news.iter().for_each(|crossing| self.announce(crossing));
        Ok(())
    }
}

impl<B: ?Sized> Ended<B> {
    fn announce(&self, crossing: &Crossing) {
        let Crossing { pot, limit, percent, spent, .. } = crossing;
        tracing::warn!(percent, "${spent} of ${limit} is spent of the {} budget of {}", pot.window, pot.scope);
        if let Some(tell) = &self.on_threshold {
            tell(crossing);
        }
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
        BudgetGate {
            store: self.store.clone(),
            alive: self.alive.clone(),
            everyone: self.everyone.clone(),
            over: self.over,
            contact: self.contact.clone(),
            queues: self.queues.clone(),
            on_threshold: self.on_threshold.clone(),
        }
    }
}

impl<B: ?Sized> fmt::Debug for BudgetGate<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetGate").field("over", &self.over).finish_non_exhaustive()
    }
}
