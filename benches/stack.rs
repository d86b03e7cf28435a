//! What a call through the whole gateway costs, above the upstream that answers it: time and allocations, no sockets.
//!
//! `cargo bench --bench stack`; see `support` for the arguments.

mod support;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use support::feed::{Chunks, Stream, conversation, headers, request};
use support::{Bench, Per, at_once, drain};
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway};
use tower::{Service, ServiceExt, service_fn};

const ANSWER: &str = r#"{"id":"msg_01ABCDEFGHJKLMNPQRSTUVWX","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[{"type":"text","text":"Hello, I am simulated: no provider was asked."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2095,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":503}}"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Timeouts ask which runtime they are on; nothing here waits for them.
    let _entered = runtime.enter();
    let bench = Bench::from_args();

    let json = upstream("application/json", || Body::from(Bytes::from_static(ANSWER.as_bytes())));
    let gateway = gateway(Dialect::Anthropic, json.clone());
    bench.group("Anthropic, JSON");
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("claude-haiku-5-5", false, bytes);
        let frames: Arc<[Bytes]> = body.chunks(16 << 10).map(Bytes::copy_from_slice).collect();
        case(&bench, &format!("anthropic {size}: bare upstream"), &json, "/v1/messages", || Body::from(body.clone()));
        case(&bench, &format!("anthropic {size}: gateway"), &gateway, "/v1/messages", || Body::from(body.clone()));
        case(&bench, &format!("anthropic {size} in frames of 16 KB: gateway"), &gateway, "/v1/messages", || {
            Body::new(Chunks::sized(frames.clone()))
        });
    }

    let stream = Stream::openai(9, true);
    let stream = upstream("text/event-stream", move || Body::new(stream.by_event()));
    let gateway = self::gateway(Dialect::OpenAiChat, stream.clone());
    bench.group("OpenAI, stream of 9 events, usage not asked for");
    for (size, bytes) in [("1 KB", 1 << 10), ("100 KB", 100 << 10)] {
        let body = conversation("gpt-5", true, bytes);
        case(&bench, &format!("openai {size}: bare upstream"), &stream, "/v1/chat/completions", || {
            Body::from(body.clone())
        });
        case(&bench, &format!("openai {size}: gateway, edited"), &gateway, "/v1/chat/completions", || {
            Body::from(body.clone())
        });
    }
}

fn case<S>(bench: &Bench, name: &str, service: &S, path: &'static str, body: impl Fn() -> Body)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let mut headers = headers();
    let length = http_body::Body::size_hint(&body()).exact().expect("bodies of a stated length");
    headers.insert(header::CONTENT_LENGTH, length.into());
    bench.case(name, Per::CALL, || {
        let Ok(answer) = at_once(service.clone().oneshot(request(path, &headers, body())));
        assert_eq!(answer.status(), 200);
        drain(answer.into_body())
    });
}

/// An upstream that takes no time to answer.
fn upstream(
    kind: &'static str,
    body: impl Fn() -> Body + Clone + Send + Sync + 'static,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
    service_fn(move |request: Request<Body>| {
        drop(request);
        let mut response = Response::new(body());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert("request-id", HeaderValue::from_static("req_011CSHoEeqs5C35K2UUqR7Fy"));
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
    let credential = Credential::x_api_key("sk-ant-api03-fedcba98").expect("plain letters");
    let provider = Provider::with_client(dialect, "http://upstream.local", credential, upstream).expect("a plain URL");
    Gateway::builder().upstream("upstream", dialect, provider).build()
}
