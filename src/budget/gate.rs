use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::ended::{Ended, warn_of_overrun};
use super::exhausted::{Exhausted, OnExhausted};
use super::flights::Flights;
use super::guard::Guard;
use super::layer::{Estimator, OverBudget};
use super::observed::{Lesson, Observations};
use super::queue::Queues;
use super::refusal::{refusal, unpaid};
use super::soft::UNANSWERED;
use super::standing::{allowed, fullest, remaining, spent, unreadable};
use super::wanted::{Estimate, Wanted};
use crate::call::{Alive, Asked, Call, Fact, Holds, has_used};
use crate::domain::budget::Budget;
use crate::domain::dialect::{Dialect, Operation};
use crate::domain::money::Money;
use crate::domain::outcome::Decision;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::gate::Gate;
use crate::store::budget::{BudgetStore, Crossing, Denial, Grant, Pinned, Reservation, Reserve, Verdict};
use crate::store::{At, Chain, StoreError, in_time};

/// How long a gateway may be silent before its holds are forfeited.
const LEASE: Duration = Duration::from_secs(300);
/// From this percentage on, the budget counts as spent; below it, the call was too large.
const NEARLY: u64 = 95;
const CLAMPED: HeaderName = HeaderName::from_static("x-tollgate-clamped");

/// The policy of a [`BudgetLayer`](super::BudgetLayer).
pub struct BudgetGate<B: ?Sized> {
    pub(super) store: Arc<B>,
    alive: Arc<Alive>,
    /// Budgets that every caller in their scope pays from, besides the caller's own.
    everyone: Arc<[Budget]>,
    /// `None` for the default of the place where the gate is used.
    over: Option<OverBudget>,
    estimator: Estimator,
    observations: Arc<Observations>,
    flights: Arc<Flights>,
    /// Whom a client may ask for a larger budget.
    contact: Option<Arc<str>>,
    /// Refuse callers that have no budget.
    required: bool,
    /// Show every caller the amounts of pots that all callers share.
    pub(crate) shows_shared: bool,
    /// The queues in which calls wait for money held by others, if waiting is enabled.
    queues: Option<Arc<Queues>>,
    /// Callbacks for thresholds, besides the log.
    on_threshold: Arc<[OnThreshold]>,
    /// Reports budgets that refuse.
    exhausted: Arc<Exhausted>,
}

/// Called at most once per pot, threshold and window.
pub(super) type OnThreshold = Arc<dyn Fn(&Crossing) + Send + Sync>;

impl<B: BudgetStore> BudgetGate<B> {
    pub(crate) fn new(store: B) -> Self {
        BudgetGate {
            store: Arc::new(store),
            alive: Arc::new(Alive::new(LEASE)),
            everyone: Arc::default(),
            over: None,
            estimator: Estimator::default(),
            observations: Arc::default(),
            flights: Arc::default(),
            contact: None,
            required: false,
            shows_shared: false,
            queues: None,
            on_threshold: Arc::default(),
            exhausted: Arc::default(),
        }
    }

    pub(super) fn estimator(mut self, estimator: Estimator) -> Self {
        self.estimator = estimator;
        self
    }

    pub(super) fn for_everyone(mut self, budget: Budget) -> Self {
        self.everyone = self.everyone.iter().cloned().chain([budget]).collect();
        self
    }

    pub(super) fn on_threshold(mut self, tell: OnThreshold) -> Self {
        self.on_threshold = self.on_threshold.iter().cloned().chain([tell]).collect();
        self
    }

    pub(super) fn on_exhausted(mut self, tell: OnExhausted) -> Self {
        self.exhausted = Arc::new(self.exhausted.and(tell));
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

    pub(super) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) fn show_shared(mut self) -> Self {
        self.shows_shared = true;
        self
    }

    pub(crate) fn over_budget(mut self, over: OverBudget) -> Self {
        self.over = Some(over);
        self
    }

    /// The same gate with the type of its store erased.
    pub(crate) fn erased(self) -> BudgetGate<dyn BudgetStore> {
        self.seen_as::<dyn BudgetStore>(|store| store)
    }

    /// The same gate, with its store seen as another type.
    pub(crate) fn seen_as<T: ?Sized>(self, see: impl FnOnce(Arc<B>) -> Arc<T>) -> BudgetGate<T> {
        self.over(see(self.store.clone()))
    }
}

impl<B: BudgetStore + ?Sized> BudgetGate<B> {
    /// Sets `over` unless it was set before.
    pub(crate) fn unless_chosen(mut self, over: OverBudget) -> Self {
        self.over.get_or_insert(over);
        self
    }

    pub(crate) fn store(&self) -> Arc<B> {
        self.store.clone()
    }

    pub(crate) fn everyone(&self) -> Arc<[Budget]> {
        self.everyone.clone()
    }

    /// Like [`Gate::admit`], without a box.
    pub(crate) async fn pass(&self, headers: &HeaderMap, call: &Call) -> Result<(), Rejection> {
        let Some(wanted) = self.wanted(headers, call)? else { return Ok(()) };
        if wanted.is_soft() {
            return self.count(call, &wanted).await;
        }
        let (answer, ended) = match &self.queues {
            None => self.ask(call, &wanted).await,
            Some(queues) => {
                let held = |(answer, _): &Answer<B>| match answer {
                    Ok(Verdict::Deny(denial)) => denial.held().cloned(),
                    _ => None,
                };
                queues.ask(&wanted.budgets, || self.ask(call, &wanted), held).await
            }
        };
        match answer {
            Ok(Verdict::Allow(grant)) => self.granted(call, &wanted, grant, ended),
            Ok(Verdict::Deny(denial)) => Err(self.denied(call, &wanted, &denial)),
            Err(error) => Err(self.unreadable(call, &error)),
        }
    }

    /// Refuses the call because the store cannot say whether its budgets allow it.
    pub(crate) fn unreadable(&self, call: &Call, error: &StoreError) -> Rejection {
        if call.dialect() == Dialect::Anthropic {
            call.set_answer_headers(unreadable());
        }
        let message = "the gateway cannot read the budgets that pay for this request; try again in a moment";
        let refusal = Rejection::new(RejectionKind::BudgetUnreadable, message).retry_after(Duration::from_secs(1));
        note(call, refusal.internal(Chain(error).to_string()))
    }

    /// What the call asks of its budgets, or `None` if no budget pays for it.
    pub(crate) fn wanted<'c>(&self, headers: &HeaderMap, call: &'c Call) -> Result<Option<Wanted<'c>>, Rejection> {
        if !call.endpoint().has_head() {
            call.pass_unplaced("BudgetLayer")?;
            return Ok(None);
        }
        let principal = call.require_principal()?;
        call.check_model()?;
        if call.endpoint().operation != Operation::Generate {
            return Ok(None);
        }
        let budgets = call.counted(principal, &principal.budgets, &self.everyone)?;
        if self.required && budgets.iter().all(|budget| budget.soft) {
            return Err(note(call, unpaid(self.contact.as_deref())));
        }
        if budgets.is_empty() {
            return Ok(None);
        }
        let (observations, by) = (&*self.observations, self.estimator);
        let estimate = Estimate { by, observations, betas: observations.betas(headers) };
        let over = self.over.unwrap_or_default();
        Wanted::of(headers, call, budgets, estimate, over).map(Some).map_err(|rejection| note(call, rejection))
    }

    /// The question as the store gets it.
    pub(crate) fn reserve<'w>(&self, call: &Call, wanted: &'w Wanted<'_>) -> Reserve<'w> {
        Reserve::new(call.id(), self.alive.session(), &wanted.budgets, wanted.wish)
    }

    /// The queues, if calls may wait for money held by others.
    pub(crate) fn queues(&self) -> Option<&Queues> {
        self.queues.as_deref()
    }

    /// Marks a question to the store as in progress.
    pub(crate) fn asked<'c>(&self, call: &'c Call, wanted: &Wanted<'_>) -> Asked<'c, Ended<B>> {
        Asked::new(call, self.nothing(call, wanted))
    }

    /// Lets the call go on within the grant. From here on the close of the call settles it, whatever happens.
    pub(crate) fn granted(
        &self,
        call: &Call,
        wanted: &Wanted<'_>,
        grant: Grant,
        ended: Option<Ended<B>>,
    ) -> Result<(), Rejection> {
        let cap = wanted.cap(&grant.reservation);
        let Grant { reservation, standings } = grant;
        let (granted, settlements) = (reservation.granted, call.settlements().clone());
        let (mut reservation, flights) = (Arc::new(reservation), self.flights.clone());
        flights.begin(call.id(), call.now(), reservation.clone());
        call.set_reservation(|| reservation.clone());
        let lesson = match self.estimator {
            Estimator::Observed => Lesson::of(call, wanted.betas, &self.observations),
            Estimator::Proven | Estimator::Counted | Estimator::Likely => None,
        };
        let is_bounded = !wanted.is_soft() && matches!(wanted.holds(self.estimator), Holds::Bound);
        call.on_close(move |outcome| {
            settlements.check_metered(outcome);
            if let Some(lesson) = lesson {
                lesson.learn(outcome);
            }
            let actual = outcome.charged.or(outcome.granted).unwrap_or(granted);
            if is_bounded {
                warn_of_overrun(outcome, actual);
            }
            flights.end(outcome.id, outcome.opened_at.saturating_add(outcome.took).unwrap_or(outcome.opened_at));
            let Some(ended) = ended else { return };
            let pays = |pinned: &Pinned| has_used(outcome, &pinned.pot.scope);
            let paid: Option<Vec<_>> = ended.trail.as_ref().map(|_| {
                let pots = reservation.pots.iter().enumerate();
                pots.filter(|(_, pinned)| pays(pinned)).map(|(at, _)| at).collect()
            });
            let paid = paid.filter(|paid| paid.len() < reservation.pots.len());
            // Not a copy: nothing else holds the reservation any more.
            Arc::make_mut(&mut reservation).pots.retain(pays);
            let reservation = Arc::unwrap_or_clone(reservation);
            let ended = Ended { reservation, actual, is_nothing: false, ..ended };
            match ended.trail.clone() {
                None => settlements.settle(outcome.id, ended),
                Some(trail) => {
                    let (id, memory, waited_for) = (outcome.id, ended.memory(), settlements.open());
                    trail.settle(outcome, paid, memory, move || {
                        settlements.settle(id, ended);
                        drop(waited_for);
                    });
                }
            }
        });
        if let Some(guess) = wanted.guess(self.estimator) {
            let (store, session, contact) = (self.store.clone(), self.alive.session(), self.contact.clone());
            let paid = (wanted.budgets.to_vec(), granted);
            let guard = Guard::new(store, session, paid, wanted.wish.share, guess, contact);
            call.watch_by(Arc::new(guard));
        }
        call.set_granted(granted, wanted.holds(self.estimator), wanted.is_soft(), cap.as_ref().ok().copied().flatten());
        // The remainder of a soft budget is shown only if there is no other budget.
        let told = standings.iter().filter(|one| self.shows_shared || !one.budget.pot.scope.kind.is_everyones());
        if let Some(tightest) = told.min_by_key(|standing| (standing.budget.soft, standing.left())) {
            call.set_answer_headers(remaining(tightest));
        }
        if let (Dialect::Anthropic, Some(standing)) = (call.dialect(), fullest(&standings)) {
            call.set_success_headers(allowed(standing));
        }
        match cap.map_err(|rejection| note(call, rejection))? {
            Some(tokens) => {
                call.cap_max_tokens(tokens);
                call.set_answer_header(CLAMPED, HeaderValue::from(tokens));
            }
            // The limit that was counted on is written into the request, so that the upstream keeps to it even if the
            // client named none.
            None => wanted.counted().into_iter().for_each(|tokens| call.cap_max_tokens(tokens)),
        }
        call.note(Decision::allow("budget", if standings.is_empty() { UNANSWERED } else { "within every budget" }));
        Ok(())
    }

    /// Refuses the call.
    pub(crate) fn denied(&self, call: &Call, wanted: &Wanted<'_>, denial: &Denial) -> Rejection {
        call.set_answer_headers(remaining(&denial.standing));
        let now = call.now();
        // If the call exceeds the whole limit, no reset helps, and the refusal says nothing about the budget.
        if !denial.is_held && wanted.wish.min <= denial.standing.budget.limit {
            // The client would show the budget as used up, which is wrong if only this call is too large.
            let is_spent = denial.standing.percent_spent() >= NEARLY;
            if call.dialect() == Dialect::Anthropic && is_spent {
                call.set_answer_headers(spent(&denial.standing));
            }
            self.exhausted.see(&denial.standing, call.principal(), is_spent, now);
        }
        let refusal = refusal(denial, wanted.wish.min, now, self.contact.as_deref());
        note(
            call,
            match denial.held() {
                Some(pot) => refusal.retry_after(self.flights.until_back(pot, now)),
                None => refusal,
            },
        )
    }

    async fn ask(&self, call: &Call, wanted: &Wanted<'_>) -> Answer<B> {
        let (ask, asked) = (self.reserve(call, wanted), self.asked(call, wanted));
        // Calls the store behind the pointer; the pointer's own implementation would box the future once more.
        let answer = in_time((*self.store).reserve(&ask, At::Store)).await;
        let ended = asked.heard(&answer);
        (answer, ended)
    }

    /// Settles for nothing whatever is held under the call's id, and keeps the session alive until the store has heard.
    fn nothing(&self, call: &Call, wanted: &Wanted<'_>) -> Ended<B> {
        let (store, session) = (self.store.clone(), self.alive.session());
        let held = self.alive.hold(call.settlements(), move || {
            let store = store.clone();
            async move { (*store).heartbeat(session, At::Store).await }
        });
        let reservation = Reservation { id: call.id(), granted: Money::ZERO, pots: Vec::new() };
        let pots = || wanted.budgets.iter().map(|budget| budget.pot.clone()).collect();
        let (wakes, on_threshold) = (self.queues.clone().map(|queues| (queues, pots())), self.on_threshold.clone());
        let (store, actual, trail) = (self.store.clone(), Money::ZERO, call.trail().cloned());
        let (caller, soft) = (call.principal().cloned(), wanted.soft_limits());
        Ended { store, reservation, actual, is_nothing: true, wakes, on_threshold, caller, soft, trail, _held: held }
    }
}

/// Records the refusal among the decisions about the call.
fn note(call: &Call, rejection: Rejection) -> Rejection {
    call.note(Decision::refuse("budget", rejection.shared_message()));
    rejection
}

#[async_trait]
impl<B: BudgetStore> Gate for BudgetGate<B> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.pass(&parts.headers, call).await?;
        call.intend().await
    }
}

/// The store's verdict, and the settlement that will tell it how the call ended.
type Answer<B> = (Result<Verdict, StoreError>, Option<Ended<B>>);

impl<B: ?Sized> BudgetGate<B> {
    /// The same gate with another store.
    fn over<T: ?Sized>(&self, store: Arc<T>) -> BudgetGate<T> {
        BudgetGate {
            store,
            alive: self.alive.clone(),
            everyone: self.everyone.clone(),
            over: self.over,
            estimator: self.estimator,
            observations: self.observations.clone(),
            flights: self.flights.clone(),
            contact: self.contact.clone(),
            required: self.required,
            shows_shared: self.shows_shared,
            queues: self.queues.clone(),
            on_threshold: self.on_threshold.clone(),
            exhausted: self.exhausted.clone(),
        }
    }
}

impl<B: ?Sized> Clone for BudgetGate<B> {
    fn clone(&self) -> Self {
        self.over(self.store.clone())
    }
}

impl<B: ?Sized> fmt::Debug for BudgetGate<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetGate").field("over", &self.over).finish_non_exhaustive()
    }
}
