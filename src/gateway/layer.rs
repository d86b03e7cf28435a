use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, response};
use tower::{Layer, Service, ServiceBuilder};

use super::service::GatewayService;
use super::stage::Stage;
use super::wire::Wire;
use crate::body::{Body, BoxError};
use crate::call::{Call, CallLayer, Settlements};
use crate::domain::clock::Clock;
use crate::domain::dialect::Endpoint;
use crate::domain::outcome::Outcome;
use crate::domain::rejection::Rejection;
use crate::gate::{Gate, GateLayer};
use crate::ingest::IngestLayer;
use crate::meter::MeterLayer;
use crate::rewrite::{Rewrite, RewriteLayer, Rewriter};
use crate::route::{RouteGate, RouteLayer, Router};

/// The stages in front of a service, in the one right order: call, ingest, route, gates, rewriters.
///
/// As a [`Layer`] it goes in front of a service of your own, which is then one attempt, metered in the client's dialect.
/// Paths that are no LLM endpoint pass through unread. See the [module](crate::gateway).
///
/// ```
/// use tollgate::GatewayLayer;
/// use tower::{Layer, service_fn};
/// # use http::{Request, Response};
/// # use tollgate::Body;
/// let mine = service_fn(|_request: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
/// let governed = GatewayLayer::new().on_close(|outcome| println!("{:?}", outcome.usage)).layer(mine);
/// ```
#[derive(Clone)]
pub struct GatewayLayer {
    call: CallLayer,
    ingest: IngestLayer,
    router: Option<Arc<dyn Router>>,
    gates: Vec<Arc<dyn Gate>>,
    rewriters: Vec<Arc<dyn Rewrite<Rewriter = Box<dyn Rewriter>>>>,
}

impl GatewayLayer {
    /// Every stage with its default, no gate of yours, nothing rewritten.
    #[must_use]
    pub fn new() -> Self {
        GatewayLayer {
            call: CallLayer::new(),
            ingest: IngestLayer::new(),
            router: None,
            gates: Vec::new(),
            rewriters: Vec::new(),
        }
    }

    /// What is served behind these stages, for routes whose path does not say so.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.call = self.call.endpoint(endpoint);
        self
    }

    /// Tells the time by `clock`.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.call = self.call.clock(clock);
        self
    }

    /// Tracks work that outlives calls in `settlements`.
    #[must_use]
    pub fn settlements(mut self, settlements: Settlements) -> Self {
        self.call = self.call.settlements(settlements);
        self
    }

    /// Runs `observer` once at the end of every call.
    #[must_use]
    pub fn on_close(mut self, observer: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        self.call = self.call.on_close(observer);
        self
    }

    /// Reads bodies as `ingest` says.
    #[must_use]
    pub fn ingest(mut self, ingest: IngestLayer) -> Self {
        self.ingest = ingest;
        self
    }

    /// Routes by `router`. In front of your own service there is nothing to route unless you read the targets yourself.
    #[must_use]
    pub fn router(mut self, router: impl Router) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// Adds a gate, which sees the head, and the route where there is a router; gates run in the order in which they were
    /// added, for LLM endpoints alone. One for every path stands outside, as a [`GateLayer`].
    #[must_use]
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.gates.push(Arc::new(gate));
        self
    }

    /// Adds a rewriter of event streams; the last added is nearest the upstream.
    #[must_use]
    pub fn rewrite<R>(mut self, rewrite: R) -> Self
    where
        R: Rewrite,
    {
        self.rewriters.push(Arc::new(Boxed(rewrite)));
        self
    }

    pub(super) fn has_router(&self) -> bool {
        self.router.is_some()
    }

    /// The stages in front of a service that applies edits and meters for itself.
    pub(super) fn stages<S, E>(&self, inner: S) -> Stage<E>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        E: 'static,
    {
        if self.rewriters.is_empty() {
            return self.gated(inner);
        }
        let mut service = Stage::new(inner);
        for rewrite in self.rewriters.iter().rev() {
            service = Stage::new(RewriteLayer::new(rewrite.clone()).layer(service));
        }
        self.gated(service)
    }

    /// Stages that nobody asked for are not there, and all that admit are one: what stands between two of them is one more
    /// box a call.
    fn gated<S, E>(&self, inner: S) -> Stage<E>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E, Future: Send> + Clone + Send + Sync + 'static,
        E: 'static,
    {
        let door = ServiceBuilder::new().layer(self.call.clone()).layer(self.ingest.clone());
        let route = self.router.iter().map(|router| Arc::new(RouteGate::new(router.clone())) as Arc<dyn Gate>);
        match &self.router {
            _ if !self.gates.is_empty() => {
                let gates = route.chain(self.gates.iter().cloned()).collect();
                Stage::new(door.layer(GateLayer::new(Governed(gates))).service(inner))
            }
            Some(router) => Stage::new(door.layer(RouteLayer::new(router.clone())).service(inner)),
            None => Stage::new(door.service(inner)),
        }
    }
}

impl Default for GatewayLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, ResB> Layer<S> for GatewayLayer
where
    S: Service<Request<Body>, Response = Response<ResB>, Future: Send> + Clone + Send + Sync + 'static,
    S::Error: 'static,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Service = GatewayService<S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        GatewayService::new(self.stages(Wire::new(MeterLayer::new().layer(inner))))
    }
}

impl fmt::Debug for GatewayLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayLayer")
            .field("call", &self.call)
            .field("ingest", &self.ingest)
            .field("routes", &self.router.is_some())
            .field("gates", &self.gates.len())
            .field("rewriters", &self.rewriters.len())
            .finish()
    }
}

/// Gates that expect a head, asked only where there is one.
struct Governed(Vec<Arc<dyn Gate>>);

#[async_trait]
impl Gate for Governed {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        if call.endpoint().has_head() { self.0.admit(parts, call).await } else { Ok(()) }
    }
}

/// A rewrite whose machines are boxed, so that several kinds stand in one list.
struct Boxed<R>(R);

impl<R> Rewrite for Boxed<R>
where
    R: Rewrite,
{
    type Rewriter = Box<dyn Rewriter>;

    fn begin(&self, call: &Call, head: &response::Parts) -> Option<Self::Rewriter> {
        Some(Box::new(self.0.begin(call, head)?))
    }
}
