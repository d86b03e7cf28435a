//! Routes that a call may not take.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::route::ModelTable;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::{Layer, ServiceExt, service_fn};

const ANTHROPIC: Dialect = Dialect::Anthropic;
const CHAT: Dialect = Dialect::OpenAiChat;

/// A path, a body, the dialect of the only target, and the status, type and code of the refusal.
type Row = (&'static str, &'static str, Dialect, (u16, &'static str, Option<&'static str>));

const NOT_FOUND: (u16, &str, Option<&str>) = (404, "invalid_request_error", Some("model_not_found"));
const RESPONSES: (&str, &str) = ("/v1/responses", r#"{"model":"best","input":"hi"}"#);

async fn assert_refused(answer: Response<Body>, (path, _, dialect, (status, kind, code)): Row) {
    let answered = answer.status();
    let text = answer.into_body().collect().await.expect("whole").to_bytes();
    let json: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(answered, status, "{path} to {dialect}: {json}");
    assert_eq!((json["error"]["type"].as_str(), json["error"]["code"].as_str()), (Some(kind), code), "{path}: {json}");
}

#[tokio::test]
async fn a_target_of_another_dialect_is_refused_before_a_service_of_ones_own() {
    let messages = r#"{"model":"best","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let rows: [Row; 4] = [
        ("/v1/messages", messages, CHAT, (400, "invalid_request_error", None)),
        ("/v1/chat/completions", messages, ANTHROPIC, NOT_FOUND),
        (RESPONSES.0, RESPONSES.1, CHAT, NOT_FOUND),
        (RESPONSES.0, RESPONSES.1, ANTHROPIC, NOT_FOUND),
    ];
    for row in rows {
        let (path, body, dialect, _) = row;
        let mine = service_fn(|_: Request<Body>| async { panic!("it is not asked") });
        let mine = mine.map_response(|never: Response<Body>| never).map_err(|never: Infallible| never);
        let stack = GatewayLayer::new().router(ModelTable::new().pattern("*", "theirs", dialect)).layer(mine);
        let request = Request::post(path).body(Body::from(body)).expect("a request");
        assert_refused(stack.oneshot(request).await.expect("infallible"), row).await;
    }
}

#[tokio::test]
async fn responses_are_refused_where_they_would_have_to_be_translated() {
    for dialect in [CHAT, ANTHROPIC] {
        let simulated = Simulated::new().recording();
        let provider = Provider::with_client(dialect, "http://sim.invalid", None, simulated.clone()).expect("a URL");
        let table = ModelTable::new().pattern("*", "theirs", dialect);
        let layer = GatewayLayer::new().router(table);
        let gateway = Gateway::builder().upstream("theirs", dialect, provider).layer(layer).build().expect("a gateway");
        let request = Request::post(RESPONSES.0).body(Body::from(RESPONSES.1)).expect("a request");
        let answer = gateway.oneshot(request).await.expect("infallible");
        assert_refused(answer, (RESPONSES.0, RESPONSES.1, dialect, NOT_FOUND)).await;
        assert!(simulated.received().is_empty());
    }
}
