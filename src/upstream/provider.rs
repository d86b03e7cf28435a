use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use tower::{Service, ServiceExt};

use super::answer::clean;
use super::idle::IdleBody;
use super::request::{accepts_gzip, ask_encoding, default_version, strip};
use super::{Credential, ProviderError};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// One provider over an HTTP client `C`. See the [module](crate::upstream).
///
/// The client sees origin-form requests with an absolute URI, version HTTP/1.1 (a pool may still negotiate HTTP/2), and a
/// body that is in memory.
#[derive(Clone)]
pub struct Provider<C> {
    config: Arc<Config>,
    client: C,
}

#[derive(Clone)]
struct Config {
    dialect: Dialect,
    scheme: Scheme,
    authority: Authority,
    /// Without a trailing slash.
    base_path: String,
    credential: Option<Credential>,
    first_byte: Duration,
    idle: Duration,
}

#[cfg(feature = "upstream")]
impl Provider<super::HttpClient> {
    /// Anthropic's API, by our own client.
    ///
    /// # Errors
    /// When the key has bytes that no header can carry.
    pub fn anthropic(key: &str) -> Result<Self, ProviderError> {
        let client = super::HttpClient::new()?;
        Self::with_client(Dialect::Anthropic, "https://api.anthropic.com", Credential::x_api_key(key)?, client)
    }

    /// OpenAI's API, by our own client.
    ///
    /// # Errors
    /// When the key has bytes that no header can carry.
    pub fn openai(key: &str) -> Result<Self, ProviderError> {
        let client = super::HttpClient::new()?;
        Self::with_client(Dialect::OpenAiChat, "https://api.openai.com", Credential::bearer(key)?, client)
    }
}

impl<C> Provider<C> {
    /// A provider that speaks `dialect` below `base_url`, called by `client`. The base may end in `/v1`, as SDKs have it.
    ///
    /// # Errors
    /// When the URL is not an absolute `http` or `https` one, or carries a user, a query or a fragment.
    pub fn with_client(
        dialect: Dialect,
        base_url: &str,
        credential: impl Into<Option<Credential>>,
        client: C,
    ) -> Result<Self, ProviderError> {
        let (scheme, authority, base_path) = parse(base_url)?;
        let config = Config {
            dialect,
            scheme,
            authority,
            base_path,
            credential: credential.into(),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
        };
        Ok(Provider { config: Arc::new(config), client })
    }

    /// Sends to another base URL.
    ///
    /// # Errors
    /// As for [`with_client`](Self::with_client).
    pub fn base_url(mut self, base_url: &str) -> Result<Self, ProviderError> {
        let (scheme, authority, base_path) = parse(base_url)?;
        let config = Arc::make_mut(&mut self.config);
        (config.scheme, config.authority, config.base_path) = (scheme, authority, base_path);
        Ok(self)
    }

    /// How long the head of an answer may take; 10 minutes unless set, since agents fall back to long calls without a stream.
    #[must_use]
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).first_byte = timeout;
        self
    }

    /// How long an answer may be silent in its middle; 5 minutes unless set. There is no limit on the whole.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).idle = timeout;
        self
    }

    /// Whether the base URL leads to `listener`: a gateway that is its own upstream calls itself until something breaks.
    /// Resolves the host's name, so ask at start, before serving.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    pub fn points_at(&self, listener: SocketAddr) -> io::Result<bool> {
        let Config { authority, scheme, .. } = &*self.config;
        let port = authority.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']);
        let mut found = (host, port).to_socket_addrs()?;
        Ok(found.any(|addr| {
            // "Any address" is this machine, to listen on and, on Linux, to connect to.
            let local = |ip: IpAddr| ip.is_unspecified() || ip.is_loopback();
            let any = addr.ip().is_unspecified() || listener.ip().is_unspecified();
            let same_host = addr.ip() == listener.ip() || (any && local(addr.ip()) && local(listener.ip()));
            addr.port() == listener.port() && same_host
        }))
    }
}

impl<C, ResB> Service<Request<Body>> for Provider<C>
where
    C: Service<Request<Body>, Response = Response<ResB>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The client's readiness is awaited within the call, where its failure can become an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (config, client) = (self.config.clone(), self.client.clone());
        Box::pin(async move { Ok(send(&config, client, request).await.unwrap_or_else(Call::reject)) })
    }
}

async fn send<C, ResB>(config: &Config, client: C, request: Request<Body>) -> Result<Response<Body>, Rejection>
where
    C: Service<Request<Body>, Response = Response<ResB>, Error: Into<BoxError>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let accepts_gzip = accepts_gzip(request.headers());
    let request = config.prepare(request, accepts_gzip)?;
    let response = tokio::time::timeout(config.first_byte, client.oneshot(request))
        .await
        .map_err(|_| Rejection::new(RejectionKind::UpstreamTimeout, "the upstream did not begin to answer in time"))?
        .map_err(|error| unreachable(&error.into()))?;
    clean(response.map(|body| Body::new(IdleBody::new(Body::new(body), config.idle))), accepts_gzip)
}

impl Config {
    fn prepare(&self, request: Request<Body>, accepts_gzip: bool) -> Result<Request<Body>, Rejection> {
        let call = Call::of(&request).cloned().ok_or_else(|| {
            Rejection::misconfigured(
                "no call has been opened: put `CallLayer`, or any layer of tollgate, outside of `Provider`",
            )
        })?;
        let (mut parts, body) = request.into_parts();
        parts.uri = self.uri(&call, &parts.uri)?;
        parts.version = Version::HTTP_11;
        // The call and whatever the host left stay on our side.
        parts.extensions = http::Extensions::new();
        strip(&mut parts.headers);
        ask_encoding(&mut parts.headers, call.head().is_some_and(|head| head.is_stream()), accepts_gzip);
        default_version(&mut parts.headers, self.dialect);
        if let Some(credential) = &self.credential {
            credential.inject(&mut parts.headers);
        }
        Ok(Request::from_parts(parts, body))
    }

    /// Ours in scheme, host and path; the client's in its query alone, which Claude Code's `?beta=true` needs.
    fn uri(&self, call: &Call, asked: &Uri) -> Result<Uri, Rejection> {
        let path = call
            .endpoint()
            .upstream_path()
            .ok_or_else(|| Rejection::new(RejectionKind::NotFound, "no provider serves this path"))?;
        // Base URLs are given with and without the version, as the SDKs of the two families differ in it.
        let base = self.base_path.strip_suffix("/v1").unwrap_or(&self.base_path);
        let path = match asked.query() {
            Some(query) => format!("{base}{path}?{query}"),
            None => format!("{base}{path}"),
        };
        PathAndQuery::try_from(path)
            .ok()
            .and_then(|path| {
                Uri::builder()
                    .scheme(self.scheme.clone())
                    .authority(self.authority.clone())
                    .path_and_query(path)
                    .build()
                    .ok()
            })
            .ok_or_else(|| {
                Rejection::new(RejectionKind::InvalidRequest, "the query of the request is no part of a URL")
            })
    }
}

fn parse(base_url: &str) -> Result<(Scheme, Authority, String), ProviderError> {
    let bad = |why: &str| ProviderError::new(format!("base URL: {why}"));
    if base_url.contains('#') {
        return Err(bad("a fragment means nothing here"));
    }
    let uri: Uri = base_url.trim().parse().map_err(|_| bad("not a URL"))?;
    let parts = uri.into_parts();
    let scheme = parts
        .scheme
        .filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS)
        .ok_or_else(|| bad("it must begin with http:// or https://"))?;
    let authority = parts.authority.ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("credentials do not belong in it"));
    }
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.query().is_some() {
        return Err(bad("a query means nothing here"));
    }
    Ok((scheme, authority, path.path().trim_end_matches('/').to_owned()))
}

/// Tells a provider that never saw the request from one that may have worked on it.
fn unreachable(error: &BoxError) -> Rejection {
    let timed_out =
        chain(&**error).any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut));
    let unsent = is_connect(&**error);
    let internal = chain(&**error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let rejection = match timed_out {
        true => Rejection::new(RejectionKind::UpstreamTimeout, "the upstream could not be connected to in time"),
        false if unsent => Rejection::new(RejectionKind::UpstreamUnreachable, "the upstream could not be reached"),
        false => Rejection::new(RejectionKind::UpstreamUnreachable, "the upstream hung up without an answer"),
    }
    .internal(internal);
    if unsent { rejection.nothing_sent() } else { rejection }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

/// Only our own client says so; of another's error we must assume the worst.
#[cfg(feature = "upstream")]
fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|e| {
        e.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

#[cfg(not(feature = "upstream"))]
fn is_connect(_error: &(dyn std::error::Error + 'static)) -> bool {
    false
}

impl<C> fmt::Debug for Provider<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("dialect", &self.config.dialect)
            .field("authority", &self.config.authority)
            .field("base_path", &self.config.base_path)
            .finish_non_exhaustive()
    }
}
