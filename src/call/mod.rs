//! The call: one request from first byte in to last byte out, and the one place where it is closed.
//!
//! Every layer of this crate finds the [`Call`] in the request's extensions, and the first of them to see the request
//! opens it; so a single layer works alone, and a stack shares one call. It closes once, when the client's body *and*
//! the last attempt have ended, and hands one [`Outcome`] to everyone who registered.
//!
//! - **Reads:** method and path. **Adds:** the `Call`, and `x-request-id` and `request-id` on the answer.
//! - **Answers** nothing by itself; it renders the [`Rejection`]s of the layers below in the client's dialect.
//! - **Where:** outermost. Reach for [`CallLayer`] itself to set a clock, [`Settlements`] of your own, or an observer.
//!
//! ```
//! use tollgate::call::CallLayer;
//! use tower::ServiceBuilder;
//! # use tower::{ServiceExt, service_fn};
//! # use http::{Request, Response};
//! # use tollgate::Body;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), std::convert::Infallible> {
//!
//! let service = ServiceBuilder::new()
//!     .layer(CallLayer::new().on_close(|outcome| println!("{:?} after {:?}", outcome.end, outcome.took)))
//!     .service(service_fn(|_request: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::from("hi"))) }));
//! # let answer = service.oneshot(Request::new(Body::empty())).await?;
//! # assert!(answer.headers().contains_key("x-request-id"));
//! # Ok(()) }
//! ```

mod alive;
mod asked;
mod attempt;
mod body;
mod closer;
mod cost;
mod cut;
mod discard;
mod doorless;
mod drain;
mod edit;
mod ending;
mod facts;
mod future;
mod hidden;
mod layer;
mod left;
mod live;
mod live_body;
mod manners;
mod nested;
mod scopes;
mod sent;
mod service;
mod settle;
mod standings;
mod state;
mod waiting;
mod watch;
mod written;

pub(crate) use self::alive::{Alive, Held};
pub(crate) use self::asked::Asked;
pub use self::attempt::AttemptGuard;
pub(crate) use self::body::StreamBroken;
pub(crate) use self::discard::{DISCARD, discard, discard_begun};
pub use self::drain::Drain;
pub(crate) use self::ending::Ending;
pub use self::future::CallFuture;
pub(crate) use self::future::is_event_stream;
pub use self::layer::CallLayer;
pub use self::live::LiveCalls;
pub(crate) use self::scopes::{Scoped, has_used};
pub use self::service::CallService;
pub use self::settle::Settlements;
pub(crate) use self::settle::unavailable;
pub(crate) use self::state::Holds;
pub(crate) use self::waiting::{Fact, Kind};
pub(crate) use self::watch::Watch;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use uuid::Uuid;

use self::closer::Closer;
use self::cut::Door;
use self::hidden::Hidden;
use self::state::State;
use crate::body::Body;
use crate::dialect::head::Head;
use crate::domain::attribution::Attribution;
use crate::domain::catalog::Catalog;
use crate::domain::clock::Clock;
use crate::domain::dialect::{Dialect, Endpoint};
use crate::domain::money::Money;
use crate::domain::outcome::{Decision, Outcome};
use crate::domain::principal::Principal;
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;
use crate::store::admission::PresentedKey;
use crate::store::journal::Trail;

/// A cheap handle to one call, in the request's extensions; all its clones share everything but the target, of this attempt.
#[derive(Clone)]
pub struct Call {
    shared: Arc<Shared>,
    target: Option<Arc<Target>>,
    /// Of the attempt, once it has begun.
    slot: Option<nested::Slot>,
    /// What became of the body, where somebody further out has edited it.
    edited: Option<Arc<nested::Edited>>,
}

struct Shared {
    id: Uuid,
    /// As the opener saw it, and as a layer further in made it out.
    endpoint: Endpoint,
    narrowed: OnceLock<Endpoint>,
    /// Why the opener made nothing of it, if somebody further in may take it for one of ours.
    hidden: Option<Hidden>,
    clock: Arc<dyn Clock>,
    opened_at: Timestamp,
    opened: Duration,
    settlements: Settlements,
    catalog: Catalog,
    drain: Option<Drain>,
    door: Option<Door>,
    principal: OnceLock<Arc<Principal>>,
    key: OnceLock<PresentedKey>,
    head: OnceLock<Head>,
    in_memory: AtomicUsize,
    counted_input: OnceLock<u64>,
    client: OnceLock<Attribution>,
    trail: OnceLock<Arc<Trail>>,
    watch: OnceLock<Arc<dyn Watch>>,
    route: OnceLock<Vec<Arc<Target>>>,
    manners: manners::Manners,
    /// Whether anybody wants to know what the call costs before it ends.
    follows_cost: AtomicBool,
    state: Mutex<State>,
}

impl Call {
    /// Opens a call and counts the client's body as its first party. Layers do this; a host does not have to.
    fn open(endpoint: Endpoint, hidden: Option<Hidden>, config: &layer::Config) -> (Self, Closer) {
        let clock = config.clock.clone();
        let opened_at = clock.now();
        let shared = Shared {
            id: id_at(opened_at),
            endpoint,
            narrowed: OnceLock::new(),
            hidden,
            opened_at,
            opened: clock.elapsed(),
            clock,
            settlements: config.settlements.clone(),
            catalog: config.catalog.clone(),
            drain: config.drain.clone(),
            door: config.live.as_ref().map(LiveCalls::door),
            principal: OnceLock::new(),
            key: OnceLock::new(),
            head: OnceLock::new(),
            in_memory: AtomicUsize::new(0),
            counted_input: OnceLock::new(),
            client: OnceLock::new(),
            trail: OnceLock::new(),
            watch: OnceLock::new(),
            route: OnceLock::new(),
            manners: config.manners.clone(),
            follows_cost: AtomicBool::new(false),
            state: Mutex::new(State::new(config.settlements.open())),
        };
        let call = Call { shared: Arc::new(shared), target: None, slot: None, edited: None };
        let closer = Closer::new(call.clone());
        if let Some(live) = &config.live {
            live.enter(&call);
        }
        (call, closer)
    }

    /// The call of a request, if one of our layers has seen it.
    #[must_use]
    pub fn of<B>(request: &http::Request<B>) -> Option<&Call> {
        request.extensions().get()
    }

    /// [`of`](Self::of), for a request that has been taken apart.
    pub(crate) fn of_parts(parts: &http::request::Parts) -> Option<&Call> {
        parts.extensions.get()
    }

    /// The id that the client sees as `x-request-id`: a UUIDv7, so ids sort by time.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// The dialect that the client speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.endpoint().dialect
    }

    /// The dialect, and what is asked in it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.shared.narrowed.get().copied().unwrap_or(self.shared.endpoint)
    }

    /// Takes the word of a layer further in about a path that the opener could not place.
    fn narrow(&self, seen: Endpoint) {
        if seen != self.shared.endpoint {
            let _ = self.shared.narrowed.set(seen);
        }
    }

    /// When the call opened.
    #[must_use]
    pub fn opened_at(&self) -> Timestamp {
        self.shared.opened_at
    }

    /// The time of day, by the clock of the call.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// What models cost, for this call.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Notes what a layer has decided, for whoever reads the [`Outcome`].
    pub fn note(&self, decision: Decision) {
        let mut state = self.state();
        if state.decisions.is_empty() {
            state.decisions.reserve_exact(4);
        }
        state.decisions.push(decision);
    }

    /// The target of the attempt that this request was made for; `None` above the dispatch.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        self.target.as_ref()
    }

    /// The same call, on its way to `target`.
    #[must_use]
    pub fn toward(&self, target: Arc<Target>) -> Self {
        Call { shared: self.shared.clone(), target: Some(target), slot: self.slot, edited: None }
    }

    /// Caps the output tokens of the request that goes upstream. Of several caps, and the client's own, the least counts.
    /// Anthropic refuses a request that is capped to its [thinking budget](Head::thinking_budget) or below: keep it above.
    pub fn cap_max_tokens(&self, tokens: u64) {
        self.state().edits.cap_max_tokens(tokens);
    }

    /// The most output tokens that the request asks for, as it would go upstream now: the client's own limit, and the
    /// caps of the layers.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        let asked = self.head().and_then(Head::max_tokens);
        self.state().edits.max_tokens(asked)
    }

    /// Asks the upstream for the usage chunk of a Chat Completions stream, where its model takes the question, and
    /// withholds it from a client that did not.
    pub fn ask_for_usage(&self) {
        self.state().edits.ask_for_usage();
    }

    /// Whether a usage chunk of this call's stream was our wish and not the client's.
    #[must_use]
    pub fn withholds_usage(&self) -> bool {
        let edits = self.state().edits;
        self.head().is_some_and(|head| edits.asks_for_usage(head, || self.abilities(head)))
    }

    /// Notes what the translation for this attempt lost, in the place of what one before did: for the outcome and the client.
    pub(crate) fn warn(&self, warnings: Option<&str>) {
        self.state().warn(warnings);
    }

    /// Notes what is held of the budgets for this call. The outcome says what they are charged of it. Soft ones pay for whatever
    /// comes of it.
    pub(crate) fn set_granted(&self, granted: Money, holds: Holds, is_soft: bool, clamped: Option<u64>) {
        let mut state = self.state();
        state.is_bounded |= !is_soft;
        (state.granted, state.holds, state.clamped) = (Some(granted), holds, clamped);
    }

    /// More of it than before.
    pub(crate) fn raise_granted(&self, granted: Money) {
        self.state().granted = Some(granted);
    }

    /// Whatever asks a provider for it begins an attempt first.
    pub(crate) fn set_metered(&self) {
        self.state().metered = true;
    }

    /// Whether money is held for this call that pays for no more.
    pub(crate) fn is_bounded(&self) -> bool {
        self.state().is_bounded
    }

    /// Whether money is held for this call.
    pub(crate) fn is_granted(&self) -> bool {
        self.state().granted.is_some()
    }

    /// Leaves a header for the head of the answer, whichever layer gives it. A name set twice keeps the last value.
    pub fn set_answer_header(&self, name: HeaderName, value: HeaderValue) {
        self.set_answer_headers([(name, value)]);
    }

    /// Several at once. The iterator runs under the lock of the call, which it must not ask.
    pub(crate) fn set_answer_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        self.leave_headers(headers, false);
    }

    /// The same, for an answer that is a success.
    pub(crate) fn set_success_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        self.leave_headers(headers, true);
    }

    fn leave_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>, of_success: bool) {
        let mut state = self.state();
        if state.answer_headers.is_empty() {
            // Two of budgets, and seven of how these stand.
            state.answer_headers.reserve_exact(9);
        }
        state.answer_headers.extend(headers.into_iter().map(|(name, value)| (name, value, of_success)));
    }

    /// Runs `hook` when the call closes: synchronously, last registered first, a panic in it contained. Async work
    /// belongs to [`settlements`](Self::settlements). On a call that has closed already it runs at once.
    pub fn on_close(&self, hook: impl FnOnce(&Outcome) + Send + 'static) {
        self.on_close_shared(move |outcome| hook(outcome));
    }

    /// As [`on_close`](Self::on_close), for a hook that keeps the outcome.
    pub(crate) fn on_close_shared(&self, hook: impl FnOnce(&Arc<Outcome>) + Send + 'static) {
        let closed = self.state().register(Box::new(hook));
        if let Some((hook, outcome)) = closed {
            closer::run(hook, &outcome);
        }
    }

    /// Where work that must outlive the call is tracked, and drained at shutdown.
    #[must_use]
    pub fn settlements(&self) -> &Settlements {
        &self.shared.settlements
    }

    /// An answer that carries `rejection` to the door, which renders it.
    pub(crate) fn reject(rejection: Rejection) -> http::Response<Body> {
        let status = crate::dialect::render(&rejection, Dialect::OpenAiChat, "").status;
        doorless::carrying(rejection, status, Body::empty())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed().saturating_sub(self.shared.opened)
    }
}

/// A UUIDv7 of that time, to a fraction of its millisecond (RFC 9562 section 6.2, method 3), so that ids sort by time.
fn id_at(time: Timestamp) -> Uuid {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    let mut id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)).into_bytes();
    let [_, _, high, low] = (nanos % 1_000_000 * 4096 / 1_000_000).to_be_bytes();
    (id[6], id[7]) = (0x70 | high, low);
    Uuid::from_bytes(id)
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("id", &self.shared.id).field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}
