//! Client, gateway and provider, each behind its own socket.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tollgate::domain::outcome::Outcome;
use tollgate::route::ModelTable;
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer, IngestLayer};

use crate::support::{Outcomes, Server, canary, log};

pub(crate) const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAiChat];

/// The gateway's credential for the provider. No client may ever see it.
pub(crate) const CREDENTIAL: &str = "sk-canary-of-the-gateway";

pub(crate) fn path(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Anthropic { "/v1/messages" } else { "/v1/chat/completions" }
}

pub(crate) fn model(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Anthropic { "claude-test" } else { "gpt-test" }
}

/// A valid request, with `more` members at its end (such as `,"n":1`).
pub(crate) fn request(dialect: Dialect, more: &str) -> String {
    format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#, model(dialect))
}

/// A gateway whose two upstreams are the same provider.
pub(crate) struct Stack {
    pub(crate) gateway: Server,
    pub(crate) provider: Simulated,
    pub(crate) outcomes: Outcomes,
    client: Client<HttpConnector, Body>,
    /// The server of the simulated provider, if that is the upstream.
    _upstream: Option<Server>,
}

impl Stack {
    pub(crate) async fn new() -> Self {
        Self::ingesting(IngestLayer::new()).await
    }

    pub(crate) async fn ingesting(ingest: IngestLayer) -> Self {
        let provider = Simulated::new().recording();
        let upstream = Server::start(provider.clone()).await;
        let mut stack = Self::build(&upstream.url(), ingest, |provider| provider).await;
        stack.provider = provider;
        stack._upstream = Some(upstream);
        stack
    }

    /// A gateway in front of another server than the simulated provider.
    pub(crate) async fn over(url: &str) -> Self {
        Self::build(url, IngestLayer::new(), |provider| provider).await
    }

    pub(crate) async fn build(
        url: &str,
        ingest: IngestLayer,
        tune: impl Fn(Provider<HttpClient>) -> Provider<HttpClient>,
    ) -> Self {
        log::search();
        let (outcomes, observer) = Outcomes::new();
        let client = HttpClient::with_connect_timeout(Duration::from_millis(500)).expect("a TLS configuration");
        let provider = |dialect| {
            let credential = match dialect {
                Dialect::Anthropic => Credential::x_api_key(CREDENTIAL),
                _ => Credential::bearer(CREDENTIAL),
            };
            let credential = credential.expect("plain letters");
            tune(Provider::with_client(dialect, url, credential, client.clone()).expect("a base URL"))
        };
        let table = ModelTable::new()
            .pattern("claude*", "anthropic", Dialect::Anthropic)
            .pattern("*", "openai", Dialect::OpenAiChat)
            // Every other model name is served by one of the upstreams.
            .alias("nobodys", [] as [&str; 0]);
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, provider(Dialect::Anthropic))
            .upstream("openai", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
            .layer(GatewayLayer::new().ingest(ingest).router(table).on_close(observer))
            .build()
            .expect("a gateway");
        Stack {
            gateway: Server::start(gateway).await,
            provider: Simulated::new(),
            outcomes,
            client: Client::builder(TokioExecutor::new()).build_http(),
            _upstream: None,
        }
    }

    pub(crate) async fn post(&self, dialect: Dialect, body: impl Into<Body>) -> Reply {
        self.send(Request::post(path(dialect)), body).await
    }

    /// Sends a request to the gateway. The builder's URI only has to have the path.
    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Reply {
        let mut request = request.body(body.into()).expect("a request");
        let path = request.uri().path_and_query().expect("a path").as_str();
        *request.uri_mut() = format!("{}{path}", self.gateway.url()).parse().expect("a URL");
        let answer = async {
            let (parts, mut body) = self.client.request(request).await.expect("an answer").into_parts();
            let mut reply = Reply { status: parts.status, headers: parts.headers, body: Bytes::new(), cut: false };
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => bytes.extend_from_slice(frame.data_ref().expect("no trailers here")),
                    Err(_) => reply.cut = true,
                }
            }
            reply.body = bytes.freeze();
            reply
        };
        let reply = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("an answer within 20 s");
        canary::assert_silent("an answer", format!("{:?}", reply.headers).as_bytes());
        canary::assert_silent("an answer", &reply.body);
        reply
    }

    /// The outcome of the call that got `reply`.
    pub(crate) async fn outcome_of(&mut self, reply: &Reply) -> Outcome {
        let outcome = self.outcomes.next().await;
        assert_eq!(
            outcome.id.to_string(),
            reply.header("x-request-id"),
            "the call that closed is the one that answered"
        );
        assert_eq!(outcome.status, Some(reply.status));
        outcome
    }
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The connection broke before the end of the body.
    pub(crate) cut: bool,
}

impl Reply {
    /// The one value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map_or("", |value| value.to_str().expect("text"));
        assert!(values.next().is_none(), "{name} stands more than once");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}
