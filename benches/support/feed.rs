//! Requests and streams of the sizes and shapes that clients and providers send.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Request};
use http_body::{Frame, SizeHint};
use tollgate::wire::sse;

/// Text with the escapes that source code has in JSON.
const TEXT: &str = concat!(
    r"The gateway reads what governs a call and passes the rest on as it came.\n",
    r#"    let head = Head::read(&body, dialect)?; // \"model\", \"stream\", \"max_tokens\"\n"#,
);

/// A request of an agent: tools, and turns until the body has at least `bytes` bytes.
pub(crate) fn conversation(model: &str, stream: bool, bytes: usize) -> Bytes {
    let tool = r#"{"name":"read_file","description":"Reads a file.","input_schema":{"type":"object","properties":{"path":{"type":"string"},"limit":{"type":"integer","minimum":1}},"required":["path"]}}"#;
    let tools = vec![tool; if bytes < 10_000 { 1 } else { 20 }].join(",");
    let mut out = format!(
        r#"{{"model":"{model}","max_tokens":32000,"temperature":1.0,"stream":{stream},"tools":[{tools}],"messages":[{{"role":"user","content":"Hello"}}"#
    );
    let mut turn = 0;
    while out.len() + 2 < bytes {
        let text = TEXT.repeat(if bytes < 10_000 { 1 } else { 8 });
        out += &format!(
            r#",{{"role":"assistant","content":[{{"type":"tool_use","id":"toolu_{turn:08}","name":"read_file","input":{{"path":"src/lib.rs","limit":{turn}}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_{turn:08}","is_error":false,"content":"{text}"}}]}}"#
        );
        turn += 1;
    }
    out += "]}";
    out.into()
}

/// A request as an SDK sends it.
pub(crate) fn request<B>(path: &'static str, headers: &HeaderMap, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().clone_from(headers);
    request
}

/// The headers that an SDK sends, except `content-length`.
pub(crate) fn headers() -> HeaderMap {
    [
        ("host", "127.0.0.1:4000"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "Anthropic/Python 0.75.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "0.75.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.13.1"),
        ("x-api-key", "sk-ant-api03-0123456789abcdef0123456789abcdef"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-timeout", "600"),
        ("anthropic-version", "2023-06-01"),
    ]
    .into_iter()
    .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}

/// A stream, event by event.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) events: Arc<[Bytes]>,
    pub(crate) whole: Bytes,
}

impl Stream {
    fn new(events: impl Iterator<Item = (Option<&'static str>, String)>) -> Self {
        let events: Arc<[Bytes]> = events
            .map(|(name, data)| {
                let mut out = BytesMut::new();
                sse::encode(&mut out, name, data.as_bytes());
                out.freeze()
            })
            .collect();
        Stream { whole: events.concat().into(), events }
    }

    /// A Messages stream of `n` events.
    pub(crate) fn anthropic(n: usize) -> Self {
        let event = |name: &'static str, rest: &str| (Some(name), format!(r#"{{"type":"{name}"{rest}}}"#));
        let start = r#","message":{"id":"msg_01ABCDEFGHJKLMNPQRSTUVWX","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":2095,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}"#;
        let before = [
            event("message_start", start),
            event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
            event("ping", ""),
        ];
        let after = [
            event("content_block_stop", r#","index":0"#),
            event(
                "message_delta",
                r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":503}"#,
            ),
            event("message_stop", ""),
        ];
        let deltas = (0..n - before.len() - after.len()).map(|i| {
            let text = word(i);
            event("content_block_delta", &format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#))
        });
        Self::new(before.clone().into_iter().chain(deltas).chain(after.clone()))
    }

    /// A Chat Completions stream of `n` events. With `nulls`, it is the stream that OpenAI sends if the client asked
    /// for usage: every chunk but the last has `"usage":null`.
    pub(crate) fn openai(n: usize, nulls: bool) -> Self {
        let null = if nulls { r#","usage":null"# } else { "" };
        let chunk = |choices: String, usage: &str| {
            let head = r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1769904000,"model":"gpt-5-2025-08-07","service_tier":"default","system_fingerprint":"fp_44709d6fcb""#;
            (None, format!(r#"{head},"choices":[{choices}]{usage}}}"#))
        };
        let choice = |delta: &str, reason: &str| {
            format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#)
        };
        let usage = r#","usage":{"prompt_tokens":2095,"completion_tokens":503,"total_tokens":2598,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;
        let after = [chunk(choice("{}", r#""stop""#), null), chunk(String::new(), usage), (None, "[DONE]".to_owned())];
        let deltas = (0..n - after.len()).map(|i| {
            let content = word(i);
            chunk(choice(&format!(r#"{{"content":"{content}"}}"#), "null"), null)
        });
        Self::new(deltas.chain(after.clone()))
    }

    /// A body with one frame per event, as a model generates them.
    pub(crate) fn by_event(&self) -> Chunks {
        Chunks::new(self.events.clone())
    }

    /// The stream in frames of `bytes` bytes, as they are read from a busy socket.
    pub(crate) fn cut(&self, bytes: usize) -> Arc<[Bytes]> {
        (0..self.whole.len()).step_by(bytes).map(|at| self.whole.slice(at..self.whole.len().min(at + bytes))).collect()
    }
}

fn word(i: usize) -> &'static str {
    const WORDS: [&str; 8] = [" the", " gateway", ",", " which", " reads", " no", " more", " than\\n\\n"];
    WORDS[i % WORDS.len()]
}

/// A body whose frames are all ready. Like hyper's body, it knows its end in advance only if its length is known.
pub(crate) struct Chunks {
    chunks: Arc<[Bytes]>,
    next: usize,
    left: Option<u64>,
}

impl Chunks {
    pub(crate) fn new(chunks: Arc<[Bytes]>) -> Self {
        Chunks { chunks, next: 0, left: None }
    }

    /// A body with a known length, as `content-length` gives it.
    pub(crate) fn sized(chunks: Arc<[Bytes]>) -> Self {
        let left = Some(chunks.iter().map(|chunk| chunk.len() as u64).sum());
        Chunks { chunks, next: 0, left }
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.get(self.next).cloned();
        self.next += 1;
        if let (Some(left), Some(chunk)) = (&mut self.left, &chunk) {
            *left -= chunk.len() as u64;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
