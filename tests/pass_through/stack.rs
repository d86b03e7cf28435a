//! A gateway in this process, in front of a provider that answers with given bytes in given chunks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tollgate::call::Call;
use tollgate::dialect::head::Head;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::target::Target;
use tollgate::route::Route;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer, Rejection};
use tower::{ServiceExt, service_fn};

use crate::support::{Outcomes, canary, log};

pub(crate) const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAiChat];

pub(crate) const CREDENTIAL: &str = "sk-canary-of-the-gateway";

pub(crate) fn path(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Anthropic { "/v1/messages" } else { "/v1/chat/completions" }
}

/// Asserts by SHA-256 that two texts are the same to the byte, and shows where they differ.
#[track_caller]
pub(crate) fn same(got: &[u8], expected: &[u8], why: &str) {
    if Sha256::digest(got) == Sha256::digest(expected) {
        return;
    }
    let at = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(got.len().min(expected.len()));
    let near = |bytes: &[u8]| {
        let end = bytes.len().min(at + 60);
        String::from_utf8_lossy(&bytes[at.saturating_sub(30).min(end)..end]).into_owned()
    };
    panic!(
        "{why}: {} bytes, expected {}; they part at {at}:\n got      {:?}\n expected {:?}",
        got.len(),
        expected.len(),
        near(got),
        near(expected)
    );
}

/// Routes any model to a target in the call's own dialect.
pub(crate) struct Mirror;

impl Route for Mirror {
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        let upstream = if call.dialect() == Dialect::Anthropic { "anthropic" } else { "openai" };
        Ok(vec![Arc::new(Target::new(upstream, call.dialect(), head.model()))])
    }
}

/// What the provider answers.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) end: Ending,
}

/// How the body ends.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Ending {
    #[default]
    Good,
    Trailers,
    Reset,
}

impl Answer {
    pub(crate) fn json(body: &[u8]) -> Self {
        Self::new("application/json", body)
    }

    pub(crate) fn sse(body: &[u8]) -> Self {
        Self::new("text/event-stream; charset=utf-8", body)
    }

    pub(crate) fn new(kind: &str, body: &[u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().expect("a value"));
        Answer { headers, chunks: vec![Bytes::copy_from_slice(body)], ..Answer::default() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().expect("a value"));
        self
    }

    /// The same bytes in pieces that end at `cuts`.
    pub(crate) fn cut(mut self, cuts: &[usize]) -> Self {
        let whole = self.chunks.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
        cuts.push(whole.len());
        cuts.sort_unstable();
        let mut start = 0;
        self.chunks.clear();
        for cut in cuts {
            self.chunks.push(Bytes::copy_from_slice(&whole[start..cut]));
            start = cut;
        }
        self
    }

    pub(crate) fn ending(mut self, end: Ending) -> Self {
        self.end = end;
        self
    }
}

/// A request as the provider saw it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer as the client saw it, and everything else that is known of the call.
pub(crate) struct Exchange {
    pub(crate) seen: Seen,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether trailers came, and whether they came last.
    pub(crate) trailers: bool,
    pub(crate) cut: bool,
    pub(crate) outcome: Outcome,
}

/// A gateway with an upstream for `claude*`, another for all other models, and the aliases of the test.
pub(crate) struct Stack {
    gateway: Gateway,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Option<Seen>>>,
    outcomes: Outcomes,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder, |layer| layer.router(Mirror))
    }

    pub(crate) fn with(
        build: impl FnOnce(tollgate::gateway::GatewayBuilder) -> tollgate::gateway::GatewayBuilder,
        layer: impl FnOnce(GatewayLayer) -> GatewayLayer,
    ) -> Self {
        log::search();
        let answer = Arc::new(Mutex::new(Answer::default()));
        let seen = Arc::new(Mutex::new(None));
        let (outcomes, observer) = Outcomes::new();
        let provider = |dialect, credential: Credential| {
            let (answer, seen) = (answer.clone(), seen.clone());
            let service = service_fn(move |request| respond(request, answer.clone(), seen.clone()));
            Provider::with_client(dialect, "http://provider.test/base/v1", credential, service).expect("a base URL")
        };
        let key = Credential::x_api_key(CREDENTIAL).expect("plain letters");
        let bearer = Credential::bearer(CREDENTIAL).expect("plain letters");
        let builder = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, provider(Dialect::Anthropic, key))
            .upstream("openai", Dialect::OpenAiChat, provider(Dialect::OpenAiChat, bearer))
            .layer(layer(GatewayLayer::new().on_close(observer)));
        Stack { gateway: build(builder).build().expect("a gateway"), answer, seen, outcomes }
    }

    /// Makes a call to which the provider answers `answer`.
    pub(crate) async fn post(&mut self, dialect: Dialect, body: impl Into<Body>, answer: Answer) -> Exchange {
        self.send(Request::post(path(dialect)), body, answer).await
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Body>,
        answer: Answer,
    ) -> Exchange {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        let request = request.body(body.into()).expect("a request");
        let response = self.gateway.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, mut body) = response.into_parts();
        let (mut bytes, mut trailers, mut cut) = (Vec::new(), false, false);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                cut = true;
                break;
            };
            match frame.into_data() {
                Ok(data) => {
                    assert!(!trailers || data.is_empty(), "data after the trailers is lost on every wire");
                    bytes.extend_from_slice(&data);
                }
                Err(_) => trailers = true,
            }
        }
        drop(body);
        canary::assert_silent("an answer", format!("{:?}", parts.headers).as_bytes());
        canary::assert_silent("an answer", &bytes);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(seen) = seen else {
            panic!("nothing reached the provider: {} {}", parts.status, String::from_utf8_lossy(&bytes))
        };
        Exchange {
            seen,
            status: parts.status,
            headers: parts.headers,
            body: bytes.into(),
            trailers,
            cut,
            outcome: self.outcomes.next().await,
        }
    }
}

async fn respond(
    request: Request<Body>,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Option<Seen>>>,
) -> Result<Response<Chunks>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body in memory").to_bytes();
    let place = seen.lock().unwrap_or_else(PoisonError::into_inner).replace(Seen {
        uri: parts.uri,
        headers: parts.headers,
        body,
    });
    assert!(place.is_none(), "one call, one request");
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut response = Response::new(Chunks { left: answer.chunks.into(), end: Some(answer.end), waited: false });
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// A body in pieces. Each piece is pending at first.
pub(crate) struct Chunks {
    left: VecDeque<Bytes>,
    end: Option<Ending>,
    waited: bool,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        this.waited = !this.waited;
        if this.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(chunk) = this.left.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        Poll::Ready(match this.end.take() {
            Some(Ending::Trailers) => Some(Ok(Frame::trailers(HeaderMap::new()))),
            Some(Ending::Reset) => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            _ => None,
        })
    }
}

/// Runs async steps in a test that cannot be async itself.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
