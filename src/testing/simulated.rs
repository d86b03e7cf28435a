use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::Service;

use super::body::{Scripted, Step};
use super::{Bill, Fault, Script, anthropic, openai_chat};
use crate::body::{Body, BoxError};
use crate::domain::dialect::{Dialect, Endpoint, Operation};
use crate::domain::rejection::{Rejection, RejectionKind};

/// A simulated provider: a service to use instead of an HTTP client, or behind a listener. Clones share the bill.
#[derive(Clone, Default)]
pub struct Simulated {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bill: Bill,
    scripts: Mutex<VecDeque<Script>>,
    received: Mutex<Option<Vec<Received>>>,
}

/// A request as the provider saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, to the byte.
    pub body: Bytes,
}

impl Simulated {
    /// Creates a provider that answers successfully unless told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues `script` for the next request that no earlier script is waiting for. A directive in a prompt takes
    /// precedence.
    pub fn script(&self, script: Script) {
        lock(&self.shared.scripts).push_back(script);
    }

    /// The bill of what it would charge.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.shared.bill.clone()
    }

    /// Records every request from now on, for [`received`](Self::received).
    #[must_use]
    pub fn recording(self) -> Self {
        *lock(&self.shared.received) = Some(Vec::new());
        self
    }

    /// The requests since [`recording`](Self::recording) began.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone().unwrap_or_default()
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return error(Dialect::OpenAiChat, StatusCode::BAD_REQUEST, "the request body was cut off");
        };
        let script = Script::directive(&body).or_else(|| lock(&self.shared.scripts).pop_front()).unwrap_or_default();
        if script.unreachable {
            let refused = Rejection::new(RejectionKind::UpstreamUnreachable, "the upstream could not be reached");
            return Response::from(refused.nothing_sent().internal("the simulated provider refuses the connection"));
        }
        if let Some(received) = &mut *lock(&self.shared.received) {
            received.push(Received {
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                headers: parts.headers.clone(),
                body: body.clone(),
            });
        }
        let endpoint = Endpoint::of(parts.uri.path());
        if !script.head_delay.is_zero() {
            tokio::time::sleep(script.head_delay).await;
        }
        if script.html {
            return page(script.status);
        }
        match StatusCode::from_u16(script.status) {
            Ok(status) if !status.is_success() => return error(endpoint.dialect, status, "simulated error"),
            _ => {}
        }
        let input = script.input(body.len());
        match endpoint.operation {
            Operation::CountTokens => return whole(&json!({ "input_tokens": input })),
            Operation::Generate if parts.method == Method::POST => {}
            _ => return error(endpoint.dialect, StatusCode::NOT_FOUND, "nothing is simulated under this path"),
        }
        let Ok(ask) = serde_json::from_slice::<Value>(&body) else {
            return error(endpoint.dialect, StatusCode::BAD_REQUEST, "the body is not JSON");
        };
        self.generate(endpoint.dialect, &Ask::new(&ask, input), &script)
    }

    fn generate(&self, dialect: Dialect, ask: &Ask, script: &Script) -> Response<Body> {
        let cut = script.length() > ask.most;
        let bill = self.shared.bill.clone();
        let line = bill.open(&ask.model, ask.input);
        let is_stream = ask.stream && !script.json;
        let (mut steps, kind) = match (dialect, is_stream) {
            (Dialect::Anthropic, true) => (anthropic::stream(ask, script, cut), "text/event-stream; charset=utf-8"),
            (Dialect::Anthropic, false) => (anthropic::message(ask, script, cut), "application/json"),
            (_, true) => (openai_chat::stream(ask, script, cut), "text/event-stream; charset=utf-8"),
            (_, false) => (openai_chat::completion(ask, script, cut), "application/json"),
        };
        if script.crlf && is_stream {
            steps.iter_mut().for_each(crlf);
        }
        if script.gzip {
            compress(&mut steps);
        }
        let has_length = !is_stream && script.fault.is_none();
        let mut response = Response::new(Body::new(Scripted::new(steps, bill, line, has_length)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("request-id", HeaderValue::from_static("req_simulated"));
        if script.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

impl<B> Service<Request<B>> for Simulated
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulated").finish_non_exhaustive()
    }
}

/// What a request asks for.
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) input: u64,
    pub(super) stream: bool,
    /// The most output tokens that were asked for.
    pub(super) most: u64,
    /// The usage chunk of a Chat Completions stream.
    pub(super) include_usage: bool,
    /// The first tool's name, unless the request already contains a tool's result.
    pub(super) tool: Option<String>,
    /// Whether the answer must follow a schema.
    pub(super) has_schema: bool,
}

impl Ask {
    fn new(body: &Value, input: u64) -> Self {
        let first_tool = &body["tools"][0];
        let name = first_tool["name"].as_str().or_else(|| first_tool["function"]["name"].as_str());
        let last = body["messages"].as_array().and_then(|m| m.last());
        let has_result = last.is_some_and(|m| m["role"] == "tool" || m["content"][0]["type"] == "tool_result");
        Ask {
            model: body["model"].as_str().unwrap_or("simulated").to_owned(),
            input,
            stream: body["stream"] == true,
            most: ["max_tokens", "max_completion_tokens"]
                .iter()
                .filter_map(|key| body[key].as_u64())
                .min()
                .unwrap_or(u64::MAX),
            include_usage: body["stream_options"]["include_usage"] == true,
            tool: name.filter(|_| !has_result).map(str::to_owned),
            has_schema: ["/output_config/format/schema", "/response_format/json_schema/schema"]
                .iter()
                .any(|place| body.pointer(place).is_some_and(Value::is_object)),
        }
    }
}

/// An object that satisfies the tests' schemas, in two pieces.
pub(super) const CITY: [&str; 2] = [r#"{"city":"#, r#""Paris"}"#];

/// The text of the answer, in deltas of one token each.
pub(super) fn words<'s>(ask: &Ask, script: &'s Script) -> Vec<&'s str> {
    if script.format && ask.has_schema {
        return CITY.to_vec();
    }
    script.words(ask.most)
}

/// The steps of a stream: `before`, the deltas with their delays and the fault when it is due, then `after`.
pub(super) fn play(
    script: &Script,
    before: Vec<Bytes>,
    deltas: Vec<Bytes>,
    after: Vec<Bytes>,
    error: &Bytes,
) -> VecDeque<Step> {
    let mut steps: VecDeque<Step> = before.into_iter().map(|bytes| Step::Send(bytes, 0)).collect();
    // One token for each delta, or all that the script states, spread evenly.
    let (count, output) = (deltas.len() as u64, script.output(deltas.len()));
    let by = |sent: u64| match count {
        0 => 0,
        _ => u64::try_from(u128::from(output) * u128::from(sent) / u128::from(count)).unwrap_or(output),
    };
    for (sent, delta) in (0u64..).zip(deltas) {
        if let Some((fault, after)) = script.fault
            && after == sent
        {
            steps.extend(go_wrong(fault, error));
            return steps;
        }
        steps.push_back(Step::Wait(script.delay));
        steps.push_back(Step::Send(delta, by(sent + 1) - by(sent)));
    }
    if let Some((fault, _)) = script.fault {
        steps.extend(go_wrong(fault, error));
        return steps;
    }
    // What no delta shows, a provider has thought.
    let mut unseen = output - by(count);
    steps.extend(after.into_iter().map(|bytes| Step::Send(bytes, std::mem::take(&mut unseen))));
    steps.push_back(Step::Complete);
    steps
}

fn go_wrong(fault: Fault, error: &Bytes) -> Vec<Step> {
    match fault {
        Fault::Abort => vec![Step::Abort],
        Fault::End => Vec::new(),
        Fault::Error => vec![Step::Send(error.clone(), 0)],
        Fault::Garbage => vec![Step::Send(Bytes::from_static(b"data: {\"half\":\xff\x00 \n\n<html>\r"), 0)],
        Fault::Stall => vec![Step::Stall],
    }
}

/// The steps of a JSON answer, which produces all tokens before its first byte. A fault cuts it in the middle.
pub(super) fn play_json(script: &Script, answer: &Value, tokens: u64) -> VecDeque<Step> {
    let bytes = Bytes::from(answer.to_string());
    let Some((fault, _)) = script.fault else { return [Step::Send(bytes, tokens), Step::Complete].into() };
    let mut steps = VecDeque::from([Step::Send(bytes.slice(..bytes.len() / 2), tokens)]);
    steps.extend(go_wrong(fault, &Bytes::new()));
    steps
}

fn whole(answer: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn page(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("<html><body>504 Gateway Time-out</body></html>"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    response
}

fn error(dialect: Dialect, status: StatusCode, message: &str) -> Response<Body> {
    let body = match dialect {
        Dialect::Anthropic => anthropic::error(status, message),
        _ => openai_chat::error(status, message),
    };
    let mut response = whole(&body);
    *response.status_mut() = status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn crlf(step: &mut Step) {
    if let Step::Send(bytes, _) = step {
        *bytes = String::from_utf8_lossy(bytes).replace('\n', "\r\n").into();
    }
}

/// Compresses what is sent, with a flush after each step, as a well-behaved server does.
fn compress(steps: &mut VecDeque<Step>) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let last = steps.iter().rposition(|step| matches!(step, Step::Send(..)));
    for (i, step) in steps.iter_mut().enumerate() {
        let Step::Send(bytes, _) = step else { continue };
        // Writing to memory cannot fail.
        let _ = encoder.write_all(bytes).and_then(|()| encoder.flush());
        if Some(i) == last {
            let _ = encoder.try_finish();
        }
        *bytes = std::mem::take(encoder.get_mut()).into();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
