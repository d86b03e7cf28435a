//! Calls with several targets.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::domain::catalog::{Abilities, Catalog};
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::rejection::RejectionKind;
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, NotSent, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::Outcomes;

const BODY: &str = r#"{"model": "best", "max_tokens": 9, "messages": []}"#;

fn request() -> Request<Body> {
    Request::post("/v1/messages").body(Body::from(BODY)).expect("a request")
}

/// A port that nothing listens on.
pub(crate) fn nowhere() -> Provider<HttpClient> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    Provider::with_client(Dialect::Anthropic, &url, None, HttpClient::new().expect("TLS")).expect("a URL")
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_gives_way_to_the_next_within_one_call() {
    let (mut outcomes, observer) = Outcomes::new();
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated.clone());
    let table = tollgate::route::ModelTable::new()
        .pattern("claude-lost", "lost", Dialect::Anthropic)
        .pattern("claude-*", "found", Dialect::Anthropic)
        .alias("best", ["claude-lost", "claude-found"]);
    let gateway = Gateway::builder()
        .upstream("lost", Dialect::Anthropic, nowhere())
        .upstream("found", Dialect::Anthropic, provider.expect("a URL"))
        .layer(GatewayLayer::new().router(table).on_close(observer))
        .build()
        .expect("a gateway");

    let answer = gateway.oneshot(request()).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("whole");

    let outcome = outcomes.next().await;
    assert_eq!((outcome.end, outcome.model.as_deref()), (End::Complete, Some("best")));
    let models: Vec<_> = outcome.attempts.iter().map(|a| (&*a.target.as_ref().expect("routed").model, a.end)).collect();
    assert_eq!(models, [("claude-lost", AttemptEnd::Unsent), ("claude-found", AttemptEnd::Complete)]);
    // The alias is spliced in. The rest of the body stays the client's, including its white space.
    assert_eq!(simulated.received()[0].body, BODY.replace("best", "claude-found"));
    outcomes.none_left().await;
}

/// A client that fails every request without reading it.
#[derive(Clone)]
struct Refuses {
    /// Fails in `poll_ready` instead of in `call`.
    early: bool,
    error: fn() -> std::io::Error,
}

impl tower::Service<Request<Body>> for Refuses {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Response<Body>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(if self.early { Err((self.error)()) } else { Ok(()) })
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Err((self.error)()))
    }
}

#[tokio::test]
async fn a_target_whose_client_took_no_request_gives_way_to_the_next_whatever_client_it_is() {
    let (shed, refused) = (|| std::io::Error::other("overloaded"), || std::io::ErrorKind::ConnectionRefused.into());
    // Another client reads the body before it connects.
    let reads = service_fn(|request: Request<Body>| async {
        request.into_body().collect().await.expect("in memory");
        Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    });
    let says_so = service_fn(|request: Request<Body>| async {
        request.into_body().collect().await.expect("in memory");
        Err::<Response<Body>, _>(NotSent::new("the proxy answered 503"))
    });
    let lost = |upstream: tollgate::gateway::GatewayBuilder, client: Refuses| {
        let provider = Provider::with_client(Dialect::Anthropic, "http://a.invalid", None, client).expect("a URL");
        upstream.upstream("lost", Dialect::Anthropic, provider)
    };
    let builders = [
        lost(Gateway::builder(), Refuses { early: true, error: shed }),
        lost(Gateway::builder(), Refuses { early: false, error: shed }),
        lost(Gateway::builder(), Refuses { early: false, error: refused }),
        Gateway::builder().upstream(
            "lost",
            Dialect::Anthropic,
            Provider::with_client(Dialect::Anthropic, "http://a.invalid", None, reads).expect("a URL"),
        ),
        Gateway::builder().upstream(
            "lost",
            Dialect::Anthropic,
            Provider::with_client(Dialect::Anthropic, "http://a.invalid", None, says_so).expect("a URL"),
        ),
    ];
    for (at, builder) in builders.into_iter().enumerate() {
        let (mut outcomes, observer) = Outcomes::new();
        let spare = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
        let table = tollgate::route::ModelTable::new()
            .pattern("claude-lost", "lost", Dialect::Anthropic)
            .pattern("claude-*", "spare", Dialect::Anthropic)
            .alias("best", ["claude-lost", "claude-spare"]);
        let gateway = builder
            .upstream("spare", Dialect::Anthropic, spare.expect("a URL"))
            .layer(GatewayLayer::new().router(table).on_close(observer))
            .build()
            .expect("a gateway");
        let answer = gateway.oneshot(request()).await.expect("infallible");
        assert_eq!(answer.status(), 200, "client {at}");
        answer.into_body().collect().await.expect("whole");
        let ends: Vec<_> = outcomes.next().await.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [AttemptEnd::Unsent, AttemptEnd::Complete], "client {at}");
    }
}

#[tokio::test]
async fn a_refusal_of_somebody_before_an_upstream_is_for_the_call_and_no_target_behind_is_asked() {
    use axum::response::IntoResponse as _;
    let (mut outcomes, observer) = Outcomes::new();
    let spare = Simulated::new().recording();
    let guard = service_fn(|_: Request<Body>| async {
        let refused = tollgate::Rejection::new(RejectionKind::InvalidRequest, "not with that in it");
        Ok::<_, Infallible>(refused.into_response().map(Body::new))
    });
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, spare.clone());
    let table = tollgate::route::ModelTable::new()
        .pattern("claude-guarded", "guarded", Dialect::Anthropic)
        .pattern("claude-*", "spare", Dialect::Anthropic)
        .alias("best", ["claude-guarded", "claude-spare"]);
    let gateway = Gateway::builder()
        .upstream("guarded", Dialect::Anthropic, guard)
        .upstream("spare", Dialect::Anthropic, provider.expect("a URL"))
        .layer(GatewayLayer::new().router(table).on_close(observer))
        .build()
        .expect("a gateway");
    assert_eq!(gateway.oneshot(request()).await.expect("infallible").status(), 400);
    assert_eq!((outcomes.next().await.attempts.len(), spare.received().len()), (1, 0));
}

#[tokio::test]
async fn a_target_that_may_have_worked_is_never_followed_by_another() {
    let (mut outcomes, observer) = Outcomes::new();
    let slow = Simulated::new();
    slow.script(tollgate::testing::Script::new().head_delay(Duration::from_secs(5)));
    let spare = Simulated::new().recording();
    let provider =
        |simulated| Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated).expect("a URL");
    let table = tollgate::route::ModelTable::new()
        .pattern("claude-slow", "slow", Dialect::Anthropic)
        .pattern("claude-*", "spare", Dialect::Anthropic)
        .alias("best", ["claude-slow", "claude-spare"]);
    let gateway = Gateway::builder()
        .upstream("slow", Dialect::Anthropic, provider(slow).first_byte_timeout(Duration::from_millis(50)))
        .upstream("spare", Dialect::Anthropic, provider(spare.clone()))
        .layer(GatewayLayer::new().router(table).on_close(observer))
        .build()
        .expect("a gateway");

    let answer = gateway.oneshot(request()).await.expect("infallible");
    assert_eq!(answer.status(), 504);
    answer.into_body().collect().await.expect("whole");
    let outcome = outcomes.next().await;
    assert_eq!((outcome.end, outcome.attempts.len()), (End::Failed, 1));
    assert_eq!(outcome.attempts[0].end, AttemptEnd::NoAnswer);
    assert!(spare.received().is_empty());
}

/// Asks these models for a web search, which Chat Completions cannot express. If `is_lost`, Claude's host is down.
async fn search(models: &[&'static str], is_lost: bool) -> (Response<Body>, Outcome, Simulated) {
    let (mut outcomes, observer) = Outcomes::new();
    let simulated = Simulated::new().recording();
    let provider =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, simulated.clone()).expect("a URL");
    let builder = match is_lost {
        true => Gateway::builder().upstream("a", Dialect::Anthropic, nowhere()),
        false => Gateway::builder().upstream("a", Dialect::Anthropic, provider(Dialect::Anthropic)),
    };
    let gateway = builder
        .upstream("o", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
        .alias("best", models.iter().copied())
        .layer(GatewayLayer::new().on_close(observer))
        .build()
        .expect("a gateway");
    let body = r#"{"model":"best","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
    let request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
    let (parts, body) = gateway.oneshot(request).await.expect("infallible").into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    (Response::from_parts(parts, Body::from(body)), outcomes.next().await, simulated)
}

#[tokio::test]
async fn a_target_that_cannot_be_asked_gives_way_to_one_that_can() {
    for models in [&["gpt-5-mini", "claude-haiku-5-5"][..], &["claude-haiku-5-5", "gpt-5-mini"]] {
        let (answer, outcome, simulated) = search(models, false).await;
        assert_eq!(answer.status(), 200, "{models:?}");
        assert!(!answer.headers().contains_key("x-tollgate-warnings"), "nothing was lost: {:?}", answer.headers());
        let targets: Vec<_> = outcome.attempts.iter().map(|a| &*a.target.as_ref().expect("routed").model).collect();
        assert_eq!(targets, ["claude-haiku-5-5"], "nothing was sent to the other");
        assert_eq!(simulated.received().len(), 1);
    }
}

#[tokio::test]
async fn an_outage_is_told_as_one_whichever_targets_cannot_be_asked() {
    let (asked, not) = ("claude-haiku-5-5", "gpt-5-mini");
    for models in [&[asked, not][..], &[not, asked], &[not, asked, "gpt-5"]] {
        let (answer, outcome, simulated) = search(models, true).await;
        assert_eq!(answer.status(), 502, "{models:?}");
        assert!(!answer.headers().contains_key("x-should-retry"), "it may pass: {:?}", answer.headers());
        assert_eq!((outcome.end, outcome.rejection), (End::Failed, Some(RejectionKind::UpstreamUnreachable)));
        let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [AttemptEnd::Unsent]);
        assert!(simulated.received().is_empty());
    }
}

#[tokio::test]
async fn what_no_target_can_be_asked_is_refused_for_good() {
    let (answer, outcome, simulated) = search(&["gpt-5-mini", "gpt-5"], false).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-should-retry"]), (400, &"false".parse().expect("text")));
    assert_eq!((outcome.rejection, outcome.attempts.len()), (Some(RejectionKind::Unsupported), 0));
    assert!(simulated.received().is_empty());
}

/// Returns the body that goes upstream for `asked`, sent to `path`, under these caps.
async fn capped(path: &str, asked: &'static str, caps: &[u64]) -> String {
    let simulated = Simulated::new().recording();
    let provider =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, simulated.clone()).expect("a URL");
    let layer = caps.iter().fold(GatewayLayer::new(), |layer, cap| layer.gate(Cap(*cap)));
    let gateway = Gateway::builder()
        .upstream("a", Dialect::Anthropic, provider(Dialect::Anthropic))
        .upstream("o", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
        .layer(layer)
        .build()
        .expect("a gateway");
    let request = Request::post(path).body(Body::from(asked)).expect("a request");
    drop(gateway.oneshot(request).await);
    String::from_utf8_lossy(&simulated.received()[0].body).into_owned()
}

#[tokio::test]
async fn the_least_of_several_caps_and_the_clients_own_counts_and_is_a_splice() {
    const A: &str = "/v1/messages";
    const B: &str = "/v1/chat/completions";
    for (path, asked, caps, sent) in [
        (
            A,
            r#"{"model":"claude-x","max_tokens": 64000 ,"messages":[]}"#,
            &[2048, 1024][..],
            r#"{"model":"claude-x","max_tokens": 1024 ,"messages":[]}"#,
        ),
        (
            A,
            r#"{"model":"claude-x","max_tokens":10,"messages":[]}"#,
            &[1024],
            r#"{"model":"claude-x","max_tokens":10,"messages":[]}"#,
        ),
        (A, r#"{"model":"claude-x","messages":[]}"#, &[7], r#"{"max_tokens":7,"model":"claude-x","messages":[]}"#),
        // With the old and the new name of the limit, neither is raised.
        (
            B,
            r#"{"model":"x","max_tokens":10,"max_completion_tokens":5000}"#,
            &[1000],
            r#"{"model":"x","max_tokens":10,"max_completion_tokens":1000}"#,
        ),
        (B, r#"{"model":"x","max_tokens":null}"#, &[7], r#"{"model":"x","max_tokens":7}"#),
        // The limit of the Responses API means nothing here.
        (
            B,
            r#"{"model":"x","max_output_tokens":1}"#,
            &[1000],
            r#"{"max_tokens":1000,"model":"x","max_output_tokens":1}"#,
        ),
        // The cap has the name that the model accepts.
        (B, r#"{"model":"gpt-5","n":1}"#, &[7], r#"{"max_completion_tokens":7,"model":"gpt-5","n":1}"#),
        // Counting tokens has no output to cap, and its API rejects the member.
        (
            "/v1/messages/count_tokens",
            r#"{"model":"claude-x","messages":[]}"#,
            &[7],
            r#"{"model":"claude-x","messages":[]}"#,
        ),
    ] {
        assert_eq!(capped(path, asked, caps).await, sent);
    }
}

/// Mistral's API answers 422 to `stream_options`, and states usage without being asked.
#[tokio::test]
async fn a_stream_of_a_model_that_refuses_the_question_is_not_asked_for_usage() {
    const STREAM: &[u8] = br#"data: {"id":"1","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}

data: {"id":"1","choices":[],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}}

data: [DONE]

"#;
    let mut abilities = Abilities::of("mistral-large-latest", Dialect::OpenAiChat);
    abilities.usage_option = false;
    let asked = Arc::new(Mutex::new(Bytes::new()));
    let seen = asked.clone();
    let provider = service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            *seen.lock().expect("no panic") = request.into_body().collect().await.expect("in memory").to_bytes();
            let answer = Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from(Bytes::from_static(STREAM)));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    let (mut outcomes, observer) = Outcomes::new();
    let catalog = Catalog::builtin().with_abilities("mistral-*", abilities);
    let gateway = Gateway::builder()
        .upstream("mistral", Dialect::OpenAiChat, provider)
        .layer(GatewayLayer::new().catalog(catalog).on_close(observer))
        .build()
        .expect("a gateway");
    let body = r#"{"model":"mistral-large-latest","stream":true,"messages":[]}"#;
    let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
    let answer = gateway.oneshot(request).await.expect("infallible").into_body().collect().await.expect("whole");
    assert_eq!(&*asked.lock().expect("no panic"), body.as_bytes());
    assert_eq!(&*answer.to_bytes(), STREAM, "what comes unasked is the client's");
    let usage = outcomes.next().await.usage.expect("it was stated");
    assert_eq!((usage.input, usage.output), (7, 2));
}

#[tokio::test]
async fn gates_of_a_gateway_are_asked_for_llm_endpoints_alone() {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let gateway = Gateway::builder()
        .upstream("a", Dialect::Anthropic, provider.expect("a URL"))
        .layer(GatewayLayer::new().gate(NeedsHead))
        .build()
        .expect("a gateway");
    let request = Request::get("/v1/models").body(Body::empty()).expect("a request");
    assert_eq!(gateway.oneshot(request).await.expect("infallible").status(), 200);
}

struct NeedsHead;

#[async_trait::async_trait]
impl tollgate::Gate for NeedsHead {
    async fn admit(&self, _: &mut http::request::Parts, call: &tollgate::Call) -> Result<(), tollgate::Rejection> {
        call.require_head().map(|_| ())
    }
}

#[tokio::test]
async fn a_body_changed_behind_ingest_is_refused_and_not_corrupted() {
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated.clone());
    let table = tollgate::route::ModelTable::new().pattern("*", "a", Dialect::Anthropic).alias("best", ["claude-x"]);
    let dispatch =
        tollgate::gateway::Dispatch::new(tollgate::gateway::Upstreams::new().add("a", provider.expect("a URL")));
    let meddler = tower::util::MapRequestLayer::new(|request: Request<Body>| {
        request.map(|_| Body::from(r#"{"system":"be kind","model":"best","max_tokens":9,"messages":[]}"#))
    });
    let stack = tower::ServiceBuilder::new()
        .layer(tollgate::IngestLayer::new())
        .layer(tollgate::RouteLayer::new(table))
        .layer(meddler)
        .service(dispatch);
    assert_eq!(stack.oneshot(request()).await.expect("infallible").status(), 500);
    assert!(simulated.received().is_empty());
}

#[tokio::test]
async fn a_provider_serves_no_path_of_the_clients_own() {
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid/tenant-a", None, simulated.clone());
    let service = GatewayLayer::new().layer(provider.expect("a URL"));
    let request = Request::delete("/../tenant-b/v1/files/f1").body(Body::empty()).expect("a request");
    assert_eq!(service.oneshot(request).await.expect("infallible").status(), 404);
    assert!(simulated.received().is_empty());
}

pub(crate) struct Cap(pub(crate) u64);

#[async_trait::async_trait]
impl tollgate::Gate for Cap {
    async fn admit(&self, _parts: &mut http::request::Parts, call: &tollgate::Call) -> Result<(), tollgate::Rejection> {
        call.cap_max_tokens(self.0);
        Ok(())
    }
}
