//! A governed gateway with stores in memory, a clock that stands still, and a simulated provider.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::call::Settlements;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::principal::Principal;
use tollgate::gateway::Model;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::cached::CachedKeys;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};
use tollgate::{AuditLayer, Body, BudgetLayer, Dialect, Gateway, GatewayLayer, KeyAuthLayer, RateLimitLayer};
use tower::{Service, ServiceExt};

use crate::support::canary;
use crate::telemetry;

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) provider: Simulated,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: CachedKeys<MemoryKeys>,
    pub(crate) budgets: MemoryBudgets,
    pub(crate) limits: MemoryLimits,
    pub(crate) pepper: Pepper,
    pub(crate) audit: AuditLayer,
    pub(crate) trail: Trail,
    pub(crate) settlements: Settlements,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|layer| layer)
    }

    /// With only these controls.
    pub(crate) fn bare(controls: impl FnOnce(GatewayLayer) -> GatewayLayer) -> Self {
        Self::with(|_| controls(GatewayLayer::new()))
    }

    /// With additional or other stages.
    pub(crate) fn with(change: impl FnOnce(GatewayLayer) -> GatewayLayer) -> Self {
        Self::behind(|provider| provider, change)
    }

    /// With a change to the budget layer.
    pub(crate) fn of_budgets(change: impl FnOnce(BudgetLayer<MemoryBudgets>) -> BudgetLayer<MemoryBudgets>) -> Self {
        let budgets = MemoryBudgets::new();
        telemetry::subscribe();
        let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
        let (budgets, of_layer) = (budgets.clock(clock.clone()), clock);
        let layer = change(BudgetLayer::new(budgets.clone()));
        World { budgets, clock: of_layer.clone(), ..Self::with(|gateway| gateway.clock(of_layer).budget(layer)) }
    }

    /// Repeats this request until it is refused, and returns the refusal.
    pub(crate) async fn refused(&self, request: impl Fn() -> Request<Body>) -> Answer {
        for _ in 0..5_000 {
            let answer = self.ask(request()).await;
            if answer.status != StatusCode::OK {
                return answer;
            }
        }
        panic!("nobody refuses it")
    }

    /// The same, with a client of the test's in front of the provider.
    pub(crate) fn behind<C>(
        front: impl FnOnce(Simulated) -> C,
        change: impl FnOnce(GatewayLayer) -> GatewayLayer,
    ) -> Self
    where
        C: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        telemetry::subscribe();
        let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
        let provider = Simulated::new().recording();
        let keys = CachedKeys::new(MemoryKeys::new());
        let (budgets, limits) = (MemoryBudgets::new().clock(clock.clone()), MemoryLimits::new().clock(clock.clone()));
        let pepper = Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough");
        let (trail, settlements) = (Trail::default(), Settlements::new());
        let audit = AuditLayer::new(trail.clone());
        let layer = GatewayLayer::new()
            .clock(clock.clone())
            .settlements(settlements.clone())
            .audit(&audit)
            .auth(KeyAuthLayer::new(keys.clone(), pepper.clone()))
            .rate_limit(RateLimitLayer::new(limits.clone()))
            .budget(BudgetLayer::new(budgets.clone()));
        let client = front(provider.clone());
        let upstream = |dialect| {
            let credential = Credential::x_api_key("sk-canary-upstream").expect("plain letters");
            Provider::with_client(dialect, "http://sim.invalid", credential, client.clone()).expect("a URL")
        };
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, upstream(Dialect::Anthropic))
            .upstream("openai", Dialect::OpenAiChat, upstream(Dialect::OpenAiChat))
            .alias("fast", ["claude-haiku-5-5"])
            .models([Model::anthropic("claude-haiku-5-5"), Model::anthropic("claude-opus-5-5"), Model::openai("gpt-5")])
            .layer(change(layer))
            .build()
            .expect("a gateway");
        World { gateway, provider, clock, keys, budgets, limits, pepper, audit, trail, settlements }
    }

    pub(crate) async fn mint(&self, principal: Principal) -> VirtualKey {
        self.mint_as(principal, |record| record).await
    }

    pub(crate) async fn mint_as(
        &self,
        principal: Principal,
        change: impl FnOnce(KeyRecord) -> KeyRecord,
    ) -> VirtualKey {
        let key = VirtualKey::mint(Environment::Test).expect("randomness");
        let now = "2026-11-24T08:00:00Z".parse().expect("a time");
        let record = change(KeyRecord::new(&key, &self.pepper, principal, now));
        assert!(self.keys.put(&record).await.expect("memory").is_written(), "a new key");
        key
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        ask(self.gateway.clone(), request).await
    }

    /// Every record so far.
    pub(crate) async fn records(&self) -> Vec<AuditRecord> {
        self.audit.flush().await;
        self.trail.records()
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The status, the type of the error, and its code if the dialect has one.
    pub(crate) fn error(&self) -> (u16, String, Value) {
        let error = &self.json()["error"];
        (self.status.as_u16(), error["type"].as_str().unwrap_or_default().to_owned(), error["code"].clone())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn ask<S>(service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (parts, body) = service.oneshot(request).await.expect("infallible").into_parts();
    let text = tokio::time::timeout(Duration::from_secs(10), body.collect()).await.expect("it ends").expect("whole");
    let text = String::from_utf8(text.to_bytes().to_vec()).expect("UTF-8");
    let answer = Answer { status: parts.status, headers: parts.headers, text };
    canary::assert_silent("an answer", format!("{answer:?}").as_bytes());
    answer
}

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn post(path: &str, key: &VirtualKey, body: &Value) -> Request<Body> {
    Request::post(path).header("x-api-key", key.expose()).body(Body::from(body.to_string())).expect("a request")
}

pub(crate) fn get(path: &str, key: &VirtualKey) -> Request<Body> {
    Request::get(path)
        .header("authorization", format!("Bearer {}", key.expose()))
        .body(Body::empty())
        .expect("a request")
}

/// A sink that keeps records in memory.
#[derive(Clone, Default)]
pub(crate) struct Trail(Arc<Mutex<Vec<AuditRecord>>>);

impl Trail {
    pub(crate) fn records(&self) -> Vec<AuditRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl AuditSink for Trail {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(records);
        Ok(())
    }
}
