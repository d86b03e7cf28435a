//! Layers inside and outside of what axum nests.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::audit::TracingSink;
use tollgate::domain::dialect::Endpoint;
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{AuditLayer, BudgetLayer, Call, Dialect, Gate, Gateway, GatewayLayer, Rejection};
use tower::{Layer, ServiceExt};

use crate::support::log::Log;

const CURE: &str = "`GatewayLayer`";

/// Lets nobody in.
struct Closed;

#[async_trait]
impl Gate for Closed {
    async fn admit(&self, _parts: &mut Parts, _call: &Call) -> Result<(), Rejection> {
        Err(Rejection::new(RejectionKind::InvalidRequest, "closed"))
    }
}

fn mine() -> Router {
    Router::new().route("/v1/messages", post(async || "mine"))
}

fn pays() -> GatewayLayer {
    GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new()))
}

async fn post_to(app: &Router, path: &str, principal: Option<&str>) -> (u16, String) {
    let body = r#"{"model":"claude-haiku-5-5","max_tokens":9,"messages":[]}"#;
    let mut request = Request::post(path).body(Body::from(body)).expect("a request");
    if let Some(name) = principal {
        request.extensions_mut().insert(Arc::new(Principal::new(name)));
    }
    let answer: Response<Body> = app.clone().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn inside_of_a_mount_a_layer_knows_the_endpoints_however_it_is_put_there() {
    let apps = |layer: GatewayLayer| {
        [
            ("layer", Router::new().nest("/llm", mine().layer(layer.clone()))),
            ("route_layer", Router::new().nest("/llm", mine().route_layer(layer.clone()))),
            ("nest_service", Router::new().nest_service("/llm", layer.layer(mine()))),
        ]
    };
    for (how, app) in apps(pays()) {
        assert_eq!(post_to(&app, "/llm/v1/messages", Some("ada")).await, (200, "mine".to_owned()), "{how}");
    }
    for (how, app) in apps(GatewayLayer::new().gate(Closed)) {
        assert_eq!(post_to(&app, "/llm/v1/messages", Some("ada")).await.0, 400, "{how}");
    }
}

#[tokio::test]
async fn outside_of_a_mount_no_control_and_no_gate_is_passed_by_and_the_log_names_the_cure() {
    let audit = AuditLayer::new(TracingSink::new());
    for (what, layer, status, told) in [
        ("a gate", GatewayLayer::new().gate(Closed), 500, 6),
        ("audit", GatewayLayer::new().audit(&audit), 500, 6),
        ("a budget", pays(), 404, 1),
        ("principals", GatewayLayer::new().require_principal(), 404, 1),
        ("a budget, and other paths", pays().pass_other_paths(), 500, 6),
        ("nothing", GatewayLayer::new(), 200, 0),
        ("a budget, for an endpoint", pays().endpoint(Endpoint::of("/v1/messages")), 200, 0),
    ] {
        let (log, _listening) = Log::listen();
        for app in [
            Router::new().nest("/llm", mine()).layer(layer.clone()),
            Router::new().nest("/llm", mine()).route_layer(layer.clone()),
            Router::new().nest_service("/llm", mine()).layer(layer.clone()),
        ] {
            for _ in 0..2 {
                let (answered, body) = post_to(&app, "/llm/v1/messages", Some("ada")).await;
                assert_eq!(answered, status, "{what}: {body}");
            }
        }
        let cures = log.text().lines().filter(|line| line.contains(CURE) && line.contains("mount")).count();
        assert_eq!(cures, told, "{what}: {}", log.text());
    }
}

#[tokio::test]
async fn under_a_mount_axum_answers_unknown_paths_unless_the_layer_is_around_the_router() {
    let layer = pays().require_principal().pass_other_paths();
    let nested = Router::new().nest("/llm", mine().layer(layer.clone()));
    assert_eq!(post_to(&nested, "/llm/v1/nothing", None).await, (404, String::new()));
    let around = Router::new().nest_service("/llm", layer.layer(mine()));
    let (status, body) = post_to(&around, "/llm/v1/nothing", None).await;
    assert!(status == 401 && body.starts_with(r#"{"error":"#), "{status} {body}");
}

#[tokio::test]
async fn outside_of_a_mount_none_is_passed_by_on_a_path_that_only_the_gateway_within_knows() {
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.local", None, Simulated::new());
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider.expect("a provider"))
        .build()
        .expect("a gateway");
    let within = Router::new().nest_service("/llm", gateway);
    let audit = AuditLayer::new(TracingSink::new());
    for path in ["/llm/v1/messages", "/llm/messages"] {
        let (status, body) = post_to(&within, path, Some("ada")).await;
        assert_eq!(status, 200, "without a layer outside of it: {path}: {body}");
        for (what, app) in [
            ("a gate", within.clone().layer(GatewayLayer::new().gate(Closed))),
            ("an audit trail", within.clone().layer(GatewayLayer::new().audit(&audit))),
            ("an audit trail alone", within.clone().layer(audit.clone())),
            ("a budget, and other paths", within.clone().layer(pays().pass_other_paths())),
        ] {
            let (status, body) = post_to(&app, path, Some("ada")).await;
            assert_eq!(status, 500, "{what}: {path}: {body}");
        }
    }
    // Nothing of it concerns a caller whom nobody knows.
    let strict = within.layer(pays().require_principal().pass_other_paths());
    for path in ["/llm/v1/messages", "/llm/messages"] {
        assert_eq!(post_to(&strict, path, None).await.0, 401, "{path}");
    }
}
