//! Measures a call through the whole gateway, beside the bare upstream. There are no sockets.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;

use crate::support::feed::{Chunks, Stream, conversation, headers, request};
use crate::support::{Bench, Per, at_once, drain};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use tokio::runtime::Runtime;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::content::{Content, Keep};
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::cached::CachedKeys;
use tollgate::store::content::ContentSink;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::upstream::{Credential, Provider};
use tollgate::{
    AuditLayer, Body, BudgetLayer, ContentLayer, Dialect, Gateway, GatewayLayer, KeyAuthLayer, RateLimitLayer,
};
use tower::{Service, ServiceExt, service_fn};

const ANSWER: &str = r#"{"id":"msg_01ABCDEFGHJKLMNPQRSTUVWX","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[{"type":"text","text":"Hello, I am simulated: no provider was asked."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2095,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":503}}"#;

pub(crate) fn run(bench: &Bench) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Timeouts need a runtime to be entered, although none of them elapses here.
    let _entered = runtime.enter();

    let json = upstream("application/json", || Body::from(Bytes::from_static(ANSWER.as_bytes())));
    let gateway = gateway(Dialect::Anthropic, json.clone());
    bench.group("Anthropic, JSON");
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("claude-haiku-5-5", false, bytes);
        let frames: Arc<[Bytes]> = body.chunks(16 << 10).map(Bytes::copy_from_slice).collect();
        case(bench, &format!("anthropic {size}: bare upstream"), &json, "/v1/messages", || Body::from(body.clone()));
        case(bench, &format!("anthropic {size}: gateway"), &gateway, "/v1/messages", || Body::from(body.clone()));
        case(bench, &format!("anthropic {size} in frames of 16 KB: gateway"), &gateway, "/v1/messages", || {
            Body::new(Chunks::sized(frames.clone()))
        });
    }

    let governed = Governed::new(&runtime, json.clone());
    bench.group("Anthropic, JSON, with key, limits, budgets and audit over memory");
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("claude-haiku-5-5", false, bytes);
        governed.case(bench, &runtime, &format!("anthropic {size}: governed"), &body);
    }

    bench.group("Anthropic, JSON, with every body kept by a task of its own, whose work is counted too");
    let content = ContentLayer::new(Nowhere).keep(Keep::Full);
    let keeping = build(Dialect::Anthropic, json.clone(), GatewayLayer::new().content(&content));
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("claude-haiku-5-5", false, bytes);
        let calls = Cell::new(0_u32);
        case(bench, &format!("anthropic {size}: gateway, content kept"), &keeping, "/v1/messages", || {
            calls.set(calls.get() + 1);
            if calls.get().is_multiple_of(64) {
                runtime.block_on(content.flush());
            }
            Body::from(body.clone())
        });
    }

    let stream = Stream::openai(9, true);
    let stream = upstream("text/event-stream", move || Body::new(stream.by_event()));
    let gateway = self::gateway(Dialect::OpenAiChat, stream.clone());
    bench.group("OpenAI, stream of 9 events, usage not asked for");
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("gpt-5", true, bytes);
        case(bench, &format!("openai {size}: bare upstream"), &stream, "/v1/chat/completions", || {
            Body::from(body.clone())
        });
        case(bench, &format!("openai {size}: gateway, edited"), &gateway, "/v1/chat/completions", || {
            Body::from(body.clone())
        });
    }
}

fn case<S>(bench: &Bench, name: &str, service: &S, path: &'static str, body: impl Fn() -> Body)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let mut headers = headers();
    let length = http_body::Body::size_hint(&body()).exact().expect("bodies of a stated length");
    headers.insert(header::CONTENT_LENGTH, length.into());
    bench.case(name, Per::CALL, || {
        let Ok(answer) = at_once(service.clone().oneshot(request(path, &headers, body())));
        assert_eq!(answer.status(), 200);
        drain(answer.into_body())
    });
}

/// The gateway with every control on. The key has limits on requests and tokens per minute and on parallel calls. The
/// key, its user and its team have budgets.
struct Governed {
    gateway: Gateway,
    headers: http::HeaderMap,
    audit: AuditLayer,
}

impl Governed {
    fn new<S>(runtime: &Runtime, upstream: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let plenty: Money = "1000000".parse().expect("an amount");
        let principal = Principal::new("ada")
            .user("ada")
            .team("search")
            .models(["claude-*"])
            .limit(Measure::Requests, 1 << 40)
            .limit(Measure::Tokens, 1 << 50)
            .limit(Measure::Parallel, 64)
            .budget(Window::Day, plenty)
            .budget(Window::Month, plenty)
            .budget_of(Budget::new(Scope::user("ada"), Window::Month, plenty))
            .budget_of(Budget::new(Scope::team("search"), Window::Month, plenty));
        let key = VirtualKey::mint(Environment::Test).expect("randomness");
        let pepper = Pepper::new(&[7; 32]).expect("long enough");
        let record = KeyRecord::new(&key, &pepper, principal, jiff::Timestamp::UNIX_EPOCH);
        let keys = MemoryKeys::new();
        assert!(runtime.block_on(keys.put(&record)).expect("memory").is_written());
        let audit = AuditLayer::new(Nowhere);
        let layer = GatewayLayer::new()
            .audit(&audit)
            .auth(KeyAuthLayer::new(CachedKeys::new(keys), pepper))
            .rate_limit(RateLimitLayer::new(MemoryLimits::new()))
            .budget(BudgetLayer::new(MemoryBudgets::new()));
        let mut headers = headers();
        headers.insert("x-api-key", HeaderValue::from_str(key.expose()).expect("plain letters"));
        Governed { gateway: build(Dialect::Anthropic, upstream, layer), headers, audit }
    }

    fn case(&self, bench: &Bench, runtime: &Runtime, name: &str, body: &Bytes) {
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let mut calls = 0_u32;
        bench.case(name, Per::CALL, || {
            calls += 1;
            // Include the work for the sink, which is done in batches.
            if calls.is_multiple_of(256) {
                runtime.block_on(self.audit.flush());
            }
            let request = request("/v1/messages", &headers, Body::from(body.clone()));
            let Ok(answer) = at_once(self.gateway.clone().oneshot(request));
            assert_eq!(answer.status(), 200);
            drain(answer.into_body())
        });
    }
}

/// A sink that takes no time.
struct Nowhere;

#[async_trait]
impl AuditSink for Nowhere {
    async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl ContentSink for Nowhere {
    async fn write(&self, _contents: &[Content]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete_before(&self, _end: jiff::Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// An upstream that takes no time to answer.
fn upstream(
    kind: &'static str,
    body: impl Fn() -> Body + Clone + Send + Sync + 'static,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
    service_fn(move |request: Request<Body>| {
        drop(request);
        let mut response = Response::new(body());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert("request-id", HeaderValue::from_static("req_011CSHoEeqs5C35K2UUqR7Fy"));
        ready(Ok(response))
    })
}

fn gateway<S>(dialect: Dialect, upstream: S) -> Gateway
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    build(dialect, upstream, GatewayLayer::new())
}

fn build<S>(dialect: Dialect, upstream: S, layer: GatewayLayer) -> Gateway
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let credential = Credential::x_api_key("sk-ant-api03-fedcba98").expect("plain letters");
    let provider = Provider::with_client(dialect, "http://upstream.local", credential, upstream).expect("a plain URL");
    Gateway::builder().upstream("upstream", dialect, provider).layer(layer).build().expect("a gateway")
}
