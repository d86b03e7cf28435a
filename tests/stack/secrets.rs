//! Secrets never show: not in `Debug`, not in logs, not in answers.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect};
use tower::{ServiceExt, service_fn};

const CANARY: &str = "sk-canary-0123456789";

#[test]
fn no_debug_shows_a_credential() {
    let credential = Credential::bearer(CANARY).expect("a header");
    let provider =
        Provider::with_client(Dialect::OpenAiChat, "https://api.example.com", credential.clone(), Simulated::new());
    let secret = http::HeaderValue::from_static(CANARY);
    let provider = provider.expect("a URL").header(http::HeaderName::from_static("helicone-auth"), secret);
    for shown in [format!("{credential:?}"), format!("{credential:#?}"), format!("{provider:?}")] {
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn an_error_about_a_credential_does_not_repeat_it() {
    let error = Credential::x_api_key(&format!("{CANARY}\n{CANARY}")).expect_err("a line end in a header");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn a_body_shows_its_size_and_not_its_text() {
    let shown = format!("{:?}", Body::from(CANARY));
    assert!(shown.contains("20") && !shown.contains("canary"), "{shown}");
}

#[test]
fn base_urls_that_cannot_mean_what_they_say_are_refused() {
    for url in ["", "api.example.com", "ftp://x", "http://", "http://user:pw@x", "http://x/#f", "/v1"] {
        assert!(Provider::with_client(Dialect::Anthropic, url, None, Simulated::new()).is_err(), "{url}");
    }
}

#[tokio::test]
async fn what_the_host_sends_along_no_client_says_in_its_place() {
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, simulated.clone());
    let header = |name| http::HeaderName::from_static(name);
    let value = http::HeaderValue::from_static;
    let provider = provider.expect("a URL").header(header("helicone-auth"), value("Bearer ours"));
    let provider = provider.header(header("x-project"), value("ours")).pass_header("x-*");
    let gateway =
        tollgate::Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build().expect("a gateway");
    let body = r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let request = Request::post("/v1/messages")
        .header("helicone-auth", "Bearer theirs")
        .header("x-project", "theirs")
        .header("x-project", "theirs too")
        .header("x-guardrail", "theirs")
        .header("guardrail", "theirs")
        .body(Body::from(body))
        .expect("a request");
    let answer = gateway.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let seen = simulated.received().remove(0).headers;
    assert!(!seen.contains_key("guardrail"), "nobody has let it pass");
    for (name, ours) in [("helicone-auth", "Bearer ours"), ("x-project", "ours"), ("x-guardrail", "theirs")] {
        assert_eq!(seen.get_all(name).iter().collect::<Vec<_>>(), [ours], "{name}");
    }
}

#[tokio::test]
async fn a_credential_that_is_replaced_is_sent_and_covered_as_it_is_at_the_time() {
    let (seen, hour) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
    let told = seen.clone();
    let echo = service_fn(move |request: Request<Body>| {
        let key = request.headers()["x-api-key"].to_str().expect("letters").to_owned();
        told.lock().expect("no panic").push(key.clone());
        async move {
            let body = format!(r#"{{"type":"error","error":{{"type":"x","message":"not with {key}"}}}}"#);
            let answer = Response::builder().status(400).header("content-type", "application/json");
            Ok::<_, Infallible>(answer.body(Body::from(body)).expect("an answer"))
        }
    });
    let provider =
        Provider::with_client(Dialect::Anthropic, "https://a.example", None, echo).expect("a URL").credential_by(
            move || Credential::x_api_key(&format!("{CANARY}-{}", hour.fetch_add(1, Ordering::SeqCst))).ok(),
        );
    assert!(!format!("{provider:?}").contains(CANARY));
    let gateway =
        tollgate::Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build().expect("a gateway");
    for _ in 0..2 {
        let body = r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#;
        let request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
        let answer = gateway.clone().oneshot(request).await.expect("infallible");
        let text = answer.into_body().collect().await.expect("whole").to_bytes();
        assert!(!String::from_utf8_lossy(&text).contains(CANARY), "{text:?}");
    }
    assert_eq!(*seen.lock().expect("no panic"), [0, 1].map(|hour| format!("{CANARY}-{hour}")));
}
