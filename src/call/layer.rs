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

pub(super) type Observer = Arc<dyn Fn(&Arc<Outcome>) + Send + Sync>;
pub(super) type Opener = Arc<dyn Fn(&Call) + Send + Sync>;

/// Opens calls and renders refusals. See the [module](crate::call).
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
    /// Creates a layer with the system's clock and its own settlements.
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

    /// Sets the endpoint served behind this layer, for routes whose path does not show it.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        Arc::make_mut(&mut self.config).endpoint = Some(endpoint);
        self
    }

    /// Sets the clock. If several layers in a stack set one, the outermost counts.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        Arc::make_mut(&mut self.config).clock = Arc::new(clock);
        self
    }

    /// Tracks work that outlives calls in `settlements`, which the host drains at shutdown. If several layers in a
    /// stack set them, the outermost counts.
    #[must_use]
    pub fn settlements(mut self, settlements: Settlements) -> Self {
        Arc::make_mut(&mut self.config).settlements = settlements;
        self
    }

    /// Sets the catalog that prices calls. If several layers in a stack set one, the outermost counts.
    #[must_use]
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        Arc::make_mut(&mut self.config).catalog = catalog;
        self
    }

    /// Keeps reading an answer after its client has disconnected, within the bounds of `drain`. By default the upstream
    /// connection is dropped. If several layers in a stack set this, the outermost counts.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        Arc::make_mut(&mut self.config).drain = Some(drain);
        self
    }

    /// Registers calls in `live` while they are in progress, so that they can be cut. If several layers in a stack set
    /// this, the outermost counts.
    #[must_use]
    pub fn live_calls(mut self, live: LiveCalls) -> Self {
        Arc::make_mut(&mut self.config).live = Some(live);
        self
    }

    /// Adds a `server-timing` header that divides the time to the head of the answer into the gateway's own share and
    /// that of the attempts, in milliseconds: `gateway;dur=0.412, upstream;dur=812.034`. If several layers in a stack
    /// set this, the outermost counts.
    #[must_use]
    pub fn server_timing(mut self) -> Self {
        Arc::make_mut(&mut self.config).manners.server_timing = true;
        self
    }

    /// Answers refusals of this kind, in this dialect, with `status` instead of the default status, which real clients
    /// handle best.
    ///
    /// The body and headers such as `retry-after` do not change. A provider's own answer keeps its status. If several
    /// layers in a stack set statuses, the outermost counts.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tollgate::domain::rejection::RejectionKind;
    /// use tollgate::{CallLayer, Dialect};
    ///
    /// // For agents that treat every 429 as temporary.
    /// let layer = CallLayer::new().status(Dialect::OpenAiChat, RejectionKind::BudgetSpent, StatusCode::PAYMENT_REQUIRED);
    /// ```
    ///
    /// # Panics
    /// Panics if `status` is no error (400 to 599), or if `kind` [reports a failure of an
    /// upstream](RejectionKind::is_upstream).
    #[must_use]
    pub fn status(mut self, dialect: Dialect, kind: RejectionKind, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.config).manners.set_status(dialect, kind, status);
        self
    }

    /// Runs `opener` when a call reaches this layer: to measure the call, or to register hooks for it. Usually only the
    /// call's endpoint is known at that time. A panic in `opener` is contained.
    #[must_use]
    pub fn on_open(mut self, opener: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).openers.push(Arc::new(opener));
        self
    }

    /// Runs `observer` when a call closes, after the hooks that layers registered. Several observers run in reverse
    /// order.
    #[must_use]
    pub fn on_close(mut self, observer: impl Fn(&Arc<Outcome>) + Send + Sync + 'static) -> Self {
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
