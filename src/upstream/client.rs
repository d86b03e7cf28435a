use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower::Service;

use super::ProviderError;
use super::opening::Openings;
use super::pools::{HttpBody, HttpFuture, Pools};
use super::provider::or_never;
use crate::body::{Body, BoxError};

/// How many calls share one HTTP/2 connection: servers should not allow fewer (RFC 9113 section 6.5.2).
const TOGETHER: usize = 100;

/// How long a connection gets new calls: a provider or load balancer that moves announces it only through DNS.
const AGE: Duration = Duration::from_secs(300);

/// An HTTP client: hyper's pool over rustls (ring, webpki-roots), with HTTP/1.1 or HTTP/2 as the server negotiates.
///
/// - An HTTP/2 connection carries up to [100 calls](Self::calls_per_connection) at once; further calls use more
///   connections, up to 32 to a host. Calls beyond that share these.
/// - A connection gets new calls for at most [5 minutes](Self::connection_age).
/// - It does not use a proxy (`HTTPS_PROXY`). If you need one, use your own client.
///
/// There is no global state: the TLS configuration has its own crypto provider. Cloning is cheap, and clones share the
/// pool.
#[derive(Clone)]
pub struct HttpClient {
    /// In one `Arc`, since cloning the pools would clone each of their many parts.
    pools: Arc<Pools<Hyper>>,
}

type Hyper = Client<TimedConnector, Body>;

impl HttpClient {
    /// Creates a client with a connect timeout of 5 seconds, for DNS, TCP and TLS together.
    ///
    /// # Errors
    /// If the TLS configuration cannot be made.
    pub fn new() -> Result<Self, ProviderError> {
        Self::with_connect_timeout(Duration::from_secs(5))
    }

    /// Creates a client with this connect timeout.
    ///
    /// # Errors
    /// If the TLS configuration cannot be made.
    pub fn with_connect_timeout(timeout: Duration) -> Result<Self, ProviderError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ProviderError::new(format!("TLS: {error}")))?;
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Ok(Self::with_tls(tls.with_root_certificates(roots).with_no_client_auth(), timeout))
    }

    /// Creates a client with your own TLS configuration: private roots, client certificates. Its list of ALPN protocols
    /// is ignored.
    #[must_use]
    pub fn with_tls(mut tls: ClientConfig, connect_timeout: Duration) -> Self {
        // The connector sets the protocols itself, and does not accept a configuration that has any.
        tls.alpn_protocols.clear();
        let mut http = HttpConnector::new();
        // The `https` connector around it checks the scheme.
        http.enforce_http(false);
        // Without it, a stream waits 40 ms for acknowledgements.
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        // Divided among the addresses of a name, so that a dead address does not use up the time of the next one.
        http.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(http);
        let connector = TimedConnector { inner: https, timeout: connect_timeout, openings: Openings::default() };
        HttpClient { pools: Arc::new(Pools::new(TOGETHER, AGE, move || pool(connector.of_another_pool()))) }
    }

    /// Sets how many calls share one HTTP/2 connection; the default is 100. Lower it for a server that allows fewer
    /// streams and would make further calls wait.
    ///
    /// The returned client starts without connections, so do not call this on a client in use.
    #[must_use]
    pub fn calls_per_connection(self, most: usize) -> Self {
        HttpClient { pools: Arc::new(self.pools.of(most.max(1))) }
    }

    /// Sets how long a connection gets new calls; the default is 5 minutes. After that, the next call opens a new
    /// connection to where the host's name leads by then, and calls in progress finish on the old one.
    ///
    /// Zero means no limit: a connection then stays in use as long as it lasts, which is for ever if calls never pause.
    /// The returned client starts without connections, so do not call this on a client in use.
    #[must_use]
    pub fn connection_age(self, greatest: Duration) -> Self {
        HttpClient { pools: Arc::new(self.pools.aging(or_never(greatest))) }
    }
}

fn pool(connector: TimedConnector) -> Hyper {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        // A connection carries many calls, and unread streams must not use up the window of the others. So only the
        // streams have a bound, not the connection as a whole.
        .http2_initial_stream_window_size(256 << 10)
        .http2_initial_connection_window_size((1 << 31) - 1)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .build(connector)
}

impl Service<Request<Body>> for HttpClient {
    type Response = Response<HttpBody>;
    type Error = Error;
    type Future = HttpFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // The pools are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, place) = self.pools.place(|client| client.request(request));
        HttpFuture::new(answer, place)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Limits the whole time of connecting; the connector's own timeout covers only TCP.
#[derive(Clone)]
struct TimedConnector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
    openings: Openings,
}

impl TimedConnector {
    fn of_another_pool(&self) -> Self {
        TimedConnector { openings: self.openings.of_another(), ..self.clone() }
    }
}

type Connection = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;

impl Service<Uri> for TimedConnector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // Without TLS no protocol is negotiated: each call has its own connection.
        let host = if uri.scheme() == Some(&Scheme::HTTPS) { uri.authority().cloned() } else { None };
        let connecting = self.inner.call(uri);
        let (timeout, openings) = (self.timeout, self.openings.clone());
        // Starts when connecting starts, not while this call waits for another one.
        let connecting = async move {
            tokio::time::timeout(timeout, connecting)
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long").into()))
        };
        Box::pin(async move {
            match host {
                Some(host) => openings.connect(host, timeout / 2, connecting).await,
                None => connecting.await,
            }
        })
    }
}
