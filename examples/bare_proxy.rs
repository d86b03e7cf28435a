//! The baseline of `benches/e2e`: a proxy that forwards every request to one upstream. It streams bodies both ways and
//! reads none of them.
//!
//! `cargo run --release --example bare_proxy -- --upstream http://127.0.0.1:9000 --listen 127.0.0.1:4001`
//!
//! The cost of a gateway is what it costs beyond this: the same server and the same client, with nothing in between.
//! With `--buffer`, the proxy reads the whole request body before it forwards it, as any gateway that looks into the
//! body must.
#![expect(clippy::print_stdout, reason = "the contract of this program is what it prints")]

#[path = "support/serve.rs"]
mod serve;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use http::header::{self, HeaderMap, HeaderName};
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lexopt::prelude::*;
use tokio::net::TcpListener;
use tower::service_fn;

use serve::Stop;

/// Headers that are not forwarded: those of one hop (RFC 9110 section 7.6.1), and the host, which the client sets to
/// the upstream's.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (listen, upstream, buffer) = arguments()?;
    if upstream.scheme() != Some(&Scheme::HTTP) {
        // Without TLS, anyone on the path could read the client's credentials.
        return Err("--upstream: only http:// is supported, since this proxy has no TLS".into());
    }
    let authority = upstream.into_parts().authority.ok_or("--upstream: a URL with a host")?;
    let client = client();
    let stop = Stop::new()?;
    let listener = TcpListener::bind(listen).await?;
    println!("listening http://{}", listener.local_addr()?);
    let proxy = service_fn(move |request| {
        let (client, authority) = (client.clone(), authority.clone());
        async move { Ok::<_, Infallible>(forward(&client, authority, buffer, request).await) }
    });
    serve::until(stop, listener, Router::new().fallback_service(proxy)).await?;
    Ok(())
}

fn arguments() -> Result<(SocketAddr, Uri, bool), Box<dyn Error>> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 4001));
    let (mut upstream, mut buffer) = (None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen = parser.value()?.string()?.parse()?,
            Long("upstream") => upstream = Some(parser.value()?.string()?.parse()?),
            Long("buffer") => buffer = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((listen, upstream.ok_or("--upstream URL is missing")?, buffer))
}

/// A client with the settings of `tollgate::upstream::HttpClient`, but without TLS.
fn client() -> Client<HttpConnector, Body> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(60)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .build(http)
}

async fn forward(
    client: &Client<HttpConnector, Body>,
    authority: Authority,
    buffer: bool,
    mut request: Request<Body>,
) -> Response<Body> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(authority));
    let Ok(uri) = Uri::from_parts(uri) else { return StatusCode::BAD_REQUEST.into_response() };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    strip(request.headers_mut());
    if buffer {
        let Ok(whole) = to_bytes(std::mem::take(request.body_mut()), usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        *request.body_mut() = whole.into();
    }
    match client.request(request).await {
        Ok(mut answer) => {
            strip(answer.headers_mut());
            answer.map(Body::new)
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in &OURS {
        headers.remove(name);
    }
}
