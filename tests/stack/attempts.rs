//! Several targets, one call.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tollgate::domain::outcome::{AttemptEnd, End};
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::support::Outcomes;

const BODY: &str = r#"{"model": "best", "max_tokens": 9, "messages": []}"#;

fn request() -> Request<Body> {
    Request::post("/v1/messages").body(Body::from(BODY)).expect("a request")
}

/// A port that nothing listens on.
fn nowhere() -> Provider<HttpClient> {
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
        .build();

    let answer = gateway.oneshot(request()).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("whole");

    let outcome = outcomes.next().await;
    assert_eq!((outcome.end, outcome.model.as_deref()), (End::Complete, Some("best")));
    let models: Vec<_> = outcome.attempts.iter().map(|a| (&*a.target.as_ref().expect("routed").model, a.end)).collect();
    assert_eq!(models, [("claude-lost", AttemptEnd::Unsent), ("claude-found", AttemptEnd::Complete)]);
    // The alias is a splice: the rest of the body, its white space too, is the client's.
    assert_eq!(simulated.received()[0].body, BODY.replace("best", "claude-found"));
    outcomes.none_left().await;
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
        .build();

    let answer = gateway.oneshot(request()).await.expect("infallible");
    assert_eq!(answer.status(), 504);
    answer.into_body().collect().await.expect("whole");
    let outcome = outcomes.next().await;
    assert_eq!((outcome.end, outcome.attempts.len()), (End::Failed, 1));
    assert_eq!(outcome.attempts[0].end, AttemptEnd::NoAnswer);
    assert!(spare.received().is_empty());
}

#[tokio::test]
async fn the_least_of_several_caps_counts_and_is_a_splice() {
    for (asked, caps, sent) in [
        (
            r#"{"model":"claude-x","max_tokens": 64000 ,"messages":[]}"#,
            vec![2048, 1024],
            r#"{"model":"claude-x","max_tokens": 1024 ,"messages":[]}"#,
        ),
        (
            r#"{"model":"claude-x","max_tokens":10,"messages":[]}"#,
            vec![1024],
            r#"{"model":"claude-x","max_tokens":10,"messages":[]}"#,
        ),
        (r#"{"model":"claude-x","messages":[]}"#, vec![7], r#"{"max_tokens":7,"model":"claude-x","messages":[]}"#),
    ] {
        let simulated = Simulated::new().recording();
        let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated.clone());
        let mut layer = GatewayLayer::new();
        for cap in caps {
            layer = layer.gate(Cap(cap));
        }
        let gateway =
            Gateway::builder().upstream("a", Dialect::Anthropic, provider.expect("a URL")).layer(layer).build();
        let request = Request::post("/v1/messages").body(Body::from(asked)).expect("a request");
        drop(gateway.oneshot(request).await);
        assert_eq!(simulated.received()[0].body, sent);
    }
}

struct Cap(u64);

#[async_trait::async_trait]
impl tollgate::Gate for Cap {
    async fn admit(&self, _parts: &mut http::request::Parts, call: &tollgate::Call) -> Result<(), tollgate::Rejection> {
        call.cap_max_tokens(self.0);
        Ok(())
    }
}
