//! A gateway with every control, in front of the simulated provider.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{Request, Response};
use tollgate::audit::AuditLayer;
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::BudgetLayer;
use tollgate::call::Settlements;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::catalog::{Catalog, ModelCard, Prices};
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::gateway::{GatewayBuilder, Model};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::budget::BudgetStore;
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::Service;

use crate::support::log;
use crate::watched::now;

pub(crate) const PEPPER: &[u8] = b"canary-pepper-0123456789abcdef01";
pub(crate) const UPSTREAM_KEY: &str = "sk-canary-upstream-0123456789";

/// A gateway, and everything that its calls leave traces in.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) settlements: Settlements,
    pub(crate) audit: AuditLayer,
    pub(crate) records: Records,
    pub(crate) closed: Closed,
    pub(crate) provider: Simulated,
}

impl Site {
    /// With all stores in memory.
    pub(crate) fn plain(keys: &MemoryKeys) -> Self {
        Self::new(keys.clone(), MemoryLimits::new(), BudgetLayer::new(MemoryBudgets::new()))
    }

    pub(crate) fn new<K, R, B>(keys: K, limits: R, budgets: BudgetLayer<B>) -> Self
    where
        K: KeyStore,
        R: RateLimitStore,
        B: BudgetStore,
    {
        Self::with(keys, RateLimitLayer::new(limits), budgets, |layer| layer)
    }

    /// With additions to the layer, such as a clock or a gate.
    pub(crate) fn with<K, R, B>(
        keys: K,
        limits: RateLimitLayer<R>,
        budgets: BudgetLayer<B>,
        more: impl FnOnce(GatewayLayer) -> GatewayLayer,
    ) -> Self
    where
        K: KeyStore,
        R: RateLimitStore,
        B: BudgetStore,
    {
        let provider = Simulated::new().recording();
        let build = served(&provider, more);
        Self::toward(provider, keys, limits, budgets, build)
    }

    /// With the upstreams that `build` adds.
    pub(crate) fn toward<K, R, B, T>(
        provider: Simulated,
        keys: K,
        limits: RateLimitLayer<R>,
        budgets: BudgetLayer<B>,
        build: impl FnOnce(GatewayLayer, AuditLayer, Records, Closed, Settlements, Simulated) -> T,
    ) -> T
    where
        K: KeyStore,
        R: RateLimitStore,
        B: BudgetStore,
    {
        Self::governed(provider, keys, |layer| layer.rate_limit(limits).budget(budgets), build)
    }

    /// With the limits and budgets that `govern` adds to the layer.
    pub(crate) fn governed<K: KeyStore, T>(
        provider: Simulated,
        keys: K,
        govern: impl FnOnce(GatewayLayer) -> GatewayLayer,
        build: impl FnOnce(GatewayLayer, AuditLayer, Records, Closed, Settlements, Simulated) -> T,
    ) -> T {
        log::search();
        let (records, closed, settlements) = (Records::default(), Closed::default(), Settlements::new());
        let audit = AuditLayer::new(records.clone());
        let observer = closed.clone();
        let layer = govern(GatewayLayer::new())
            .audit(&audit)
            .auth(KeyAuthLayer::new(keys, pepper()))
            .catalog(catalog())
            .settlements(settlements.clone())
            .on_close(move |outcome| observer.lock().push(Outcome::clone(outcome)));
        build(layer, audit, records, closed, settlements, provider)
    }

    /// Waits until everything that closed is settled and recorded.
    pub(crate) async fn settled(&self) {
        self.settlements.drain().await;
        self.audit.flush().await;
    }

    /// Returns the outcome of the only call that has closed.
    pub(crate) async fn only(&self) -> Outcome {
        self.settled().await;
        let closed = self.closed.lock();
        assert_eq!((closed.len(), self.records.lock().len()), (1, 1), "one close, one record");
        closed[0].clone()
    }
}

/// Builds a gateway whose two upstreams are this client.
pub(crate) fn served<C, M>(
    client: &C,
    more: M,
) -> impl FnOnce(GatewayLayer, AuditLayer, Records, Closed, Settlements, Simulated) -> Site + use<C, M>
where
    C: Client,
    M: FnOnce(GatewayLayer) -> GatewayLayer,
{
    served_beside(client, more, |builder| builder)
}

/// The same with other upstreams beside them, which a router may choose.
pub(crate) fn served_beside<C, M, B>(
    client: &C,
    more: M,
    others: B,
) -> impl FnOnce(GatewayLayer, AuditLayer, Records, Closed, Settlements, Simulated) -> Site + use<C, M, B>
where
    C: Client,
    M: FnOnce(GatewayLayer) -> GatewayLayer,
    B: FnOnce(GatewayBuilder) -> GatewayBuilder,
{
    let (anthropic, openai) = providers(client);
    |layer, audit, records, closed, settlements, provider| {
        let builder = Gateway::builder().upstream("anthropic", Dialect::Anthropic, anthropic).upstream(
            "openai",
            Dialect::OpenAiChat,
            openai,
        );
        let gateway = others(builder)
            .models([Model::anthropic("claude-storm"), Model::openai("gpt-storm")])
            .layer(more(layer))
            .build()
            .expect("a gateway");
        Site { gateway, settlements, audit, records, closed, provider }
    }
}

/// A client that stands for the provider.
pub(crate) trait Client:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<C> Client for C where
    C: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The two upstreams, over one simulated provider.
pub(crate) fn providers<C: Client>(client: &C) -> (Provider<C>, Provider<C>) {
    let anthropic = Credential::x_api_key(UPSTREAM_KEY).expect("plain letters");
    let openai = Credential::bearer(UPSTREAM_KEY).expect("plain letters");
    let url = "http://sim.invalid";
    (
        Provider::with_client(Dialect::Anthropic, url, anthropic, client.clone()).expect("a URL"),
        Provider::with_client(Dialect::OpenAiChat, url, openai, client.clone()).expect("a URL"),
    )
}

pub(crate) fn pepper() -> Pepper {
    Pepper::new(PEPPER).expect("long enough")
}

/// A catalog in which a dollar pays for 333,333 input tokens or 66,666 output tokens. It ignores a number at the end of
/// a model's name, so that each call can have a name of its own on the bill.
pub(crate) fn catalog() -> Catalog {
    let card = |name: &str| {
        let prices = Prices::new("3".parse().expect("a price"), "15".parse().expect("a price"));
        ModelCard::new(name, prices).context_window(200_000).max_output(8_192)
    };
    let storm = Catalog::empty().with(card("claude-storm")).with(card("gpt-storm"));
    // The simulated provider is never faster than this.
    storm.with(card("claude-swift").top_speed(500)).with(card("gpt-swift").top_speed(500))
}

/// Mints a key for `principal`. Returns its record and its secret.
pub(crate) fn mint(keys: &MemoryKeys, principal: Principal) -> (KeyRecord, String) {
    mint_as(keys, principal, |record| record)
}

pub(crate) fn mint_as(
    keys: &MemoryKeys,
    principal: Principal,
    but: impl FnOnce(KeyRecord) -> KeyRecord,
) -> (KeyRecord, String) {
    let key = VirtualKey::mint(Environment::Live).expect("randomness");
    let created = "2026-11-24T09:00:00Z".parse().expect("a time");
    let record = but(KeyRecord::new(&key, &pepper(), principal, created));
    assert!(now(keys.put(&record)).expect("memory").is_written(), "written");
    (record, key.expose().to_owned())
}

/// Collects outcomes.
#[derive(Clone, Default)]
pub(crate) struct Closed(Arc<Mutex<Vec<Outcome>>>);

impl Closed {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects audit records.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<Vec<AuditRecord>>>);

impl Records {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<AuditRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AuditSink for Records {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.lock().extend_from_slice(records);
        Ok(())
    }
}
