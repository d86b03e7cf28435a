//! A gateway to start with: `cargo run --release --example gateway --features upstream,testing`
//!
//! Listens on 127.0.0.1:4000 and prints what to paste. With `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` in the environment it
//! calls those providers (`ANTHROPIC_BASE_URL` and `OPENAI_BASE_URL` move them); with neither a simulated one answers.
#![expect(clippy::print_stdout, reason = "the contract of this program is what it prints")]

#[path = "../support/serve.rs"]
mod serve;

mod args;
mod providers;
mod welcome;

use std::error::Error;
use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tollgate::call::Settlements;
use tollgate::domain::outcome::{End, Outcome};
use tollgate::{Gateway, GatewayLayer};

use args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    // `RUST_LOG=debug` shows every call; otherwise only those that went wrong.
    let level = std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let Args { listen } = Args::parse(std::env::args_os())?;
    let stop = serve::Stop::new()?;
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;

    let settlements = Settlements::new();
    let layer = GatewayLayer::new().settlements(settlements.clone()).on_close(log);
    let providers = providers::from_environment(Gateway::builder().layer(layer), address)?;
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        // Ready as long as it listens: nothing behind it needs to be up.
        .route("/readyz", get(|| async { "ready" }))
        .fallback_service(providers.gateway.build());

    println!("listening http://{address}");
    welcome::print(address, providers.simulated);
    serve::until(stop, listener, app).await?;
    settlements.drain().await;
    Ok(())
}

fn log(outcome: &Outcome) {
    let (id, end, status) = (outcome.id, outcome.end, outcome.status.map(|status| status.as_u16()));
    let (model, usage, took) = (outcome.model.as_deref(), outcome.usage, outcome.took);
    match end {
        End::Complete => tracing::debug!(call = %id, ?end, status, model, ?usage, ?took, "call"),
        _ => tracing::info!(call = %id, ?end, status, model, ?usage, ?took, "call"),
    }
}
