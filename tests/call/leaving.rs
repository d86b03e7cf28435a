//! Clients that leave, upstreams that leave, and servers that shut down.

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::testing::{Bill, Simulated};
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Dialect, Gateway, GatewayLayer};

use crate::bodies::{Version, send, try_send};
use crate::support::{Outcomes, Server};

/// A gateway on a socket, in front of a simulated provider on another.
struct Stage {
    gateway: Server,
    provider: Option<Server>,
    bill: Bill,
    outcomes: Outcomes,
}

async fn stage() -> Stage {
    let simulated = Simulated::new();
    let bill = simulated.bill();
    let provider = Server::start(simulated).await;
    let (outcomes, observer) = Outcomes::new();
    let client = HttpClient::new().expect("TLS");
    let upstream = Provider::with_client(Dialect::Anthropic, &provider.url(), None, client)
        .expect("a URL")
        .idle_timeout(Duration::from_secs(5));
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, upstream)
        .layer(GatewayLayer::new().on_close(observer))
        .build()
        .expect("a gateway");
    Stage { gateway: Server::start(gateway).await, provider: Some(provider), bill, outcomes }
}

fn streamed(directive: &str) -> Request<Full<bytes::Bytes>> {
    let body = format!(
        r#"{{"model":"claude-x","max_tokens":99,"stream":true,"messages":[{{"role":"user","content":"{directive}"}}]}}"#
    );
    Request::post("/v1/messages").body(Full::from(body)).expect("a request")
}

/// Checks against the provider's bill: the usage that was seen may not exceed it, and no stream may be left running.
fn assert_within_the_bill(outcome: &Outcome, bill: &Bill) {
    let line = bill.lines().pop().expect("a generation began");
    let usage = outcome.usage.expect("usage stands in the first event");
    assert_eq!(usage.input, line.input);
    assert!(!line.complete, "the provider was let run on although nobody listened");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_abandons_the_call() {
    for version in [Version::H1, Version::H2] {
        let mut stage = stage().await;
        let request = try_send(version, stage.gateway.addr, streamed("sim:first=10000"));
        let gone = tokio::time::timeout(Duration::from_millis(300), request).await;
        assert!(gone.is_err(), "no head came in that time");
        let outcome = stage.outcomes.next().await;
        assert_eq!((outcome.end, outcome.status), (End::Abandoned, None), "{version:?}");
        assert_eq!(outcome.attempts[0].end, AttemptEnd::Abandoned, "{version:?}");
        stage.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_abandons_the_call_and_its_attempt() {
    for version in [Version::H1, Version::H2] {
        let mut stage = stage().await;
        let mut body = send(version, stage.gateway.addr, streamed("sim:deltas=1000,delay=5")).await.into_body();
        for _ in 0..3 {
            body.frame().await.expect("the stream goes on").expect("and is well");
        }
        drop(body);
        let outcome = stage.outcomes.next().await;
        assert_eq!(outcome.end, End::Abandoned, "{version:?}");
        assert_eq!(outcome.attempts[0].end, AttemptEnd::Abandoned, "{version:?}");
        assert!(outcome.bytes_out > 0);
        assert_within_the_bill(&outcome, &stage.bill);
        stage.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_upstream_is_silent_is_noticed_at_once() {
    for version in [Version::H1, Version::H2] {
        let mut stage = stage().await;
        let mut body = send(version, stage.gateway.addr, streamed("sim:stall=2")).await.into_body();
        body.frame().await.expect("the first event").expect("is well");
        drop(body);
        // Well below the 5 seconds after which the provider's silence would end the call.
        let outcome = tokio::time::timeout(Duration::from_secs(2), stage.outcomes.next()).await.expect("noticed");
        assert_eq!(outcome.end, End::Abandoned, "{version:?}");
        assert_within_the_bill(&outcome, &stage.bill);
        stage.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn an_upstream_that_resets_fails_the_call_and_the_stream_ends_with_an_error_event() {
    for version in [Version::H1, Version::H2] {
        let mut stage = stage().await;
        let answer = send(version, stage.gateway.addr, streamed("sim:deltas=9,delay=5,abort=3")).await;
        let text = answer.into_body().collect().await.expect("a stream that ends in order").to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("event: error\ndata: {\"type\":\"error\""), "{version:?}: {text}");
        assert!(!text.contains("message_stop"), "{version:?}");
        let outcome = stage.outcomes.next().await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken), "{version:?}");
        stage.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn a_provider_that_dies_in_mid_stream_fails_the_call() {
    let mut stage = stage().await;
    let mut body = send(Version::H1, stage.gateway.addr, streamed("sim:deltas=1000,delay=5")).await.into_body();
    body.frame().await.expect("the first event").expect("is well");
    // Dropping the server closes its connections too.
    stage.provider.take();
    let _ = body.collect().await;
    let outcome = stage.outcomes.next().await;
    assert_eq!(outcome.end, End::Failed);
}

#[tokio::test]
async fn a_graceful_shutdown_lets_a_stream_finish() {
    for version in [Version::H1, Version::H2] {
        let mut stage = stage().await;
        let mut body = send(version, stage.gateway.addr, streamed("sim:deltas=20,delay=20")).await.into_body();
        body.frame().await.expect("the first event").expect("is well");
        let Stage { gateway, .. } = stage;
        let (text, ()) = tokio::join!(body.collect(), gateway.shut_down());
        let text = text.expect("a whole stream").to_bytes();
        assert!(text.ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{version:?}");
        let outcome = stage.outcomes.next().await;
        assert_eq!(outcome.end, End::Complete, "{version:?}");
        assert_eq!(outcome.usage.map(|u| u.output), Some(20));
        assert!(outcome.attempts[0].usage_is_final);
        stage.outcomes.none_left().await;
    }
}
