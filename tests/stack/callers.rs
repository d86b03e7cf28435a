//! Who calls: said by a key, by the host, or by nobody.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::routing::post;
use axum::{Extension, Router};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::domain::budget::Window;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{
    Body, BudgetLayer, Call, Dialect, Gate, GateLayer, Gateway, GatewayLayer, IngestLayer, KeyAuthLayer,
    RateLimitLayer, Rejection,
};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::log::Log;

const BODY: &str = r#"{"model":"claude-haiku-5-5","max_tokens":9,"messages":[]}"#;

type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// A key of Ada's, and the layer that knows it.
async fn key() -> (VirtualKey, KeyAuthLayer<MemoryKeys>) {
    let (keys, pepper) = (MemoryKeys::new(), Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough"));
    let key = VirtualKey::mint(Environment::Test).expect("randomness");
    let now = "2026-11-24T08:00:00Z".parse().expect("a time");
    assert!(keys.put(&KeyRecord::new(&key, &pepper, Principal::new("ada"), now)).await.expect("memory").is_written());
    (key, KeyAuthLayer::new(keys, pepper))
}

fn request(path: &str, body: &'static str) -> Request<Body> {
    Request::post(path).body(Body::from(body)).expect("a request")
}

/// As a host does that knows its users.
fn of_ada(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Arc::new(Principal::new("ada").budget(Window::Day, "9".parse().expect("money"))));
    request
}

async fn ask<S>(stack: &S, request: Request<Body>) -> (u16, String)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let answer = stack.clone().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn a_handler_behind_a_key_finds_its_principal_where_a_host_that_knows_its_users_puts_one() {
    let (key, auth) = key().await;
    let handler = async |Extension(caller): Extension<Arc<Principal>>| caller.name.to_string();
    let app: Router = Router::new().route("/v1/messages", post(handler));
    let stacks = [
        ("alone", Stack::new(auth.layer(app.clone()))),
        ("in a whole stack", Stack::new(GatewayLayer::new().auth(auth).layer(app))),
    ];
    for (what, stack) in stacks {
        let mut request = request("/v1/messages", BODY);
        request.headers_mut().insert("x-api-key", key.expose().parse().expect("plain letters"));
        assert_eq!(ask(&stack, request).await, (200, "ada".to_owned()), "{what}");
    }
}

fn mine() -> Stack {
    Stack::new(service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("mine")))))
}

/// A stack that pays and counts, and asks for no keys.
fn layer() -> GatewayLayer {
    let layer = GatewayLayer::new().rate_limit(RateLimitLayer::new(MemoryLimits::new()));
    layer.budget(BudgetLayer::new(MemoryBudgets::new())).pass_other_paths()
}

#[tokio::test]
async fn where_the_host_must_say_who_calls_a_stranger_is_refused_unread_with_401_in_the_clients_dialect() {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let gateway = Gateway::builder().upstream("sim", Dialect::Anthropic, provider.expect("a URL"));
    let stacks = [
        ("a layer", Stack::new(layer().require_principal().layer(mine()))),
        ("a layer without money", Stack::new(GatewayLayer::new().require_principal().layer(mine()))),
        ("a gateway", Stack::new(gateway.layer(layer().require_principal()).build().expect("a gateway"))),
    ];
    for (what, stack) in &stacks {
        for (path, said) in [
            ("/v1/messages", r#""type":"authentication_error""#),
            ("/v1/chat/completions", r#""code":"invalid_api_key""#),
        ] {
            // Not even its JSON is looked at.
            let (status, body) = ask(stack, request(path, "{")).await;
            assert!(status == 401 && body.contains(said), "{what}: {path}: {status} {body}");
        }
        let listing = Request::get("/v1/models").body(Body::empty()).expect("a request");
        assert_eq!(ask(stack, listing).await.0, 401, "{what}");
        // Whoever is known has a malformed request.
        assert_eq!(ask(stack, of_ada(request("/v1/messages", "{"))).await.0, 400, "{what}");
    }
    let [(_, layer), (_, without_money), _] = &stacks;
    let (status, body) = ask(layer, of_ada(request("/v1/messages", BODY))).await;
    assert_eq!((status, body.as_str()), (200, "mine"));
    assert_eq!(ask(layer, request("/v1/embeddings", BODY)).await.0, 401);
    assert_eq!(ask(layer, of_ada(request("/v1/embeddings", BODY))).await.0, 200);
    // Other paths pass where that is said, with or without money.
    assert_eq!(ask(without_money, of_ada(request("/v1/embeddings", BODY))).await.0, 404);
}

#[tokio::test]
async fn where_the_host_must_say_who_calls_a_key_does_as_well() {
    let (key, auth) = key().await;
    let stack = layer().auth(auth).require_principal().layer(mine());
    let keyed = |key: &str| {
        let mut request = request("/v1/messages", BODY);
        request.headers_mut().insert("x-api-key", key.parse().expect("plain letters"));
        request
    };
    assert_eq!(ask(&stack, keyed(key.expose())).await.0, 200);
    assert_eq!(ask(&stack, of_ada(request("/v1/messages", BODY))).await.0, 200);
    assert_eq!(ask(&stack, keyed("sk-another")).await.0, 401);
}

#[tokio::test]
async fn where_nothing_is_said_of_principals_a_stranger_is_taken_for_a_missing_layer_and_the_log_names_the_cure() {
    let (log, _listening) = Log::listen();
    assert_eq!(ask(&layer().layer(mine()), request("/v1/messages", BODY)).await.0, 500);
    assert!(log.text().contains("set `GatewayLayer::require_principal`"), "{}", log.text());
}

#[tokio::test]
async fn by_hand_a_gate_outside_of_ingest_refuses_strangers_unread() {
    struct SignedIn;

    #[async_trait]
    impl Gate for SignedIn {
        async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
            let stranger = || Rejection::new(RejectionKind::Unauthenticated, "sign in first");
            call.principal().map(|_| ()).ok_or_else(stranger)
        }
    }

    let stack = ServiceBuilder::new()
        .layer(GateLayer::new(SignedIn))
        .layer(IngestLayer::new())
        .layer(BudgetLayer::new(MemoryBudgets::new()))
        .service(mine());
    let (status, body) = ask(&stack, request("/v1/messages", "{")).await;
    assert!(status == 401 && body.contains("authentication_error"), "{status} {body}");
    assert_eq!(ask(&stack, of_ada(request("/v1/messages", BODY))).await.0, 200);
}
