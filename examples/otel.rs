//! One span per call, sent to an OpenTelemetry collector: `cargo run --example otel --features testing,upstream`
//!
//! Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` (default `http://localhost:4318`) in OTLP over HTTP. Set
//! `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` to use OpenTelemetry's latest names.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/serve.rs"]
mod serve;

use std::env;
use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient as OtelClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tollgate::telemetry::{Conventions, Spans};
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = OverOurs { client: HttpClient::new()?, runtime: Handle::current() };
    let exporter =
        SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpJson).build()?;
    let resource = Resource::builder().with_service_name("tollgate").build();
    let traces = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let bridge = tracing_opentelemetry::layer().with_tracer(traces.tracer("tollgate"));
    tracing_subscriber::registry().with(bridge).init();

    let names = env::var("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default();
    let spans = Spans::new().conventions(Conventions::opted_in(&names));
    let provider = Provider::with_client(Dialect::Anthropic, "http://simulated.invalid", None, Simulated::new())?;
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .layer(GatewayLayer::new().on_open(move |call| spans.begin(call)))
        .build()?;

    let stop = serve::Stop::new()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening http://{}", listener.local_addr()?);
    serve::until(stop, listener, axum::Router::new().fallback_service(gateway)).await?;
    // `shutdown` blocks until the last spans are sent, so keep it off the runtime's worker threads.
    let sent = tokio::task::spawn_blocking(move || traces.shutdown()).await?;
    if let Err(error) = sent {
        println!("some spans were not sent: {error}");
    }
    Ok(())
}

/// Sends spans through the crate's own [`HttpClient`], so that the process has one implementation of HTTP and TLS.
///
/// The exporter calls it from its own thread, which has no runtime: hence the [`Handle`].
#[derive(Debug)]
struct OverOurs {
    client: HttpClient,
    runtime: Handle,
}

#[async_trait]
impl OtelClient for OverOurs {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let (parts, body) = client.oneshot(request.map(Body::from)).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        });
        sending.await?
    }
}
