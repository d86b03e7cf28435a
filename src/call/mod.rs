//! The call: one request from the first byte in to the last byte out, closed in one place.
//!
//! Every layer of this crate finds the [`Call`] in the request's extensions, and the first layer to see the request
//! opens it. So a single layer works alone, and a stack shares one call. The call closes once, when the client's body
//! *and* the last attempt have ended, and passes one [`Outcome`] to every registered hook.
//!
//! - **Reads:** method and path. **Adds:** the `Call`, and `x-request-id` and `request-id` on the answer.
//! - **Answers** nothing itself; it renders the [`Rejection`](crate::Rejection)s of inner layers in the client's dialect.
//! - **Where:** outermost. Use [`CallLayer`] itself to set a clock, your own [`Settlements`], or an observer.
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
mod unmetered;
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
use crate::dialect::head::Head;
use crate::domain::attribution::Attribution;
use crate::domain::catalog::Catalog;
use crate::domain::clock::Clock;
use crate::domain::dialect::{Dialect, Endpoint};
use crate::domain::money::Money;
use crate::domain::outcome::{Decision, Outcome};
use crate::domain::principal::Principal;
use crate::domain::target::Target;
use crate::store::admission::PresentedKey;
use crate::store::journal::Trail;

/// A cheap handle to one call, in the request's extensions. All clones share everything except the target of their
/// attempt.
#[derive(Clone)]
pub struct Call {
    shared: Arc<Shared>,
    target: Option<Arc<Target>>,
    /// The slot of the attempt, once it has begun.
    slot: Option<nested::Slot>,
    /// The body before and after edits, if a stack further out has applied them.
    edited: Option<Arc<nested::Edited>>,
}

struct Shared {
    id: Uuid,
    /// The endpoint as the opener saw it; `narrowed` holds what a layer further in made of the path.
    endpoint: Endpoint,
    narrowed: OnceLock<Endpoint>,
    /// Why the opener did not recognize the path, if a layer further in may take it for one of ours.
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
    /// Whether attempts must report their cost before they end.
    follows_cost: AtomicBool,
    state: Mutex<State>,
}

impl Call {
    /// Opens a call and counts the client's body as its first party. Layers do this; a host does not need to.
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

    /// Like [`of`](Self::of), for the parts of a request.
    pub(crate) fn of_parts(parts: &http::request::Parts) -> Option<&Call> {
        parts.extensions.get()
    }

    /// The call's id, sent to the client as `x-request-id`. It is a UUIDv7, so ids sort by time.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// The dialect that the client speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.endpoint().dialect
    }

    /// The dialect and the operation.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.shared.narrowed.get().copied().unwrap_or(self.shared.endpoint)
    }

    /// Accepts what a layer further in made of a path that the opener did not recognize.
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

    /// The current time, by the clock of the call.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The catalog that prices this call.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Records a decision of a layer for the [`Outcome`].
    pub fn note(&self, decision: Decision) {
        let mut state = self.state();
        if state.decisions.is_empty() {
            state.decisions.reserve_exact(4);
        }
        state.decisions.push(decision);
    }

    /// The target of the attempt that this request belongs to; `None` outside of the dispatch.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        self.target.as_ref()
    }

    /// A handle to the same call, for an attempt at `target`.
    #[must_use]
    pub fn toward(&self, target: Arc<Target>) -> Self {
        Call { shared: self.shared.clone(), target: Some(target), slot: self.slot, edited: None }
    }

    /// Caps the output tokens of the upstream request. The lowest of all caps and the client's own limit counts.
    ///
    /// Anthropic rejects a request whose limit is not above its [thinking budget](Head::thinking_budget).
    pub fn cap_max_tokens(&self, tokens: u64) {
        self.state().edits.cap_max_tokens(tokens);
    }

    /// The most output tokens that the request would ask for if it were sent now: the client's own limit and the caps
    /// of the layers.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        let asked = self.head().and_then(Head::max_tokens);
        self.state().edits.max_tokens(asked)
    }

    /// Asks the upstream for the usage chunk of a Chat Completions stream, if its model supports that option. The chunk
    /// is withheld from a client that did not ask for it.
    pub fn ask_for_usage(&self) {
        self.state().edits.ask_for_usage();
    }

    /// Whether we, not the client, asked for the usage chunk of this call's stream.
    #[must_use]
    pub fn withholds_usage(&self) -> bool {
        let edits = self.state().edits;
        self.head().is_some_and(|head| edits.asks_for_usage(head, || self.abilities(head)))
    }

    /// Records what the translation for this attempt lost, for the outcome and the client. Replaces an earlier record.
    pub(crate) fn warn(&self, warnings: Option<&str>) {
        self.state().warn(warnings);
    }

    /// Records what budgets hold for this call; the outcome tells what they are charged. With `is_soft`, the budgets
    /// pay for whatever the call costs.
    pub(crate) fn set_granted(&self, granted: Money, holds: Holds, is_soft: bool, clamped: Option<u64>) {
        let mut state = self.state();
        state.is_bounded |= !is_soft;
        (state.granted, state.holds, state.clamped) = (Some(granted), holds, clamped);
    }

    /// Raises the recorded hold.
    pub(crate) fn raise_granted(&self, granted: Money) {
        self.state().granted = Some(granted);
    }

    /// Records that every provider request of this call begins an attempt first.
    pub(crate) fn set_metered(&self) {
        self.state().metered = true;
    }

    /// Whether the call has a hold of a budget that pays for no more than it holds.
    pub(crate) fn is_bounded(&self) -> bool {
        self.state().is_bounded
    }

    /// Whether the call has a hold.
    pub(crate) fn is_granted(&self) -> bool {
        self.state().granted.is_some()
    }

    /// Sets a header on the answer, whichever layer answers. If a name is set twice, the last value counts.
    pub fn set_answer_header(&self, name: HeaderName, value: HeaderValue) {
        self.set_answer_headers([(name, value)]);
    }

    /// Sets several at once. The iterator runs under the call's lock, so it must not use the call.
    pub(crate) fn set_answer_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        self.leave_headers(headers, false);
    }

    /// Sets headers for a successful answer only.
    pub(crate) fn set_success_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        self.leave_headers(headers, true);
    }

    fn leave_headers(&self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>, of_success: bool) {
        let mut state = self.state();
        if state.answer_headers.is_empty() {
            // Two of budgets, and seven of their standing.
            state.answer_headers.reserve_exact(9);
        }
        state.answer_headers.extend(headers.into_iter().map(|(name, value)| (name, value, of_success)));
    }

    /// Runs `hook` when the call closes, synchronously. Hooks run in reverse order of registration, and a panic in a
    /// hook is contained. Use [`settlements`](Self::settlements) for async work. If the call has already closed, the
    /// hook runs at once.
    pub fn on_close(&self, hook: impl FnOnce(&Arc<Outcome>) + Send + 'static) {
        let closed = self.state().register(Box::new(hook));
        if let Some((hook, outcome)) = closed {
            closer::run(hook, &outcome);
        }
    }

    /// Tracks work that must outlive the call, and that is drained at shutdown.
    #[must_use]
    pub fn settlements(&self) -> &Settlements {
        &self.shared.settlements
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed().saturating_sub(self.shared.opened)
    }

    /// How long a provider may have worked on what it was asked after `began`. While a machine sleeps, providers go on
    /// and only the time of day does too, so it counts if it is well ahead.
    pub(crate) fn worked(&self, began: Duration) -> Duration {
        let elapsed = self.elapsed();
        let of_day = Duration::try_from(self.shared.clock.now().duration_since(self.shared.opened_at));
        let slept = of_day.unwrap_or_default().saturating_sub(elapsed);
        let slept = if slept < LEAST_SLEEP { Duration::ZERO } else { slept };
        elapsed.saturating_sub(began).saturating_add(slept)
    }
}

/// Less than this between the two clocks is no sleep: the time of day is corrected a little all the time.
const LEAST_SLEEP: Duration = Duration::from_secs(1);

/// A UUIDv7 of this time, with a fraction of the millisecond (RFC 9562 section 6.2, method 3), so that ids sort by
/// time.
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
