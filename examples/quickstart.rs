//! The smallest gateway: `cargo run --example quickstart --features testing`
//!
//! It has one upstream and one observer, behind axum. The upstream is simulated. For a real one, use
//! `Provider::anthropic(key)` (feature `upstream`).
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/serve.rs"]
mod serve;

use axum::Router;
use axum::routing::get;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Dialect, Gateway, GatewayLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Provider::with_client(Dialect::Anthropic, "http://simulated.invalid", None, Simulated::new())?;
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .alias("fast", ["claude-haiku-5-5"])
        .layer(GatewayLayer::new().on_close(|outcome| {
            println!("{:?} {:?} after {:?}", outcome.end, outcome.usage, outcome.took);
        }))
        .build()?;

    let app = Router::new().route("/", get(|| async { "my existing service" })).nest_service("/llm", gateway);

    let stop = serve::Stop::new()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("ANTHROPIC_BASE_URL=http://{}/llm ANTHROPIC_AUTH_TOKEN=any claude --model fast", listener.local_addr()?);
    serve::until(stop, listener, app).await?;
    Ok(())
}
