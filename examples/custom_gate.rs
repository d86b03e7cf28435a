//! An admission rule of your own in twenty lines: `cargo run --example custom_gate --features testing`
//!
//! A request without the header `x-long-answers` is capped at 1,024 output tokens. If the request has a thinking budget
//! of 1,024 tokens or more, the cap is one token above that budget.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt, Full};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Call, Dialect, Gate, Gateway, GatewayLayer, Rejection};
use tower::ServiceExt;

struct ShortAnswers;

#[async_trait]
impl Gate for ShortAnswers {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        if !parts.headers.contains_key("x-long-answers") {
            // Anthropic rejects a request whose limit leaves no token beyond the thinking budget.
            let thinking = call.head().and_then(|head| head.thinking_budget()).unwrap_or(0);
            // This records an edit. It is spliced into the client's bytes just before the request goes upstream.
            call.cap_max_tokens(thinking.saturating_add(1).max(1024));
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulated = Simulated::new().recording();
    let provider = Provider::with_client(Dialect::Anthropic, "http://simulated.invalid", None, simulated.clone())?;
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .layer(GatewayLayer::new().gate(ShortAnswers))
        .build()?;

    let body = Bytes::from_static(br#"{"model": "claude-haiku-5-5", "max_tokens": 64000, "messages": []}"#);
    let answer = gateway.oneshot(Request::post("/v1/messages").body(Full::new(body.clone()))?).await?;
    println!("client sent    {}", String::from_utf8_lossy(&body));
    println!("upstream got   {}", String::from_utf8_lossy(&simulated.received()[0].body));
    println!(
        "client got     {}",
        String::from_utf8_lossy(&answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes())
    );
    Ok(())
}
