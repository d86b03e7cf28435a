use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, response};
use tower::{Layer, Service, ServiceExt};

use super::admission::Admission;
use super::controls::Controls;
use super::key_info::KeyInfo;
use super::service::GatewayService;
use super::stage::Stage;
use super::wire::Wire;
use crate::admission::AdmissionLayer;
use crate::audit::AuditLayer;
use crate::auth::KeyAuthLayer;
use crate::body::{Body, BoxError};
use crate::budget::BudgetLayer;
use crate::call::{Call, CallLayer, Drain, LiveCalls, Settlements};
use crate::content::ContentLayer;
use crate::domain::catalog::Catalog;
use crate::domain::clock::Clock;
use crate::domain::dialect::{Dialect, Endpoint};
use crate::domain::outcome::Outcome;
use crate::domain::rejection::RejectionKind;
use crate::gate::{Gate, Name};
use crate::ingest::IngestLayer;
use crate::meter::MeterLayer;
use crate::rate_limit::RateLimitLayer;
use crate::rewrite::{Rewrite, RewriteLayer, Rewriter};
use crate::route::{Route, RouteGate};
use crate::store::admission::AdmissionStore;
use crate::store::budget::BudgetStore;
use crate::store::key::KeyStore;
use crate::store::rate_limit::RateLimitStore;

/// The complete stack in front of a service, in the correct order: call, audit, key, ingest, route, your gates, limits,
/// budgets, content, rewriters.
///
/// As a [`Layer`] it wraps a service of your own. That service counts as one attempt, metered in the client's dialect.
/// If your service meters its own requests, as a [`Gateway`](crate::Gateway) or a [`MeterLayer`] does, those attempts
/// are counted instead.
///
/// Without keys, required principals, limits and budgets, paths that are no LLM endpoint pass through unread. With any
/// of them, such paths pass only if [`pass_other_paths`](Self::pass_other_paths) is set. See the [module](crate::gateway).
///
/// Audit trails, gates, rewriters, openers and observers add up. Whatever else is set again replaces what was set before,
/// keys and budgets too.
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
    router: Option<Arc<dyn Route>>,
    gates: Vec<(Name, Arc<dyn Gate>)>,
    rewriters: Vec<Arc<dyn Rewrite<Rewriter = Box<dyn Rewriter>>>>,
    content: Option<ContentLayer>,
    controls: Controls,
}

impl GatewayLayer {
    /// Creates the stack with every stage at its default, without your own gates and rewriters.
    #[must_use]
    pub fn new() -> Self {
        GatewayLayer {
            call: CallLayer::new(),
            ingest: IngestLayer::new(),
            router: None,
            gates: Vec::new(),
            rewriters: Vec::new(),
            content: None,
            controls: Controls::default(),
        }
    }

    /// Sets the endpoint served behind these stages, for routes whose path does not show it.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.call = self.call.endpoint(endpoint);
        self
    }

    /// Sets the clock.
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

    /// Sets the catalog that prices calls.
    #[must_use]
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        self.call = self.call.catalog(catalog);
        self
    }

    /// Keeps reading an answer after its client has disconnected, within the bounds of `drain`. By default the upstream
    /// connection is dropped.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.call = self.call.drain(drain);
        self
    }

    /// Registers calls in `live` while they are in progress, so that they can be cut.
    #[must_use]
    pub fn live_calls(mut self, live: LiveCalls) -> Self {
        self.call = self.call.live_calls(live);
        self
    }

    /// Requires a virtual key. A stack without keys, limits and budgets, and without
    /// [`require_principal`](Self::require_principal), is open to anyone who can reach it.
    #[must_use]
    pub fn auth<K: KeyStore>(mut self, auth: KeyAuthLayer<K>) -> Self {
        self.controls.keys(auth);
        self
    }

    /// Refuses callers whom the host has not identified (by a `Principal` in the request's extensions, set before
    /// this layer) with a 401, before the body is read. For a host that authenticates its users itself, but lets
    /// strangers come as far as this layer. With [`auth`](Self::auth), a key does as well.
    ///
    /// Without this and without `auth`, limits and budgets answer such a call with 500: they must know who calls.
    #[must_use]
    pub fn require_principal(mut self) -> Self {
        self.controls.requires_principal = true;
        self
    }

    /// Counts calls against the limits of the principal, which comes with the key or from the host.
    #[must_use]
    pub fn rate_limit<R: RateLimitStore>(mut self, limits: RateLimitLayer<R>) -> Self {
        self.controls.limits(limits);
        self
    }

    /// Charges calls to the budgets of the principal, which comes with the key or from the host.
    #[must_use]
    pub fn budget<B: BudgetStore>(mut self, budgets: BudgetLayer<B>) -> Self {
        self.controls.budgets(budgets);
        self
    }

    /// Checks limits and budgets with one request to one store. Replaces [`rate_limit`](Self::rate_limit) and
    /// [`budget`](Self::budget): a stack that has both forms answers 500.
    #[must_use]
    pub fn admission<S: AdmissionStore + Clone>(mut self, admission: AdmissionLayer<S>) -> Self {
        self.controls.admission(admission);
        self
    }

    /// Records every call in this audit trail. If called several times, each trail records every call.
    #[must_use]
    pub fn audit(mut self, audit: &AuditLayer) -> Self {
        self.controls.audit(audit);
        self
    }

    /// Keeps the content of prompts and answers, as configured in `content`.
    #[must_use]
    pub fn content(mut self, content: &ContentLayer) -> Self {
        self.content = Some(content.clone());
        self
    }

    /// Passes paths that are no LLM endpoint to your own service, if the request has a key or the host has already
    /// identified the caller (a `Principal` in the request's extensions, set before this layer).
    ///
    /// Gates do not run for these paths. Without this setting, a stack with keys, required principals, limits or budgets
    /// answers them with 404: what passes unread passes unpaid.
    #[must_use]
    pub fn pass_other_paths(mut self) -> Self {
        self.controls.pass_other_paths = true;
        self
    }

    /// Declares that the service behind this layer applies the callers' limits and budgets itself.
    ///
    /// Without this, a caller that has limits or budgets is refused by a stack that has no control for them.
    #[must_use]
    pub fn governed_within(mut self) -> Self {
        self.controls.governed_within();
        self
    }

    /// Reports to clients how the waiting time divides between gateway and upstream: see
    /// [`CallLayer::server_timing`](crate::CallLayer::server_timing).
    #[must_use]
    pub fn server_timing(mut self) -> Self {
        self.call = self.call.server_timing();
        self
    }

    /// Overrides the status of one kind of refusal in one dialect: see [`CallLayer::status`](crate::CallLayer::status).
    ///
    /// # Panics
    /// Panics if `status` is no error status, or if `kind` reports a failure of an upstream.
    #[must_use]
    pub fn status(mut self, dialect: Dialect, kind: RejectionKind, status: StatusCode) -> Self {
        self.call = self.call.status(dialect, kind, status);
        self
    }

    /// Runs `opener` when a call opens: see [`CallLayer::on_open`](crate::CallLayer::on_open).
    #[must_use]
    pub fn on_open(mut self, opener: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        self.call = self.call.on_open(opener);
        self
    }

    /// Runs `observer` once when a call closes.
    #[must_use]
    pub fn on_close(mut self, observer: impl Fn(&Arc<Outcome>) + Send + Sync + 'static) -> Self {
        self.call = self.call.on_close(observer);
        self
    }

    /// Sets how request bodies are read.
    #[must_use]
    pub fn ingest(mut self, ingest: IngestLayer) -> Self {
        self.ingest = ingest;
        self
    }

    /// Sets the router. In front of your own service you need one only if you read the targets yourself, or to choose
    /// the model that a `TranslateLayer` asks for. There, only targets in the client's dialect count.
    #[must_use]
    pub fn router(mut self, router: impl Route) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// Adds a gate, which sees the head, and the route if there is a router. Gates run in the order in which they were
    /// added, and only for LLM endpoints. To check every path, put a [`GateLayer`](crate::GateLayer) outside of this
    /// layer.
    #[must_use]
    pub fn gate<G: Gate>(mut self, gate: G) -> Self {
        self.gates.push((Name::of::<G>(), Arc::new(gate)));
        self
    }

    /// Adds a rewriter of event streams. It does not see JSON answers. The last one added is nearest the upstream.
    #[must_use]
    pub fn rewrite<R>(mut self, rewrite: R) -> Self
    where
        R: Rewrite,
    {
        self.rewriters.push(Arc::new(Boxed(rewrite)));
        self
    }

    /// The data that answers `GET /v1/key`.
    pub(super) fn key_info(&self) -> KeyInfo {
        self.controls.info()
    }

    /// The router's aliases for models.
    pub(super) fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        self.router.as_ref().map_or_else(Vec::new, |router| router.aliases())
    }

    pub(super) fn has_router(&self) -> bool {
        self.router.is_some()
    }

    /// Whether the stack has `admission` and also `rate_limit` or `budget`. Such a stack refuses every call.
    pub(super) fn asks_twice(&self) -> bool {
        self.controls.asks_twice()
    }

    /// Builds the stages in front of `inner`, which applies edits and meters itself. With `surface`, `inner` answers
    /// every path.
    pub(super) fn stages<I, F, E>(&self, inner: I, surface: bool) -> Stage<E>
    where
        I: Fn(Request<Body>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: 'static,
    {
        // Unused stages are left out: each costs one more box per call.
        if self.rewriters.is_empty() && self.content.is_none() {
            return self.admitting(inner, surface);
        }
        let mut stage =
            self.rewriters.iter().rev().fold(Stage::by(inner), |service, rewrite| {
                Stage::new(RewriteLayer::new(rewrite.clone()).layer(service))
            });
        if let Some(content) = &self.content {
            stage = Stage::new(content.around(stage));
        }
        self.admitting(move |request| stage.call(request), surface)
    }

    /// The call, and everything up to the last gate.
    fn admitting<I, F, E>(&self, inner: I, surface: bool) -> Stage<E>
    where
        I: Fn(Request<Body>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: 'static,
    {
        let route = self
            .router
            .clone()
            .map(|router| (Name::OURS, Arc::new(RouteGate::new(router).translates(surface)) as Arc<dyn Gate>));
        let gates = route.into_iter().chain(self.gates.clone()).collect();
        let (door, ingest, last) =
            (self.controls.door(surface, !self.gates.is_empty()), self.ingest.clone(), self.controls.last());
        let (call, admission) = (self.call.clone(), Arc::new(Admission { door, ingest, gates, last, inner }));
        Stage::by(move |request| call.around(request, |request| admission.clone().answer(request)))
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
        let wire = Wire::new(MeterLayer::new().layer(inner), self.key_info());
        GatewayService::new(self.stages(move |request| wire.clone().oneshot(request), false))
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
            .field("content", &self.content)
            .field("controls", &self.controls)
            .finish()
    }
}

/// A rewrite with boxed rewriters, so that different types fit in one list.
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
