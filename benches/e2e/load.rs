//! Sends requests at a fixed rate, whether or not earlier ones have been answered.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// One kind of request.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Requests a second.
    pub(crate) rate: u32,
    /// The minimum size of the request body, which may be a few bytes larger.
    bytes: usize,
    /// The directive in the prompt for the simulated provider.
    directive: &'static str,
    /// The number of events in the answer, or 0 for JSON.
    pub(crate) events: u32,
}

pub(crate) const SHAPES: [Shape; 5] = [
    Shape { name: "JSON, request of 1 KB", rate: 400, bytes: 1 << 10, directive: "sim:deltas=9", events: 0 },
    Shape { name: "JSON, request of 1 KB, busy", rate: 1500, bytes: 1 << 10, directive: "sim:deltas=9", events: 0 },
    Shape { name: "JSON, request of 100 KB", rate: 200, bytes: 100 << 10, directive: "sim:deltas=9", events: 0 },
    Shape { name: "stream of 200 events at once", rate: 50, bytes: 1 << 10, directive: "sim:deltas=195", events: 200 },
    Shape {
        name: "stream of 200 events, 5 ms apart",
        rate: 10,
        bytes: 1 << 10,
        directive: "sim:deltas=195,delay=5",
        events: 200,
    },
];

/// A shape, and where to send it.
pub(crate) struct Load {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    key: String,
    body: Bytes,
    rate: u32,
    events: u32,
}

/// The result of a round: how long each answer took to its last byte.
pub(crate) struct Sent {
    pub(crate) took: Vec<Duration>,
    /// The longest delay of a request after its scheduled time.
    pub(crate) late: Duration,
}

impl Load {
    pub(crate) fn new(shape: &Shape, url: &str, key: &str) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        Load {
            client: Client::builder(TokioExecutor::new()).build(http),
            uri: format!("{url}/v1/messages").parse().expect("the subject printed a URL"),
            key: key.to_owned(),
            body: body(shape),
            rate: shape.rate,
            events: shape.events,
        }
    }

    /// Sends requests for the duration of `round`, and waits for the last answer.
    pub(crate) async fn drive(&self, round: Duration) -> Result<Sent, Box<dyn Error>> {
        let start = Instant::now();
        let mut answers = JoinSet::new();
        let mut late = Duration::ZERO;
        for due in (0..).map(|n| start + Duration::from_secs(1) * n / self.rate).take_while(|due| *due < start + round)
        {
            sleep_until(due.into()).await;
            late = late.max(due.elapsed());
            answers.spawn(ask(self.client.clone(), self.request(), self.events));
        }
        let took = answers.join_all().await.into_iter().collect::<Result<_, _>>()?;
        Ok(Sent { took, late })
    }

    /// A request with the headers of an SDK.
    fn request(&self) -> Request<Full<Bytes>> {
        Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "gzip, deflate")
            .header(header::USER_AGENT, "Anthropic/Python 0.75.0")
            .header("x-api-key", &self.key)
            .header("anthropic-version", "2023-06-01")
            .header("x-stainless-lang", "python")
            .header("x-stainless-package-version", "0.75.0")
            .header("x-stainless-os", "Linux")
            .header("x-stainless-arch", "x64")
            .header("x-stainless-runtime", "CPython")
            .header("x-stainless-runtime-version", "3.13.1")
            .header("x-stainless-retry-count", "0")
            .header("x-stainless-timeout", "600")
            .body(Full::new(self.body.clone()))
            .expect("constant headers")
    }
}

/// Sends a request and reads its answer to the end.
async fn ask(
    client: Client<HttpConnector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    events: u32,
) -> Result<Duration, String> {
    let start = Instant::now();
    let answer = client.request(request).await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    let is_whole = match events {
        0 => body.ends_with(b"}"),
        // Check only the end: a translated stream has fewer events.
        _ => body.trim_ascii_end().ends_with(br#"{"type":"message_stop"}"#),
    };
    match status {
        StatusCode::OK if is_whole => Ok(start.elapsed()),
        _ => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}

fn body(shape: &Shape) -> Bytes {
    const SENTENCE: &str = r#"A \"gateway\" reads what governs a call and passes on the rest as it came.\n"#;
    let stream = shape.events > 0;
    let head = format!(
        r#"{{"model":"claude-haiku-5-5","max_tokens":1024,"stream":{stream},"messages":[{{"role":"user","content":""#
    );
    let tail = format!(r#"{}"}}]}}"#, shape.directive);
    let sentences = shape.bytes.saturating_sub(head.len() + tail.len()).div_ceil(SENTENCE.len());
    format!("{head}{}{tail}", SENTENCE.repeat(sentences)).into()
}
