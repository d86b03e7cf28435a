//! `HttpClient` against real TLS: the negotiation of HTTP/1.1 and HTTP/2, trust, the timeout for connecting, and the
//! number and age of its connections.

mod connections;
mod delays;
mod refused;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway};
use tower::{Service, ServiceExt, service_fn};

const STREAM: &str =
    r#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"sim:deltas=20"}]}"#;

/// A provider behind TLS on a port of `localhost`. Returns its address, its self-signed certificate, and the count of
/// its connections.
async fn provider(alpn: &[&[u8]], simulated: Simulated) -> (SocketAddr, CertificateDer<'static>, Arc<AtomicUsize>) {
    provider_of(alpn, simulated, None).await
}

/// The same, with a limit on concurrent calls per connection.
async fn provider_of(
    alpn: &[&[u8]],
    simulated: Simulated,
    most: Option<u32>,
) -> (SocketAddr, CertificateDer<'static>, Arc<AtomicUsize>) {
    let (acceptor, certificate) = tls(alpn);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::runtime::Handle::current().spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.expect("loopback");
            count.fetch_add(1, Ordering::Relaxed);
            let (acceptor, simulated) = (acceptor.clone(), simulated.clone());
            connections.spawn(async move {
                // A client that does not trust us hangs up in the handshake.
                let Ok(socket) = acceptor.accept(socket).await else { return };
                let mut builder = auto::Builder::new(TokioExecutor::new());
                if most.is_some() {
                    builder.http2().max_concurrent_streams(most);
                }
                let service =
                    TowerToHyperService::new(service_fn(move |request| with_version(simulated.clone(), request)));
                drop(builder.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    (address, certificate, accepted)
}

/// An acceptor for `localhost`, and its self-signed certificate.
fn tls(alpn: &[&[u8]]) -> (TlsAcceptor, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions that ring has")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a pair");
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

/// The simulated provider, with the HTTP version of the request in a header of the answer.
async fn with_version(mut simulated: Simulated, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let version = if request.version() == Version::HTTP_2 { "2" } else { "1.1" };
    let mut answer = simulated.call(request).await?;
    answer.headers_mut().insert("x-version", http::HeaderValue::from_static(version));
    Ok(answer)
}

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn trusting(certificate: CertificateDer<'static>) -> HttpClient {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions that ring has")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A host may share one configuration among its clients. The protocols that it offers must not be used here.
    config.alpn_protocols = vec![b"http/1.0".to_vec()];
    HttpClient::with_tls(config, Duration::from_secs(5))
}

async fn ask(url: &str, client: HttpClient) -> Response<Body> {
    ask_for(url, client, STREAM).await
}

async fn ask_for(url: &str, client: HttpClient, body: &str) -> Response<Body> {
    let credential = Credential::x_api_key("sk-canary-ours").expect("a header");
    let provider = Provider::with_client(Dialect::Anthropic, url, credential, client).expect("a URL");
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build().expect("a gateway");
    let request = Request::post("/v1/messages").body(Body::from(body.to_owned())).expect("a request");
    gateway.oneshot(request).await.expect("infallible")
}

#[tokio::test]
async fn a_stream_comes_over_tls_in_the_version_that_the_server_negotiates() {
    for (alpn, version) in [(&b"h2"[..], "2"), (&b"http/1.1"[..], "1.1")] {
        let (address, certificate, _) = provider(&[alpn], Simulated::new()).await;
        let answer = ask(&format!("https://localhost:{}", address.port()), trusting(certificate)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-version"]),
            (200, &version.parse().expect("a value"))
        );
        let text = answer.into_body().collect().await.expect("whole").to_bytes();
        assert!(text.ends_with(b"data: {\"type\":\"message_stop\"}\n\n"), "HTTP/{version}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_a_502_and_nothing_is_sent() {
    let (address, _, _) = provider(&[b"h2"], Simulated::new()).await;
    let client = HttpClient::new().expect("TLS");
    let answer = ask(&format!("https://localhost:{}", address.port()), client).await;
    assert_eq!(answer.status(), 502);
    let text = answer.into_body().collect().await.expect("whole").to_bytes();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("could not be reached") && !text.contains("localhost"), "{text}");
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_a_504_within_the_bound_on_connecting() {
    // The kernel accepts connections into the backlog, and nobody reads them.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let client = HttpClient::with_connect_timeout(Duration::from_millis(200)).expect("TLS");
    let answer = tokio::time::timeout(Duration::from_secs(4), ask(&url, client)).await.expect("bounded");
    assert_eq!(answer.status(), 504);
}

/// No timeout is configured. The paused clock jumps to the next timer whenever nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn an_unconfigured_client_gives_a_connection_five_seconds() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let began = Instant::now();
    let answer = ask(&url, HttpClient::new().expect("TLS")).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_unconfigured_provider_waits_ten_minutes_for_an_answer() {
    let began = Instant::now();
    let answer = ask_of(service_fn(|_request: Request<Body>| std::future::pending::<Answered>())).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(began.elapsed().as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn an_unconfigured_provider_waits_five_minutes_for_more_of_an_answer() {
    // Keeps the sender of the body alive, so that the answer does not end.
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let answer = ask_of(service_fn(move |_request: Request<Body>| {
        let (mut held, body) = Channel::<Bytes>::new(1);
        let sender = sender.clone();
        async move {
            held.send_data(Bytes::from_static(b"{\"type\":")).await.expect("there is room");
            sender.send(held).expect("the test goes on");
            Answered::Ok(Response::new(Body::new(body)))
        }
    }));
    let mut body = answer.await.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    let began = Instant::now();
    assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
    assert_eq!(began.elapsed().as_secs(), 300);
    drop(receiver);
}

type Answered = Result<Response<Body>, Infallible>;

/// Asks through a provider that is not configured except for its client.
async fn ask_of<C>(client: C) -> Response<Body>
where
    C: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, client).expect("a URL");
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build().expect("a gateway");
    let body = r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#;
    let request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
    gateway.oneshot(request).await.expect("infallible")
}

#[tokio::test]
async fn clients_that_stop_reading_do_not_starve_the_others_of_their_connection() {
    let simulated = Simulated::new();
    let (address, certificate, accepted) = provider(&[b"h2"], simulated.clone()).await;
    let url = format!("https://localhost:{}", address.port());
    let client = trusting(certificate);
    // Make one call first, so that all others share its connection.
    ask(&url, client.clone()).await.into_body().collect().await.expect("whole");
    let mut stalled = Vec::new();
    for _ in 0..8 {
        // Answers of some megabytes each, which nobody reads.
        stalled.push(ask_for(&url, client.clone(), &STREAM.replace("deltas=20", "deltas=40000")).await);
    }
    // Wait until the provider can send nothing more.
    let produced = || simulated.bill().lines().iter().map(|line| line.output).sum::<u64>();
    let mut before = u64::MAX;
    while before != produced() {
        before = produced();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let bystander = ask(&url, client).await.into_body().collect();
    let text =
        tokio::time::timeout(Duration::from_secs(10), bystander).await.expect("served").expect("whole").to_bytes();
    assert!(text.ends_with(b"data: {\"type\":\"message_stop\"}\n\n"));
    assert_eq!(accepted.load(Ordering::Relaxed), 1, "all went over one connection, and none of it was used up");
}

#[tokio::test]
async fn calls_beyond_what_a_server_lets_go_over_one_connection_go_over_others() {
    let simulated = Simulated::new();
    let (address, certificate, accepted) = provider_of(&[b"h2"], simulated, Some(2)).await;
    let url = format!("https://localhost:{}", address.port());
    let client = trusting(certificate).calls_per_connection(2);
    let mut streams = Vec::new();
    for _ in 0..7 {
        let stalls = STREAM.replace("deltas=20", "deltas=20,stall=3");
        let answer = tokio::time::timeout(Duration::from_secs(10), ask_for(&url, client.clone(), &stalls)).await;
        streams.push(answer.expect("nobody waits for another's end"));
    }
    assert!(streams.iter().all(|answer| answer.status() == 200 && answer.headers()["x-version"] == "2"));
    assert_eq!(accepted.load(Ordering::Relaxed), 4);
    // Calls that have ended make room on the existing connections.
    streams.truncate(1);
    for _ in 0..3 {
        ask(&url, client.clone()).await.into_body().collect().await.expect("whole");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 4);
}
