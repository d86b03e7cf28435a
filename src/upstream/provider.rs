use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, Uri, Version};
use tower::{Service, ServiceExt};

use super::answer::Asked;
use super::base::Base;
use super::request::{ask_encoding, content_type, default_version, strip};
use super::{Credential, ProviderError, ProviderFuture};
use crate::body::{Body, BoxError, accepts_gzip};
use crate::call::Call;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// One provider, called through an HTTP client `C`. See the [module](crate::upstream).
///
/// The client gets requests with an absolute URI, version HTTP/1.1 (a pool may still negotiate HTTP/2), and a body of
/// known length.
#[derive(Clone)]
pub struct Provider<C> {
    config: Arc<Config>,
    client: C,
}

#[derive(Clone)]
struct Config {
    dialect: Dialect,
    base: Base,
    credential: Proof,
    headers: Vec<(HeaderName, HeaderValue)>,
    passes: Vec<Arc<str>>,
    first_byte: Duration,
    idle: Duration,
}

/// The credential of each request.
#[derive(Clone)]
enum Proof {
    Always(Option<Credential>),
    Anew(Arc<dyn Fn() -> Option<Credential> + Send + Sync>),
}

impl Proof {
    fn now(&self) -> Option<Cow<'_, Credential>> {
        match self {
            Proof::Always(credential) => credential.as_ref().map(Cow::Borrowed),
            Proof::Anew(credential) => credential().map(Cow::Owned),
        }
    }
}

#[cfg(feature = "upstream")]
impl Provider<super::HttpClient> {
    /// Anthropic's API, called through [`HttpClient`](super::HttpClient).
    ///
    /// # Errors
    /// If the key contains bytes that are not allowed in a header, and if the system's certificates cannot be used.
    pub fn anthropic(key: &str) -> Result<Self, ProviderError> {
        let client = super::HttpClient::new()?;
        Self::with_client(Dialect::Anthropic, "https://api.anthropic.com", Credential::x_api_key(key)?, client)
    }

    /// OpenAI's API, called through [`HttpClient`](super::HttpClient).
    ///
    /// # Errors
    /// If the key contains bytes that are not allowed in a header, and if the system's certificates cannot be used.
    pub fn openai(key: &str) -> Result<Self, ProviderError> {
        let client = super::HttpClient::new()?;
        Self::with_client(Dialect::OpenAiChat, "https://api.openai.com", Credential::bearer(key)?, client)
    }
}

impl<C> Provider<C> {
    /// Creates a provider that speaks `dialect` below `base_url` and is called through `client`.
    ///
    /// The base may end in `/v1`, as in the SDKs. The base of an OpenAI-compatible API may contain another version
    /// anywhere in its path (`/v1beta/openai`); the endpoints are then directly below it. If the base has a query, it
    /// is sent with every request.
    ///
    /// # Errors
    /// If the URL is not an absolute `http` or `https` URL, or contains a user or a fragment.
    pub fn with_client(
        dialect: Dialect,
        base_url: &str,
        credential: impl Into<Option<Credential>>,
        client: C,
    ) -> Result<Self, ProviderError> {
        let config = Config {
            dialect,
            base: Base::parse(base_url)?,
            credential: Proof::Always(credential.into()),
            headers: Vec::new(),
            passes: Vec::new(),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
        };
        Ok(Provider { config: Arc::new(config), client })
    }

    /// Replaces the base URL.
    ///
    /// # Errors
    /// See [`with_client`](Self::with_client).
    pub fn base_url(mut self, base_url: &str) -> Result<Self, ProviderError> {
        Arc::make_mut(&mut self.config).base = Base::parse(base_url)?;
        Ok(self)
    }

    /// Gets the credential from `now` for every request, for credentials that are replaced regularly, as in clouds.
    ///
    /// `now` runs while a call waits, so it must return a credential that is at hand, and another task must fetch the
    /// next one. If it returns `None`, no credential is sent.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// use std::sync::{Arc, RwLock};
    /// use tollgate::Dialect;
    /// use tollgate::testing::Simulated;
    /// use tollgate::upstream::{Credential, Provider};
    ///
    /// let token = Arc::new(RwLock::new("ya29.of-this-hour".to_owned()));
    /// let now = token.clone();
    /// let provider = Provider::with_client(Dialect::Anthropic, "https://llm.example.com", None, Simulated::new())?
    ///     .credential_by(move || Credential::bearer(&now.read().ok()?).ok());
    /// // … by a task of yours, before it expires:
    /// *token.write().expect("no panic") = "ya29.of-the-next".to_owned();
    /// # }
    /// # Ok::<(), tollgate::upstream::ProviderError>(())
    /// ```
    #[must_use]
    pub fn credential_by(mut self, now: impl Fn() -> Option<Credential> + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).credential = Proof::Anew(Arc::new(now));
        self
    }

    /// Sends requests directly below the base URL, to `/chat/completions` instead of `/v1/chat/completions`, for
    /// servers without versions.
    #[must_use]
    pub fn unversioned(mut self) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.base = config.base.clone().unversioned();
        self
    }

    /// Sends this header with every request, replacing the client's value: a project, a guardrail, the key of a proxy
    /// in front of the provider. The value is never shown.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Arc::make_mut(&mut self.config).headers.push((name, value));
        self
    }

    /// Passes one more header of the client's upstream: a name in lower case, or a prefix followed by `*`. See [the
    /// table](crate::docs::headers) for the headers that always pass, and those that never do.
    ///
    /// You must know what the header makes the provider do. Budgets do not see it: if it chooses a more expensive tier,
    /// another model or another region, the call is still charged at the price of what the body asks for.
    #[must_use]
    pub fn pass_header(mut self, name: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.config).passes.push(name.into());
        self
    }

    /// Sets how long the head of an answer may take. The default is 10 minutes, since agents fall back to long calls
    /// without streaming. Zero means no limit.
    #[must_use]
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).first_byte = or_never(timeout);
        self
    }

    /// Sets how long an answer may be silent once it has begun. The default is 5 minutes, and zero means no limit. The
    /// total time of an answer is not limited.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).idle = or_never(timeout);
        self
    }

    /// Whether the base URL leads to `listener`. A gateway that is its own upstream would call itself until something
    /// breaks.
    ///
    /// This resolves the host's name, so call it at start, before serving.
    ///
    /// # Errors
    /// If the name cannot be resolved.
    pub fn points_at(&self, listener: SocketAddr) -> io::Result<bool> {
        let Base { authority, scheme, .. } = &self.config.base;
        let port = authority.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']);
        let mut found = (host, port).to_socket_addrs()?;
        Ok(found.any(|addr| {
            // The unspecified address means this machine, both for listening and, on Linux, for connecting.
            let local = |ip: IpAddr| ip.is_unspecified() || ip.is_loopback() || is_own(ip);
            let any = addr.ip().is_unspecified() || listener.ip().is_unspecified();
            let same_host = addr.ip() == listener.ip() || (any && local(addr.ip()) && local(listener.ip()));
            addr.port() == listener.port() && same_host
        }))
    }
}

/// Whether this is an address of this machine: connections to it would come from the same address (checked without
/// sending anything), or a socket can be bound to it, on a machine where that is not true of every address.
fn is_own(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    let nobodys: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::new(192, 0, 2, 1).into() } else { Ipv6Addr::from(DOCUMENTATION).into() };
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip) || (binds(ip) && !binds(nobodys))
}

/// 2001:db8::1, a documentation address that belongs to nobody.
const DOCUMENTATION: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];

impl<C, ResB> Service<Request<Body>> for Provider<C>
where
    C: Service<Request<Body>, Response = Response<ResB>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ProviderFuture<C>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The client's readiness is awaited within the call, where a failure can become an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (accepts_gzip, call) = (accepts_gzip(request.headers()), Call::of(&request).cloned());
        let doorless = Call::doorless(&request);
        let credential = self.config.credential.now();
        match self.config.prepare(request, credential.as_deref(), accepts_gzip) {
            Ok(request) => {
                let answer = self.client.clone().oneshot(request);
                let Config { dialect, first_byte, idle, .. } = *self.config;
                let secret = credential.as_deref().and_then(Credential::secret);
                ProviderFuture::sent(answer, Asked { dialect, accepts_gzip, call, secret }, first_byte, idle)
            }
            Err(rejection) => ProviderFuture::refused(Call::reject_for(rejection, doorless)),
        }
    }
}

/// Zero means no timeout.
pub(super) fn or_never(timeout: Duration) -> Duration {
    if timeout.is_zero() { Duration::MAX } else { timeout }
}

impl Config {
    fn prepare(
        &self,
        request: Request<Body>,
        credential: Option<&Credential>,
        accepts_gzip: bool,
    ) -> Result<Request<Body>, Rejection> {
        let call = Call::of(&request).cloned().ok_or_else(|| {
            Rejection::misconfigured(
                "no call has been opened: put `CallLayer`, or any other tollgate layer, outside of `Provider`",
            )
        })?;
        let (mut parts, body) = request.into_parts();
        parts.uri = self.uri(&call, &parts.uri)?;
        parts.version = Version::HTTP_11;
        // The call and the host's extensions do not leave the gateway.
        parts.extensions = http::Extensions::new();
        strip(&mut parts.headers, &self.passes);
        ask_encoding(&mut parts.headers, call.head().is_some_and(|head| head.is_stream()), accepts_gzip);
        if call.endpoint().has_head() {
            content_type(&mut parts.headers);
        }
        default_version(&mut parts.headers, self.dialect);
        for (name, value) in &self.headers {
            parts.headers.insert(name, value.clone());
        }
        if let Some(credential) = credential {
            credential.inject(&mut parts.headers);
        }
        Ok(Request::from_parts(parts, call.watched(body)))
    }

    /// The URL for the provider: our scheme, host and path, and only the query from the client, which Claude Code's
    /// `?beta=true` needs.
    fn uri(&self, call: &Call, asked: &Uri) -> Result<Uri, Rejection> {
        let mut endpoint = call.endpoint();
        if let Some(target) = call.target() {
            endpoint.dialect = target.dialect;
            // Otherwise our credential would go to a path that this provider does not have.
            if (target.dialect == Dialect::Anthropic) != (self.dialect == Dialect::Anthropic) {
                return Err(Rejection::misconfigured(format!(
                    "the upstream `{}` was added as {:?}, but its `Provider` speaks {:?}",
                    target.upstream, target.dialect, self.dialect
                )));
            }
        }
        let path = endpoint
            .upstream_path()
            .ok_or_else(|| Rejection::new(RejectionKind::NotFound, "no provider serves this path"))?;
        self.base
            .uri(path, asked.query())
            .ok_or_else(|| Rejection::new(RejectionKind::InvalidRequest, "the query is not valid in a URL"))
    }
}

impl<C> fmt::Debug for Provider<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("dialect", &self.config.dialect)
            .field("authority", &self.config.base.authority)
            .field("base_path", &self.config.base.path)
            .finish_non_exhaustive()
    }
}
