//! Metrics for Prometheus: `cargo run --example prometheus --features testing,metrics`
//!
//! Serves metrics under `/metrics`, beside a gateway. `dashboard.json` in this directory is a Grafana dashboard. With
//! `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` the metrics have OpenTelemetry's latest names, which the
//! dashboard does not read.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "../support/serve.rs"]
mod serve;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tollgate::call::Settlements;
use tollgate::domain::budget::Window;
use tollgate::domain::principal::Principal;
use tollgate::store::memory::MemoryBudgets;
use tollgate::telemetry::{Conventions, Metrics};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{BudgetLayer, Dialect, Gateway, GatewayLayer};

/// Histogram buckets in seconds: for calls, from a quick refusal to a long answer, and for the gateway's overhead.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];
const OWN: [f64; 10] = [0.000_005, 0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.1, 1.0];
/// The buckets that OpenTelemetry proposes for attempts and tokens, in both generations of its names.
const ATTEMPT: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("duration".to_owned()), &ATTEMPT)?
        .set_buckets_for_metric(Matcher::Suffix("first_chunk".to_owned()), &ATTEMPT)?
        .set_buckets_for_metric(Matcher::Full("tollgate_overhead_seconds".to_owned()), &OWN)?
        .set_buckets_for_metric(Matcher::Prefix("gen_ai_client_token".to_owned()), &TOKENS)?
        .set_buckets_for_metric(Matcher::Prefix("gen_ai_client_inference_operation".to_owned()), &TOKENS)?
        .install_recorder()?;
    let opt_in = std::env::var("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default();
    let metrics = Metrics::new().conventions(Conventions::opted_in(&opt_in)).by_team(50);

    let provider = Provider::with_client(Dialect::Anthropic, "http://simulated.invalid", None, Simulated::new())?;
    let (settlements, standing) = (Settlements::new(), metrics.clone());
    let layer = GatewayLayer::new()
        .settlements(settlements.clone())
        .on_open(move |call| {
            metrics.begin(call);
            // A host that knows its callers can set the principal without virtual keys.
            let ada = Principal::new("ada").team("search");
            call.set_principal(Arc::new(match "5".parse() {
                Ok(dollars) => ada.budget(Window::Day, dollars),
                Err(_) => ada,
            }));
        })
        .budget(BudgetLayer::new(MemoryBudgets::new()));
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).layer(layer).build()?;

    let (scraped, kept) = (prometheus.clone(), prometheus);
    let scrape = move || async move {
        // This gauge is not updated by calls, so set it at each scrape.
        standing.settlements(&settlements);
        scraped.render()
    };
    let app = Router::new().route("/metrics", get(scrape)).fallback_service(gateway);
    let stop = serve::Stop::new()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening http://{}", listener.local_addr()?);
    let upkeep = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            kept.run_upkeep();
        }
    };
    tokio::select! {
        served = serve::until(stop, listener, app) => served.map(drop).map_err(Into::into),
        () = upkeep => Ok(()),
    }
}
