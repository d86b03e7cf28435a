//! Layers inside other services: axum's routers, bodies of any type, and the trait bounds that frameworks require.

use std::convert::Infallible;

use async_trait::async_trait;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use jiff::Timestamp;
use tollgate::audit::TracingSink;
use tollgate::domain::content::Content;
use tollgate::domain::key::Pepper;
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::rejection::RejectionKind;
use tollgate::rewrite::{CostInUsage, WithholdUsage};
use tollgate::route::ModelTable;
use tollgate::store::StoreError;
use tollgate::store::content::ContentSink;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits, MemoryStore};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{
    AdmissionLayer, AuditLayer, Body, BudgetLayer, Call, CallLayer, ContentLayer, Dialect, Gate, GateLayer, Gateway,
    GatewayLayer, IngestLayer, KeyAuthLayer, MeterLayer, RateLimitLayer, Rejection, RewriteLayer, RouteLayer,
    TranslateLayer,
};
use tower::util::MapResponseLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::attempts::nowhere;
use crate::support::Outcomes;

fn gateway() -> Gateway {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    Gateway::builder().upstream("sim", Dialect::Anthropic, provider.expect("a URL")).build().expect("a gateway")
}

fn body() -> String {
    r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#.to_owned()
}

async fn text(response: Response<axum::body::Body>) -> String {
    let bytes = response.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_service_of_ones_own_is_asked_for_no_coding_that_hides_the_usage() {
    for (accepts, asked) in [("br", "identity"), ("gzip, deflate, br, zstd", "gzip, identity")] {
        let service = service_fn(move |request: Request<Body>| async move {
            let codings: Vec<_> = request.headers().get_all("accept-encoding").iter().collect();
            assert_eq!(codings, [asked]);
            Ok::<_, Infallible>(Response::new(Body::from("{}")))
        });
        let request = Request::post("/v1/messages").header("accept-encoding", accepts);
        let request = request.body(Body::from(body())).expect("a request");
        let answer = GatewayLayer::new().layer(service).oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_gateway_nests_in_a_router() {
    let app: Router = Router::new().route("/", get(|| async { "mine" })).nest_service("/llm", gateway());
    let request = Request::post("/llm/v1/messages").body(axum::body::Body::from(body())).expect("a request");
    let answer = app.clone().oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let request = Request::get("/").body(axum::body::Body::empty()).expect("a request");
    assert_eq!(text(app.oneshot(request).await.expect("infallible")).await, "mine");
}

#[tokio::test]
async fn layers_go_around_routes_and_handlers_see_the_call() {
    let handler = |call: Call| async move { call.head().map_or("no head", |_| "a head").to_owned() };
    let app: Router = Router::new()
        .route("/v1/messages", post(handler))
        .layer(GatewayLayer::new())
        .route("/naked", get(|call: Option<Call>| async move { call.is_some().to_string() }))
        .route("/wrong", get(|_: Call| async {}));
    let post = Request::post("/v1/messages").body(axum::body::Body::from(body())).expect("a request");
    assert_eq!(text(app.clone().oneshot(post).await.expect("infallible")).await, "a head");
    let bad = Request::post("/v1/messages").body(axum::body::Body::from("{")).expect("a request");
    assert_eq!(app.clone().oneshot(bad).await.expect("infallible").status(), 400);
    let naked = Request::get("/naked").body(axum::body::Body::empty()).expect("a request");
    assert_eq!(text(app.clone().oneshot(naked).await.expect("infallible")).await, "false");
    let wrong = Request::get("/wrong").body(axum::body::Body::empty()).expect("a request");
    assert_eq!(app.oneshot(wrong).await.expect("infallible").status(), 500);
}

#[tokio::test]
async fn paths_that_are_no_llm_endpoint_pass_a_layer_unread() {
    let app: Router =
        Router::new().route("/upload", post(|body: Bytes| async move { body })).layer(GatewayLayer::new());
    let request = Request::post("/upload").body(axum::body::Body::from("not JSON")).expect("a request");
    assert_eq!(text(app.oneshot(request).await.expect("infallible")).await, "not JSON");
}

#[tokio::test]
async fn one_layer_alone_opens_a_call_and_renders_its_refusals() {
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let alone = IngestLayer::new().layer(inner);
    let request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from_static(b"["))).expect("a request");
    let answer = alone.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 400);
    assert!(answer.headers().contains_key("x-request-id"));
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("invalid_request_error"));
}

/// The bounds that axum and hyper require of a service. The test is that this compiles.
fn servable<S, B>(_: &S)
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
{
}

#[tokio::test]
async fn a_handler_refuses_by_a_rejection_which_is_told_and_recorded_as_one() {
    let (mut outcomes, observer) = Outcomes::new();
    let refuses =
        async || Err::<&str, _>(Rejection::new(RejectionKind::ModelNotAllowed, "not this one, and not today"));
    let app = Router::new().route("/v1/messages", post(refuses)).layer(GatewayLayer::new().on_close(observer));
    let request = Request::post("/v1/messages").body(axum::body::Body::from(body())).expect("a request");
    let answer = app.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 400);
    let text = answer.into_body().collect().await.expect("whole").to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(json["error"]["message"], "not this one, and not today", "{json}");
    let outcome = outcomes.next().await;
    assert_eq!((outcome.end, outcome.rejection), (End::Refused, Some(RejectionKind::ModelNotAllowed)));
}

/// A service for requests with any type of body.
#[derive(Clone)]
struct Anything;

impl<B> Service<Request<B>> for Anything {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

/// Puts each layer around a service, into a `ServiceBuilder` and around a route, for every type of body that occurs
/// there. Returns the layers' names.
macro_rules! around {
    ($($layer:ident::$made:ident($($with:expr),*)),* $(,)?) => {{
        $(
            let made = $layer::$made($($with),*);
            servable::<_, axum::body::Body>(&made.layer(Anything));
            servable::<_, Incoming>(&made.layer(Anything));
            servable::<_, Body>(&made.layer(Anything));
            servable::<_, Incoming>(&ServiceBuilder::new().layer(made.clone()).service(Anything));
            let _: Router = Router::new().route("/", get(async || {})).route_layer(made);
        )*
        vec![$(stringify!($layer)),*]
    }};
}

#[tokio::test]
async fn every_layer_goes_around_services_and_routes_of_any_body() {
    let gateway = gateway();
    servable::<_, axum::body::Body>(&gateway);
    servable::<_, Incoming>(&gateway);
    servable::<_, Full<Bytes>>(&gateway);
    let pepper = Pepper::new(b"32 random bytes from your vault.").expect("long enough");
    let mut tried = around! {
        AdmissionLayer::new(MemoryStore::new()),
        AuditLayer::new(TracingSink::new()),
        BudgetLayer::new(MemoryBudgets::new()),
        CallLayer::new(),
        GateLayer::new(Open),
        GatewayLayer::new(),
        IngestLayer::new(),
        KeyAuthLayer::new(MemoryKeys::new(), pepper),
        MeterLayer::new(),
        RateLimitLayer::new(MemoryLimits::new()),
        RewriteLayer::new(CostInUsage::new()),
        RouteLayer::new(ModelTable::new()),
        TranslateLayer::new(Dialect::Anthropic),
    };
    // `ContentLayer` keeps what an outer layer has read, so its requests always have a `Body`.
    let content = ContentLayer::new(Forgets);
    servable::<_, Body>(&content.layer(Anything));
    let read = ServiceBuilder::new().layer(IngestLayer::new()).layer(content);
    servable::<_, axum::body::Body>(&read.clone().service(Anything));
    servable::<_, Incoming>(&read.clone().service(Anything));
    let _: Router = Router::new().route("/", get(async || {})).route_layer(read);
    tried.push("ContentLayer");

    let root = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).expect("readable");
    let exported = root.lines().filter(|line| line.starts_with("pub use "));
    let mut layers: Vec<_> = exported
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric()).filter(|name| name.ends_with("Layer")))
        .collect();
    layers.sort_unstable();
    tried.sort_unstable();
    assert_eq!(tried, layers, "each that the root has");
}

/// A gate that admits every call.
struct Open;

#[async_trait]
impl Gate for Open {
    async fn admit(&self, _parts: &mut Parts, _call: &Call) -> Result<(), Rejection> {
        Ok(())
    }
}

/// A sink that keeps nothing.
struct Forgets;

#[async_trait]
impl ContentSink for Forgets {
    async fn write(&self, _contents: &[Content]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete_before(&self, _end: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// A service that is ready for one call. A clone is not ready, and panics if it is called.
struct Once {
    ready: bool,
}

impl Clone for Once {
    fn clone(&self) -> Self {
        Once { ready: false }
    }
}

impl Service<Request<Body>> for Once {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    async fn twice<S>(mut service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        for _ in 0..2 {
            let ready = service.ready().await.expect("infallible");
            let request = Request::get("/v1/models").body(Body::empty()).expect("a request");
            assert_eq!(ready.call(request).await.expect("infallible").status(), 200);
        }
    }
    let once = Once { ready: false };
    twice(CallLayer::new().layer(once.clone())).await;
    twice(IngestLayer::new().layer(once.clone())).await;
    twice(MeterLayer::new().layer(once.clone())).await;
    twice(GateLayer::new(Vec::<Box<dyn Gate>>::new()).layer(once.clone())).await;
    twice(RouteLayer::new(ModelTable::new()).layer(once.clone())).await;
    twice(RewriteLayer::new(WithholdUsage::new()).layer(once.clone())).await;
    twice(GatewayLayer::new().layer(once)).await;
}

#[tokio::test]
async fn a_call_opened_outside_of_a_mount_is_known_for_what_it_is_within() {
    let mounted: Router = Router::new().nest_service("/llm", gateway());
    let app = CallLayer::new().layer(mounted);
    let request = Request::post("/llm/v1/messages").body(axum::body::Body::from(body())).expect("a request");
    assert_eq!(app.clone().oneshot(request).await.expect("infallible").status(), 200);
    let bad = Request::post("/llm/v1/messages").body(axum::body::Body::from("{")).expect("a request");
    let answer = app.oneshot(bad).await.expect("infallible");
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    assert!(bytes.starts_with(br#"{"type":"error""#), "in Anthropic's shape: {bytes:?}");
}

#[tokio::test]
async fn a_route_whose_path_says_nothing_can_be_named() {
    let endpoint = tollgate::domain::dialect::Endpoint::of("/v1/messages");
    let handler = |call: Call| async move { call.head().map_or("", |head| head.model()).to_owned() };
    let app: Router = Router::new().route("/ask", post(handler)).layer(GatewayLayer::new().endpoint(endpoint));
    let request = Request::post("/ask").body(axum::body::Body::from(body())).expect("a request");
    assert_eq!(text(app.oneshot(request).await.expect("infallible")).await, "claude-x");
}

#[tokio::test]
async fn a_refusal_that_a_framework_has_measured_goes_out_with_its_own_length() {
    struct Closed;
    #[async_trait::async_trait]
    impl Gate for Closed {
        async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
            Err(Rejection::new(RejectionKind::InvalidRequest, "closed"))
        }
    }
    // The refusal travels to the outer layer as a response without a body, to which axum adds `content-length: 0`.
    let inner: Router = Router::new().route("/v1/messages", post(|| async {})).route_layer(GateLayer::new(Closed));
    let app = GatewayLayer::new().layer(inner);
    let request = Request::post("/v1/messages").body(Body::from(body())).expect("a request");
    let answer = app.oneshot(request).await.expect("infallible");
    assert_eq!((answer.status().as_u16(), answer.headers().get("content-length")), (400, None));
    assert!(!answer.into_body().collect().await.expect("whole").to_bytes().is_empty());
}

#[tokio::test]
async fn what_a_hosts_other_routes_answer_keeps_its_ids_and_its_caching() {
    let events = || async {
        let headers = [("content-type", "text/event-stream"), ("cache-control", "max-age=9"), ("x-request-id", "mine")];
        (headers, "data: 1\n\n")
    };
    let app: Router = Router::new().route("/events", get(events)).layer(GatewayLayer::new());
    let request = Request::get("/events").body(axum::body::Body::empty()).expect("a request");
    let answer = app.oneshot(request).await.expect("infallible");
    assert_eq!(answer.headers()["x-request-id"], "mine");
    assert_eq!(answer.headers()["cache-control"], "max-age=9");
}

#[test]
fn a_gateway_that_cannot_be_meant_is_not_built() {
    let builder = |names: &[(&'static str, Dialect)]| {
        names.iter().fold(Gateway::builder(), |builder, (name, dialect)| {
            let provider = Provider::with_client(*dialect, "http://sim.invalid", None, Simulated::new());
            builder.upstream(*name, *dialect, provider.expect("a URL"))
        })
    };
    let both = [("a", Dialect::Anthropic), ("o", Dialect::OpenAiChat)];
    let problem = |builder: tollgate::gateway::GatewayBuilder| builder.build().err().map(|error| error.to_string());
    assert_eq!(problem(builder(&both)), None);
    assert_eq!(problem(builder(&both).alias("fast", ["claude-haiku-5-5", "gpt-5-mini"])), None);
    let only = || builder(&both[..1]);
    for (builder, words) in [
        (builder(&[]), "no upstream"),
        (builder(&[both[0], both[0]]), "two upstreams have the name `a`"),
        (builder(&[both[0], ("b", Dialect::Anthropic)]), "upstream `b`"),
        (only().alias("cheap", ["gpt-5-mini"]), "alias `cheap`"),
        // One of several targets of the alias could never be used.
        (only().alias("fast", ["claude-haiku-5-5", "gpt-5-mini"]), "alias `fast` stands for `gpt-5-mini`"),
        (only().alias("none", [] as [&str; 0]), "alias `none` has no models"),
        (only().layer(GatewayLayer::new()).layer(GatewayLayer::new()), "`layer` is set twice"),
        (
            only().alias("fast", ["claude-haiku-5-5"]).layer(GatewayLayer::new().router(ModelTable::new())),
            "give it the aliases",
        ),
    ] {
        let problem = problem(builder).expect(words);
        assert!(problem.contains(words), "{problem}");
    }
    // Each of these configurations would refuse every call.
    use tollgate::store::memory::{MemoryLimits, MemoryStore};
    use tollgate::{AdmissionLayer, RateLimitLayer};
    let twice = GatewayLayer::new().admission(AdmissionLayer::new(MemoryStore::new()));
    let twice = only().layer(twice.rate_limit(RateLimitLayer::new(MemoryLimits::new())));
    assert!(problem(twice).expect("both").contains("`admission` replaces `rate_limit`"));
    let routed = GatewayLayer::new().router(ModelTable::new());
    assert!(problem(builder(&[]).layer(routed)).expect("none").contains("no upstream"));
    // With a router of the host's own, two upstreams of one dialect are no problem.
    let routed = builder(&[both[0], ("b", Dialect::Anthropic)]);
    let table = ModelTable::new().pattern("*", "b", Dialect::Anthropic);
    assert_eq!(problem(routed.layer(GatewayLayer::new().router(table))), None);
}

#[tokio::test]
async fn what_a_host_answers_in_the_place_of_an_upstream_that_is_not_there_goes_out_as_it_is() {
    async fn ask(map: fn(Response<Body>) -> Response<Body>) -> (u16, String, Outcome) {
        let (mut outcomes, observer) = Outcomes::new();
        let inner = Gateway::builder().upstream("lost", Dialect::Anthropic, nowhere()).build().expect("a gateway");
        let stack = GatewayLayer::new().on_close(observer).layer(MapResponseLayer::new(map).layer(inner));
        let request = Request::post("/v1/messages").body(Body::from(body())).expect("a request");
        let answer = stack.oneshot(request).await.expect("infallible");
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned(), outcomes.next().await)
    }
    let mapped: [fn(Response<Body>) -> Response<Body>; 2] = [
        |_| Response::builder().status(503).body(Body::from("mine")).expect("an answer"),
        |answer| {
            let (mut parts, _) = answer.into_parts();
            parts.status = StatusCode::SERVICE_UNAVAILABLE;
            Response::from_parts(parts, Body::from("mine"))
        },
    ];
    for map in mapped {
        let (status, text, outcome) = ask(map).await;
        assert_eq!((status, &*text, outcome.end), (503, "mine", End::Failed));
        assert_eq!(outcome.attempts[0].end, AttemptEnd::Unsent);
    }
    // If the host sets no body, the gateway's own error goes out.
    let only_status = |mut answer: Response<Body>| {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer
    };
    let (status, text, outcome) = ask(only_status).await;
    assert!(status == 503 && text.contains("could not be reached"), "{status}: {text}");
    assert_eq!(outcome.rejection, Some(RejectionKind::UpstreamUnreachable));
    assert_eq!(ask(|answer| answer).await.0, 502);
}

#[tokio::test]
async fn to_head_too_though_the_body_of_what_it_answers_was_left_out() {
    let inner = Gateway::builder().upstream("lost", Dialect::Anthropic, nowhere()).build().expect("a gateway");
    // Like a framework that answers HEAD as it would GET, and leaves the body out.
    let mine = |answer: Response<Body>| {
        let (mut parts, _) = answer.into_parts();
        parts.status = StatusCode::SERVICE_UNAVAILABLE;
        parts.headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
        parts.headers.insert("content-length", http::HeaderValue::from_static("4"));
        Response::from_parts(parts, Body::empty())
    };
    let stack = CallLayer::new().layer(MapResponseLayer::new(mine).layer(inner));
    let request = Request::head("/v1/messages").body(Body::empty()).expect("a request");
    let answer = stack.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(answer.headers()["content-length"], "4");
}
