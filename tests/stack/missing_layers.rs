//! A hand-built stack that lacks a layer answers 500 and logs which layer is missing.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::audit::TracingSink;
use tollgate::dialect::head::Head;
use tollgate::domain::budget::Window;
use tollgate::domain::key::Pepper;
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::domain::target::Target;
use tollgate::gateway::{Dispatch, Upstreams};
use tollgate::route::{ModelTable, Route};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{
    AuditLayer, Body, BudgetLayer, Call, CallLayer, Dialect, Gate, GateLayer, GatewayLayer, IngestLayer, KeyAuthLayer,
    RateLimitLayer, Rejection, RouteLayer, TranslateLayer,
};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::log::Log;

const BODY: &str = r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#;

fn request() -> Request<Body> {
    Request::post("/v1/messages").body(Body::from(BODY)).expect("a request")
}

fn dispatch() -> Dispatch {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    Dispatch::new(Upstreams::new().add("anthropic", provider.expect("a URL")))
}

fn table(upstream: &'static str) -> ModelTable {
    ModelTable::new().pattern("claude*", upstream, Dialect::Anthropic)
}

/// Sends the request and returns status, body and log.
async fn ask<S>(service: S) -> (u16, String, String)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (log, _listening) = Log::listen();
    let answer = service.oneshot(request()).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), log.text())
}

fn assert_cured((status, body, log): &(u16, String, String), cure: &str) {
    assert_eq!(*status, 500);
    assert!(body.contains(r#""type":"api_error""#), "{body}");
    assert!(!body.contains(cure), "the cure is for the operator: {body}");
    assert!(log.contains(cure), "the log does not name {cure}: {log}");
}

#[tokio::test]
async fn without_ingest_a_gate_that_needs_the_head_answers_500() {
    struct NeedsHead;
    #[async_trait]
    impl Gate for NeedsHead {
        async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
            call.require_head().map(|_| ())
        }
    }
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    assert_cured(&ask(GateLayer::new(NeedsHead).layer(inner)).await, "IngestLayer");
}

#[tokio::test]
async fn without_ingest_the_route_answers_500() {
    assert_cured(&ask(RouteLayer::new(table("anthropic")).layer(dispatch())).await, "IngestLayer");
}

#[tokio::test]
async fn without_a_route_the_dispatch_answers_500() {
    assert_cured(&ask(IngestLayer::new().layer(dispatch())).await, "RouteLayer");
}

#[tokio::test]
async fn with_nothing_around_it_the_dispatch_answers_500() {
    // No layer has opened a call, so the dispatch itself has to render and log the refusal.
    assert_cured(&ask(dispatch()).await, "outside of the dispatch");
}

#[tokio::test]
async fn with_nothing_around_it_a_provider_answers_500() {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    assert_cured(&ask(provider.expect("a URL")).await, "outside of `Provider`");
}

#[tokio::test]
async fn a_target_whose_upstream_nobody_added_answers_500() {
    let stack =
        ServiceBuilder::new().layer(IngestLayer::new()).layer(RouteLayer::new(table("nowhere"))).service(dispatch());
    assert_cured(&ask(stack).await, "nowhere");
}

#[tokio::test]
async fn a_foreign_layer_that_drops_extensions_answers_500() {
    let forgetful = tower::util::MapRequestLayer::new(|request: Request<Body>| {
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        Request::from_parts(parts, body)
    });
    let stack = ServiceBuilder::new()
        .layer(CallLayer::new())
        .layer(IngestLayer::new())
        .layer(forgetful)
        .layer(RouteLayer::new(table("anthropic")))
        .service(dispatch());
    // The inner layers open their own call, whose body is unread.
    assert_cured(&ask(stack).await, "IngestLayer");
}

#[tokio::test]
async fn a_gate_that_takes_the_call_away_answers_500_before_anything_is_held_or_sent() {
    struct Clears;

    #[async_trait]
    impl Gate for Clears {
        async fn admit(&self, parts: &mut Parts, _call: &Call) -> Result<(), Rejection> {
            parts.extensions.clear();
            Ok(())
        }
    }

    let mine = service_fn(|_: Request<Body>| async { panic!("it is not asked") });
    let mine = mine.map_response(|never: Response<Body>| never).map_err(|never: Infallible| never);
    assert_cured(&ask(GatewayLayer::new().gate(Clears).layer(mine)).await, "a gate removed the call");
}

#[tokio::test]
async fn a_control_around_a_mount_that_hides_the_path_from_it_answers_500() {
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let ask = async |layer: &dyn Fn() -> BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>, path| {
        let answer = layer().oneshot(Request::post(path).body(Body::from(BODY)).expect("a request")).await;
        answer.expect("infallible").status().as_u16()
    };
    let ada = || {
        tower::util::MapRequestLayer::new(|mut request: Request<Body>| {
            request.extensions_mut().insert(Arc::new(Principal::new("ada")));
            request
        })
    };
    let all = || {
        let pass = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())).pass_other_paths();
        ServiceBuilder::new().layer(ada()).layer(pass)
    };
    let around: [(&str, &dyn Fn() -> _); 4] = [
        ("limits", &|| BoxCloneSyncService::new(ada().layer(RateLimitLayer::new(MemoryLimits::new()).layer(inner)))),
        ("budgets", &|| BoxCloneSyncService::new(ada().layer(BudgetLayer::new(MemoryBudgets::new()).layer(inner)))),
        ("audit", &|| BoxCloneSyncService::new(AuditLayer::new(TracingSink::new()).layer(inner))),
        ("all of them, and other paths", &|| BoxCloneSyncService::new(all().service(inner))),
    ];
    for (what, layer) in around {
        for path in ["/llm/v1/messages", "/llm/v1/chat/completions/", "/v2/chat/completions"] {
            assert_eq!(ask(layer, path).await, 500, "{what}: {path}");
        }
        // The inner service may treat these paths as API paths, and no client writes them like this.
        for path in [
            "/v1//messages",
            "/v1/messages//",
            "/V1/messages",
            "/chat/x/../completions",
            "/v1/models/../messages",
            "/v1%2Fmessages",
            "/llm/v1/message%73",
        ] {
            assert_eq!(ask(layer, path).await, 404, "{what}: {path}");
        }
        for path in ["/llm/healthz", "/rooms/7/messages", "/Rooms//7/messages/", "/v1/embedding%73"] {
            assert_eq!(ask(layer, path).await, 200, "{what}: {path}");
        }
    }
}

#[tokio::test]
async fn a_path_that_a_service_may_take_for_an_endpoint_passes_no_key_and_no_gate_by() {
    struct Passes;

    #[async_trait]
    impl Gate for Passes {
        async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
            Ok(())
        }
    }

    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("mine"))) });
    let keys =
        KeyAuthLayer::new(MemoryKeys::new(), Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough"));
    let stacks = [
        ("keys", BoxCloneSyncService::new(keys.layer(inner)), 404),
        ("a gate", BoxCloneSyncService::new(GatewayLayer::new().gate(Passes).layer(inner)), 404),
        ("nothing", BoxCloneSyncService::new(GatewayLayer::new().layer(inner)), 200),
    ];
    for (what, stack, status) in stacks {
        for (path, said) in [("/v1//messages", r#"{"type":"error""#), ("/V1/chat/completions", r#"{"error":{"#)] {
            let mut request = Request::post(path).body(Body::from(BODY)).expect("a request");
            request.extensions_mut().insert(Arc::new(Principal::new("ada").models(["claude-*"])));
            let answer = stack.clone().oneshot(request).await.expect("infallible");
            assert_eq!(answer.status(), status, "{what}: {path}");
            let body = answer.into_body().collect().await.expect("whole").to_bytes();
            let said = if status == 404 { said } else { "mine" };
            assert!(body.starts_with(said.as_bytes()), "{what}: {path}: {body:?}");
        }
    }
}

#[tokio::test]
async fn a_whole_hand_built_stack_answers() {
    let stack = ServiceBuilder::new()
        .layer(CallLayer::new())
        .layer(IngestLayer::new())
        .layer(RouteLayer::new(table("anthropic")))
        .service(dispatch());
    let (status, body, _) = ask(stack).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_callers_own_limits_and_budgets_are_never_passed_over() {
    let ten: tollgate::domain::money::Money = "10".parse().expect("an amount");
    let limited = Principal::new("ada").limit(Measure::Requests, 9);
    let paid = Principal::new("ada").budget(Window::Day, ten);
    let counts = || RateLimitLayer::new(MemoryLimits::new());
    let pays = || BudgetLayer::new(MemoryBudgets::new());
    let stack = |layer: GatewayLayer, principal: &Principal| {
        let principal = Arc::new(principal.clone());
        let identified = tower::util::MapRequestLayer::new(move |mut request: Request<Body>| {
            request.extensions_mut().insert(principal.clone());
            request
        });
        let mine = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        ServiceBuilder::new().layer(identified).layer(layer).service(mine)
    };
    assert_cured(&ask(stack(GatewayLayer::new().budget(pays()), &limited)).await, "RateLimitLayer");
    assert_cured(&ask(stack(GatewayLayer::new().rate_limit(counts()), &paid)).await, "BudgetLayer");
    assert_cured(&ask(stack(GatewayLayer::new(), &paid)).await, "BudgetLayer");
    let whole = GatewayLayer::new().rate_limit(counts()).budget(pays());
    for (principal, expected) in [(&limited, 200), (&Principal::new("ada"), 200), (&paid, 400)] {
        // The budget layer refuses the last, since the price of its model is not known.
        let (status, body, log) = ask(stack(whole.clone(), principal)).await;
        assert_eq!(status, expected, "{body} {log}");
    }
    assert_eq!(ask(stack(GatewayLayer::new(), &Principal::new("ada"))).await.0, 200);

    // `governed_within` declares that an inner stack governs these callers.
    let within = GatewayLayer::new().governed_within();
    assert_eq!(ask(stack(within.clone(), &paid)).await.0, 200);
    assert_eq!(ask(stack(within, &limited)).await.0, 200);

    // The same in a hand-built stack.
    let by_hand = |principal: &Principal| {
        let principal = Arc::new(principal.clone());
        let identified = tower::util::MapRequestLayer::new(move |mut request: Request<Body>| {
            request.extensions_mut().insert(principal.clone());
            request
        });
        ServiceBuilder::new()
            .layer(identified)
            .layer(CallLayer::new())
            .layer(IngestLayer::new())
            .layer(RouteLayer::new(table("anthropic")))
            .service(dispatch())
    };
    assert_cured(&ask(by_hand(&limited)).await, "RateLimitLayer");
    assert_cured(&ask(by_hand(&paid)).await, "BudgetLayer");
}

#[tokio::test]
async fn other_paths_pass_for_those_alone_of_whom_somebody_has_said_who_they_are() {
    let mine = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let stack = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())).pass_other_paths().layer(mine);
    for known in [false, true] {
        let mut request = Request::post("/v1/embeddings").body(Body::from(BODY)).expect("a request");
        if known {
            request.extensions_mut().insert(Arc::new(Principal::new("ada")));
        }
        let answer = stack.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), if known { 200 } else { 401 });
    }
}

#[tokio::test]
async fn a_provider_that_speaks_otherwise_than_its_upstream_was_added_is_not_asked() {
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, Simulated::new());
    let upstreams = Upstreams::new().add("anthropic", provider.expect("a URL"));
    let stack = ServiceBuilder::new()
        .layer(CallLayer::new())
        .layer(IngestLayer::new())
        .layer(RouteLayer::new(table("anthropic")))
        .service(Dispatch::new(upstreams));
    assert_cured(&ask(stack).await, "its `Provider` speaks OpenAiChat");
}

/// Routes everything to one model, with a target in this dialect.
struct Names(Dialect);

impl Route for Names {
    fn route(&self, _: &Call, _: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        Ok(vec![Arc::new(Target::new("mine", self.0, "gpt-5-mini"))])
    }
}

#[tokio::test]
async fn a_translation_that_asks_for_another_model_than_is_paid_answers_500_until_a_route_names_it_in_the_clients_dialect()
 {
    let ten = "10".parse().expect("an amount");
    let identified = tower::util::MapRequestLayer::new(move |mut request: Request<Body>| {
        let body = r#"{"model":"claude-haiku-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
        request.extensions_mut().insert(Arc::new(Principal::new("ada").budget(Window::Day, ten)));
        request.map(|_| Body::from(body))
    });
    let provider = Simulated::new();
    let stack = |layer: GatewayLayer| {
        let mine = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, provider.clone());
        let translate = TranslateLayer::new(Dialect::OpenAiChat).model("gpt-5-mini");
        let layer = layer.budget(BudgetLayer::new(MemoryBudgets::new()));
        ServiceBuilder::new().layer(identified.clone()).layer(layer).layer(translate).service(mine.expect("a URL"))
    };
    assert_cured(&ask(stack(GatewayLayer::new())).await, "whose target must be in the client's dialect");
    let (status, body, _) = ask(stack(GatewayLayer::new().router(Names(Dialect::OpenAiChat)))).await;
    assert!(
        status == 400
            && body.contains("is served in OpenAI Chat Completions only, and this request is in Anthropic Messages"),
        "{body}"
    );
    let (status, body, log) = ask(stack(GatewayLayer::new().router(Names(Dialect::Anthropic)))).await;
    assert_eq!(status, 200, "{body} {log}");
    assert_eq!(provider.bill().lines().iter().map(|line| &*line.model).collect::<Vec<_>>(), ["gpt-5-mini"]);
}

#[tokio::test]
async fn a_service_that_is_given_a_model_is_asked_for_it_by_clients_of_its_own_dialect_too_and_paid_for_no_other() {
    let ten = "10".parse().expect("an amount");
    let identified = tower::util::MapRequestLayer::new(move |mut request: Request<Body>| {
        request.extensions_mut().insert(Arc::new(Principal::new("ada").budget(Window::Day, ten)));
        request
    });
    let body = r#"{"model":"gpt-5.4-pro","max_completion_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for model in [None, Some("gpt-5-mini")] {
        let provider = Simulated::new();
        let mine = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, provider.clone());
        let translate = model.into_iter().fold(TranslateLayer::new(Dialect::OpenAiChat), TranslateLayer::model);
        // The route has one target, whose model the money is held for.
        let layer =
            GatewayLayer::new().router(Names(Dialect::OpenAiChat)).budget(BudgetLayer::new(MemoryBudgets::new()));
        let stack =
            ServiceBuilder::new().layer(identified.clone()).layer(layer).layer(translate).service(mine.expect("a URL"));
        let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
        let answer = stack.oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("whole");
        assert_eq!(provider.bill().lines().iter().map(|line| &*line.model).collect::<Vec<_>>(), ["gpt-5-mini"]);
    }
    // Without a route, the money was granted for the model that the client named.
    let provider = Simulated::new();
    let mine = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, provider.clone());
    let stack = ServiceBuilder::new()
        .layer(identified)
        .layer(GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new())))
        .layer(TranslateLayer::new(Dialect::OpenAiChat).model("gpt-5-mini"))
        .service(mine.expect("a URL"));
    let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
    assert_eq!(stack.oneshot(request).await.expect("infallible").status(), 500);
    assert_eq!(provider.bill().lines().len(), 0);
}
