use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use tower::Layer;

use super::manners::Manners;
use super::{Call, CallService, Drain, LiveCalls, Settlements};
use crate::domain::catalog::Catalog;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::dialect::{Dialect, Endpoint};
use crate::domain::outcome::Outcome;
use crate::domain::rejection::RejectionKind;

pub(super) type Observer = Arc<dyn Fn(&Outcome) + Send + Sync>;
pub(super) type Opener = Arc<dyn Fn(&Call) + Send + Sync>;

/// Opens calls. See the [module](crate::call) for what it does and where it stands.
#[derive(Clone)]
pub struct CallLayer {
    pub(super) config: Arc<Config>,
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settlements: Settlements,
    pub(super) catalog: Catalog,
    pub(super) drain: Option<Drain>,
    pub(super) live: Option<LiveCalls>,
    pub(super) observers: Vec<Observer>,
    pub(super) openers: Vec<Opener>,
    pub(super) manners: Manners,
    pub(super) endpoint: Option<Endpoint>,
}

impl CallLayer {
    /// A layer on the system's clock, with settlements of its own.
    #[must_use]
    pub fn new() -> Self {
        CallLayer {
            config: Arc::new(Config {
                clock: Arc::new(SystemClock),
                settlements: Settlements::new(),
                catalog: Catalog::builtin(),
                drain: None,
                live: None,
                observers: Vec::new(),
                openers: Vec::new(),
                manners: Manners::default(),
                endpoint: None,
            }),
        }
    }

    /// What is served behind this layer, for routes whose path does not say so.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        Arc::make_mut(&mut self.config).endpoint = Some(endpoint);
        self
    }

    /// Tells the time by `clock`. Of several layers in one stack, that of the outermost counts.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        Arc::make_mut(&mut self.config).clock = Arc::new(clock);
        self
    }

    /// Tracks work that outlives calls in `settlements`, which the host drains at shutdown. Of several layers in one
    /// stack, those of the outermost count.
    #[must_use]
    pub fn settlements(mut self, settlements: Settlements) -> Self {
        Arc::make_mut(&mut self.config).settlements = settlements;
        self
    }

    /// Prices calls by `catalog`. Of several layers in one stack, that of the outermost counts.
    #[must_use]
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        Arc::make_mut(&mut self.config).catalog = catalog;
        self
    }

    /// Reads answers on whose clients have gone, as far as `drain` goes; unless set, they are hung up on. Of several layers
    /// in one stack, that of the outermost counts.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        Arc::make_mut(&mut self.config).drain = Some(drain);
        self
    }

    /// Keeps calls in `live` while they are under way, so that they can be cut. Of several layers in one stack, that of the
    /// outermost counts.
    #[must_use]
    pub fn live_calls(mut self, live: LiveCalls) -> Self {
        Arc::make_mut(&mut self.config).live = Some(live);
        self
    }

    /// Tells clients in `server-timing` how long the head of their answer took: `gateway;dur=0.412, upstream;dur=812.034`, in
    /// thousandths of a second, the gateway's own share and that of the attempts. Of several layers in one stack, that of the
    /// outermost counts.
    #[must_use]
    pub fn server_timing(mut self) -> Self {
        Arc::make_mut(&mut self.config).manners.server_timing = true;
        self
    }

    /// Answers refusals of this kind with `status` where they go to clients of this dialect, in the place of the one that real
    /// clients handle best; their bodies and headers, such as `retry-after`, stay what they are. What a provider has answered
    /// keeps its own. Of several layers in one stack, those of the outermost count.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tollgate::domain::rejection::RejectionKind;
    /// use tollgate::{CallLayer, Dialect};
    ///
    /// // For agents that take any 429 for one that passes.
    /// let layer = CallLayer::new().status(Dialect::OpenAiChat, RejectionKind::BudgetSpent, StatusCode::PAYMENT_REQUIRED);
    /// ```
    ///
    /// # Panics
    /// Where `status` is no error (400 to 599), or this [is about an upstream](RejectionKind::is_upstream) that failed.
    #[must_use]
    pub fn status(mut self, dialect: Dialect, kind: RejectionKind, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.config).manners.set_status(dialect, kind, status);
        self
    }

    /// Runs `opener` when a call comes to this layer, and nothing is known of it yet but what it asks for: to measure it, or to
    /// register hooks of its own. A panic in it is contained.
    #[must_use]
    pub fn on_open(mut self, opener: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).openers.push(Arc::new(opener));
        self
    }

    /// Runs `observer` at the close of every call, after the hooks that layers registered; several run last added first.
    #[must_use]
    pub fn on_close(mut self, observer: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).observers.push(Arc::new(observer));
        self
    }
}

impl Default for CallLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService::new(inner, self.clone())
    }
}

impl fmt::Debug for CallLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLayer")
            .field("clock", &self.config.clock)
            .field("observers", &self.config.observers.len())
            .finish_non_exhaustive()
    }
}
