//! Measures the cost of an event of a stream and of a byte of a request, beside code that only scans the bytes.

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::sync::Arc;

use crate::support::feed::{Chunks, Stream, conversation, headers, request};
use crate::support::{Bench, Per, at_once, drain};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{Request, Response};
use serde::de::IgnoredAny;
use tollgate::dialect::head::Head;
use tollgate::dialect::meter::StreamMeter;
use tollgate::dialect::translate::{self, Asked, Reply, StreamTranslator};
use tollgate::rewrite::{Rewrite, Rewriter, WithholdUsage};
use tollgate::upstream::Provider;
use tollgate::wire::json::{self, Limits, Path};
use tollgate::wire::sse::Scanner;
use tollgate::{Body, Call, Dialect, Gateway, MeterLayer, RewriteLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

/// The size of a read from a busy socket.
const FRAME: usize = 16 << 10;

pub(crate) fn run(bench: &Bench) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Timeouts need a runtime to be entered, although none of them elapses here.
    let _entered = runtime.enter();
    let streams = |n| {
        [
            ("anthropic", Dialect::Anthropic, Stream::anthropic(n)),
            ("openai", Dialect::OpenAiChat, Stream::openai(n, false)),
            ("openai nulls", Dialect::OpenAiChat, Stream::openai(n, true)),
        ]
    };
    for n in [200, 5_000] {
        for (name, dialect, stream) in streams(n) {
            bench.group(&format!("{name}, {n} events of {} bytes", stream.whole.len() / n));
            let case = Streaming { bench, name: format!("{name} {n}"), dialect, stream, n };
            case.baselines();
            case.scanner();
            case.meter();
            case.translator();
            case.bodies();
        }
    }
    bench.group("json");
    for (size, bytes) in [("1 KB", 1 << 10), ("50 KB", 50 << 10), ("650 KB", 650 << 10)] {
        documents(bench, size, &conversation("claude-haiku-5-5", true, bytes));
        translated(bench, size, &conversation("claude-haiku-5-5", true, bytes));
    }
    recorded(bench);
}

struct Streaming<'b> {
    bench: &'b Bench,
    name: String,
    dialect: Dialect,
    stream: Stream,
    n: usize,
}

impl Streaming<'_> {
    fn case<T>(&self, what: &str, call: impl FnMut() -> T) {
        let per = Per { bytes: self.stream.whole.len(), events: self.n };
        self.bench.case(&format!("{}: {what}", self.name), per, call);
    }

    fn baselines(&self) {
        let whole = &self.stream.whole;
        self.case("memchr, line by line", || {
            memchr::memchr_iter(b'\n', whole).fold(0, |sum, end| black_box(sum + end))
        });
        self.case("from_utf8", || std::str::from_utf8(black_box(whole)).is_ok());
    }

    fn scanner(&self) {
        let cut = self.stream.cut(FRAME);
        for (what, chunks) in [("16 KB chunks", &cut), ("a chunk an event", &self.stream.events)] {
            self.case(&format!("scanner, {what}"), || {
                let mut scanner = Scanner::new();
                let mut bytes = 0;
                for chunk in chunks.iter() {
                    scanner
                        .push(chunk, |block| bytes += black_box(block).data().map_or(0, <[u8]>::len))
                        .expect("small events");
                }
                bytes
            });
        }
    }

    fn meter(&self) {
        self.case("scanner and meter, a chunk an event", || {
            let (mut scanner, mut meter) = (Scanner::new(), StreamMeter::new(self.dialect));
            for chunk in self.stream.events.iter() {
                scanner.push(chunk, |block| meter.block(&block)).expect("small events");
            }
            meter.reading()
        });
        self.case("scanner and WithholdUsage, a chunk an event", || {
            let (mut scanner, mut rewriter, mut out) = (Scanner::new(), WithholdUsage::new(), BytesMut::new());
            for chunk in self.stream.events.iter() {
                scanner
                    .push(chunk, |block| rewriter.block(&block, &mut out).expect("it refuses nothing"))
                    .expect("small events");
                out.clear();
            }
        });
    }

    fn translator(&self) {
        let client = if self.dialect == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
        let reply = Reply::new("model", "req-1").include_usage(true);
        self.case("translator, a chunk an event", || {
            let mut translator = StreamTranslator::new(self.dialect, client, &reply).expect("two dialects");
            let mut out = BytesMut::new();
            for chunk in &*self.stream.events {
                translator.push(chunk, &mut out);
                // Take the output after each chunk, as a server does.
                black_box(out.split());
            }
            translator.finish(&mut out);
        });
    }

    /// Whole answers, from the upstream service to the reader of the body.
    fn bodies(&self) {
        let cut = self.stream.cut(FRAME);
        for (what, chunks) in [("16 KB chunks", &cut), ("a chunk an event", &self.stream.events)] {
            let bare = upstream(chunks);
            self.body(&format!("body, bare, {what}"), &bare);
            self.body(&format!("body, MeterLayer, {what}"), &MeterLayer::new().layer(bare.clone()));
            self.body(&format!("body, Gateway, {what}"), &gateway(self.dialect, bare));
        }
        let withhold = RewriteLayer::new(Withhold).layer(upstream(&self.stream.events));
        self.body("body, WithholdUsage, a chunk an event", &withhold);
    }

    fn body<S>(&self, what: &str, service: &S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let headers = headers();
        let (path, model) = match self.dialect {
            Dialect::Anthropic => ("/v1/messages", "claude-haiku-5-5"),
            _ => ("/v1/chat/completions", "gpt-5"),
        };
        let asked = conversation(model, true, 1 << 10);
        self.case(what, || {
            let Ok(answer) = at_once(service.clone().oneshot(request(path, &headers, Body::from(asked.clone()))));
            drain(answer.into_body())
        });
    }
}

/// Withholds the usage event from every client, even from one that asked for it.
struct Withhold;

impl Rewrite for Withhold {
    type Rewriter = WithholdUsage;

    fn begin(&self, _call: &Call, _head: &Parts) -> Option<WithholdUsage> {
        Some(WithholdUsage::new())
    }
}

fn upstream(
    chunks: &Arc<[Bytes]>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
    let chunks = chunks.clone();
    service_fn(move |request: Request<Body>| {
        drop(request);
        let mut response = Response::new(Body::new(Chunks::new(chunks.clone())));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        ready(Ok(response))
    })
}

fn gateway<S>(dialect: Dialect, upstream: S) -> Gateway
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let provider = Provider::with_client(dialect, "http://upstream.local", None, upstream).expect("a plain URL");
    Gateway::builder().upstream("upstream", dialect, provider).build().expect("a gateway")
}

fn documents(bench: &Bench, size: &str, body: &Bytes) {
    /// The members that the gateway reads.
    const PATHS: [Path; 10] = [
        &["model"],
        &["stream"],
        &["max_tokens"],
        &["max_completion_tokens"],
        &["max_output_tokens"],
        &["n"],
        &["messages"],
        &["tools"],
        &["stream_options"],
        &["stream_options", "include_usage"],
    ];
    let per = Per::bytes(body.len());
    let case = |what: &str| format!("json {size}: {what}");
    bench.case(&case("from_utf8"), per, || std::str::from_utf8(black_box(body)).is_ok());
    bench.case(&case("index"), per, || json::index(black_box(body), &PATHS, Limits::default()).is_ok());
    bench.case(&case("Head::read"), per, || Head::read(black_box(body), Dialect::Anthropic).is_ok());
    bench.case(&case("serde_json, IgnoredAny"), per, || serde_json::from_slice::<IgnoredAny>(black_box(body)).is_ok());
}

/// Translates a Messages request to Chat Completions, and the result back.
fn translated(bench: &Bench, size: &str, body: &Bytes) {
    use Dialect::{Anthropic, OpenAiChat};
    let there = |body: &[u8]| translate::request(body, Anthropic, OpenAiChat, &Asked::new("gpt-5"));
    let back = |body: &[u8]| translate::request(body, OpenAiChat, Anthropic, &Asked::new("claude-opus-5-5"));
    let chat = there(body).expect("it can be asked").body;
    bench.case(&format!("json {size}: to Chat Completions"), Per::bytes(body.len()), || there(black_box(body)).is_ok());
    bench.case(&format!("json {size}: to Messages"), Per::bytes(chat.len()), || back(black_box(&chat)).is_ok());
}

/// The same for all requests of about 1 KB that clients really sent, in the folder that `TOLLGATE_CORPUS` names. Bytes
/// per second are over all of them.
fn recorded(bench: &Bench) {
    use Dialect::{Anthropic, OpenAiChat};
    let Some(corpus) = std::env::var_os("TOLLGATE_CORPUS") else { return };
    for (protocol, from, to, model) in [
        ("anthropic-messages", Anthropic, OpenAiChat, "gpt-5"),
        ("openai-chat", OpenAiChat, Anthropic, "claude-opus-5-5"),
    ] {
        let folder = std::path::Path::new(&corpus).join(protocol);
        let translated = |body: &[u8]| translate::request(body, from, to, &Asked::new(model)).is_ok();
        let bodies: Vec<Vec<u8>> = std::fs::read_dir(folder)
            .expect("recorded exchanges")
            .filter_map(|exchange| std::fs::read(exchange.ok()?.path().join("request.json")).ok())
            .filter(|body| (700..1_500).contains(&body.len()) && translated(body))
            .collect();
        let bytes = bodies.iter().map(Vec::len).sum::<usize>();
        let name = format!("{} of {protocol}, recorded, {} bytes each: translated", bodies.len(), bytes / bodies.len());
        let per = Per { bytes, events: bodies.len() };
        bench.case(&name, per, || bodies.iter().filter(|body| translated(black_box(body))).count());
    }
}
