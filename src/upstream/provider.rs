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
use super::request::{accepts_gzip, ask_encoding, content_type, default_version, strip};
use super::{Credential, ProviderError, ProviderFuture};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// One provider over an HTTP client `C`. See the [module](crate::upstream).
///
/// The client sees origin-form requests with an absolute URI, version HTTP/1.1 (a pool may still negotiate HTTP/2), and a
/// body whose length is known.
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

/// What every request is sent with.
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
    /// A provider that speaks `dialect` below `base_url`, called by `client`. The base may end in `/v1`, as SDKs have it; one
    /// of an API like OpenAI's may name another version anywhere in its path (`/v1beta/openai`), and what it asks for lies
    /// right below it then. Its query, if it has one, goes with every request.
    ///
    /// # Errors
    /// When the URL is not an absolute `http` or `https` one, or carries a user or a fragment.
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

    /// Sends to another base URL.
    ///
    /// # Errors
    /// As for [`with_client`](Self::with_client).
    pub fn base_url(mut self, base_url: &str) -> Result<Self, ProviderError> {
        Arc::make_mut(&mut self.config).base = Base::parse(base_url)?;
        Ok(self)
    }

    /// Asks for the credential anew for every request: one that is replaced every hour, as clouds have them. Called on the way of
    /// the call, so it gives what is at hand, and something else fetches the next. Where it gives none, none is sent.
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

    /// Sends right below the base URL, to `/chat/completions` and not `/v1/chat/completions`, for servers without versions.
    #[must_use]
    pub fn unversioned(mut self) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.base = config.base.clone().unversioned();
        self
    }

    /// Sends this with every request, in the place of what a client says there: a project, a guardrail, the key of a proxy
    /// that stands before the provider. Shown nowhere.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Arc::make_mut(&mut self.config).headers.push((name, value));
        self
    }

    /// Lets a header of the client's pass that would stay here: a name in lower case, or the start of names and a `*`. See
    /// [the table](crate::docs::headers) for those that pass unasked, and for those that never do.
    ///
    /// What it makes the provider do is the host's to know. A budget does not see it: one that chooses a dearer tier, another
    /// model or another place is charged at the price of what the request's body says.
    #[must_use]
    pub fn pass_header(mut self, name: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.config).passes.push(name.into());
        self
    }

    /// How long the head of an answer may take; 10 minutes unless set, since agents fall back to long calls without a
    /// stream. Zero is as long as it takes.
    #[must_use]
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).first_byte = or_never(timeout);
        self
    }

    /// How long an answer may be silent in its middle; 5 minutes unless set. Zero is as long as it likes. There is no
    /// limit on the whole.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).idle = or_never(timeout);
        self
    }

    /// Whether the base URL leads to `listener`: a gateway that is its own upstream calls itself until something breaks.
    /// Resolves the host's name, so ask at start, before serving.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    pub fn points_at(&self, listener: SocketAddr) -> io::Result<bool> {
        let Base { authority, scheme, .. } = &self.config.base;
        let port = authority.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']);
        let mut found = (host, port).to_socket_addrs()?;
        Ok(found.any(|addr| {
            // "Any address" is this machine, to listen on and, on Linux, to connect to.
            let local = |ip: IpAddr| ip.is_unspecified() || ip.is_loopback() || is_own(ip);
            let any = addr.ip().is_unspecified() || listener.ip().is_unspecified();
            let same_host = addr.ip() == listener.ip() || (any && local(addr.ip()) && local(listener.ip()));
            addr.port() == listener.port() && same_host
        }))
    }
}

/// Whether it is an address of this machine: the one from which it would be talked to (nothing is sent to find that out), or
/// one that a socket can be bound to, where that is not so of all.
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

/// 2001:db8::1, which is an example's and nobody's.
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
        // The client's readiness is awaited within the call, where its failure can become an answer.
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

/// No timeout at all, where it is zero.
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
                "no call has been opened: put `CallLayer`, or any layer of tollgate, outside of `Provider`",
            )
        })?;
        let (mut parts, body) = request.into_parts();
        parts.uri = self.uri(&call, &parts.uri)?;
        parts.version = Version::HTTP_11;
        // The call and whatever the host left stay on our side.
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

    /// Ours in scheme, host and path; the client's in its query alone, which Claude Code's `?beta=true` needs.
    fn uri(&self, call: &Call, asked: &Uri) -> Result<Uri, Rejection> {
        let mut endpoint = call.endpoint();
        if let Some(target) = call.target() {
            endpoint.dialect = target.dialect;
            // With our credential, it would ask a path that this provider does not have.
            if (target.dialect == Dialect::Anthropic) != (self.dialect == Dialect::Anthropic) {
                return Err(Rejection::misconfigured(format!(
                    "the upstream `{}` was added as one that speaks {:?}, and its `Provider` speaks {:?}",
                    target.upstream, target.dialect, self.dialect
                )));
            }
        }
        let path = endpoint
            .upstream_path()
            .ok_or_else(|| Rejection::new(RejectionKind::NotFound, "no provider serves this path"))?;
        self.base.uri(path, asked.query()).ok_or_else(|| {
            Rejection::new(RejectionKind::InvalidRequest, "the query of the request is no part of a URL")
        })
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
