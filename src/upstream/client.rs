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

/// How many calls go over one connection of HTTP/2 at once: servers are asked to allow no fewer (RFC 9113 section 6.5.2).
const TOGETHER: usize = 100;

/// For how long a connection is given calls: a provider that moves, or its balancer, says so by its name alone.
const AGE: Duration = Duration::from_secs(300);

/// An HTTP client: hyper's pool over rustls (ring, webpki-roots), HTTP/1.1 and HTTP/2 as the server negotiates.
///
/// Over HTTP/2 a connection carries up to [100 calls](Self::calls_per_connection) at once, and more go over more of them. None
/// is given calls for more than [5 minutes](Self::connection_age).
///
/// It connects by itself: a proxy on the way out (`HTTPS_PROXY`) is not asked for, and needs a client of yours.
///
/// Holds no global state: its TLS configuration names its own crypto provider. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct HttpClient {
    /// Shared as a whole: a clone of it is one of each of its many parts.
    pools: Arc<Pools<Hyper>>,
}

type Hyper = Client<TimedConnector, Body>;

impl HttpClient {
    /// A client that gives a connection 5 seconds, DNS, TCP and TLS together.
    ///
    /// # Errors
    /// When the TLS configuration cannot be made.
    pub fn new() -> Result<Self, ProviderError> {
        Self::with_connect_timeout(Duration::from_secs(5))
    }

    /// A client that gives a connection this long.
    ///
    /// # Errors
    /// When the TLS configuration cannot be made.
    pub fn with_connect_timeout(timeout: Duration) -> Result<Self, ProviderError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ProviderError::new(format!("TLS: {error}")))?;
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Ok(Self::with_tls(tls.with_root_certificates(roots).with_no_client_auth(), timeout))
    }

    /// A client with a TLS configuration of yours: private roots, client certificates. Which protocols it offers is not its to
    /// say.
    #[must_use]
    pub fn with_tls(mut tls: ClientConfig, connect_timeout: Duration) -> Self {
        // The connector says what the pool speaks, and takes no configuration that does.
        tls.alpn_protocols.clear();
        let mut http = HttpConnector::new();
        // The `https` connector around it decides about the scheme.
        http.enforce_http(false);
        // Without it a stream waits 40 ms for acknowledgements.
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        // Divided among the addresses of a name: one that is dead must not take the time of the next.
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

    /// How many calls go over one connection of HTTP/2 at once, 100 unless set: for a server that allows fewer, which would
    /// let the others wait. Not for a client in use: this one begins without connections.
    #[must_use]
    pub fn calls_per_connection(self, most: usize) -> Self {
        HttpClient { pools: Arc::new(self.pools.of(most.max(1))) }
    }

    /// For how long a connection is given calls, at most; 5 minutes unless set. Then the next call opens another, to where the
    /// host's name leads by then, and those under way go on to their end. Zero is for as long as it lasts, which is for ever
    /// where calls never stop coming. Not for a client in use: this one begins without connections.
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
        // A connection carries many calls: unread streams must not use up what the others need, so the whole of it has
        // no bound but its streams'.
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
        // As its pools are at any time.
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

/// Bounds the whole of connecting: the connector's own timeout knows of TCP alone.
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
        // Without TLS nothing is negotiated: each call has a connection of its own.
        let host = if uri.scheme() == Some(&Scheme::HTTPS) { uri.authority().cloned() } else { None };
        let connecting = self.inner.call(uri);
        let (timeout, openings) = (self.timeout, self.openings.clone());
        // From when it begins, whoever was waited for before.
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
