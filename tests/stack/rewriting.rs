//! Rewriters: the client gets what they write, and their failure as an error event in its dialect.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use tollgate::domain::outcome::End;
use tollgate::domain::rejection::RejectionKind;
use tollgate::rewrite::{Rewrite, Rewriter, WithholdUsage};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::wire::sse::Block;
use tollgate::{Body, Call, Dialect, Gate, GateLayer, Gateway, GatewayLayer, IngestLayer, Rejection, RewriteLayer};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::fixtures;
use crate::support::Outcomes;

/// Puts every greeting in capitals, and fails after some events.
#[derive(Clone, Copy)]
struct Shout {
    left: usize,
}

impl Rewrite for Shout {
    type Rewriter = Shout;

    fn begin(&self, _call: &Call, _head: &Parts) -> Option<Shout> {
        Some(*self)
    }
}

impl Rewriter for Shout {
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection> {
        if self.left == 0 {
            return Err(Rejection::new(RejectionKind::InvalidRequest, "cut off on purpose"));
        }
        self.left -= 1;
        let text = String::from_utf8_lossy(block.raw()).replace("Hello", "HELLO");
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) -> Result<(), Rejection> {
        out.extend_from_slice(b": shouted\n\n");
        Ok(())
    }
}

async fn stream(dialect: Dialect, shout: Shout, directive: &str) -> (String, End) {
    let (mut outcomes, observer) = Outcomes::new();
    let provider = Provider::with_client(dialect, "http://sim.invalid", None, Simulated::new()).expect("a URL");
    let gateway = Gateway::builder()
        .upstream("sim", dialect, provider)
        .layer(GatewayLayer::new().rewrite(shout).on_close(observer))
        .build()
        .expect("a gateway");
    let (path, model) =
        if dialect == Dialect::Anthropic { ("/v1/messages", "claude-x") } else { ("/v1/chat/completions", "gpt-x") };
    let body = format!(
        r#"{{"model":"{model}","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"{directive}"}}]}}"#
    );
    let request = Request::post(path).header("accept-encoding", "gzip").body(Body::from(body)).expect("a request");
    let answer = gateway.oneshot(request).await.expect("infallible");
    assert!(!answer.headers().contains_key("content-encoding"), "what is rewritten comes decoded");
    let text = answer.into_body().collect().await.expect("a stream that ends in order").to_bytes();
    (String::from_utf8_lossy(&text).into_owned(), outcomes.next().await.end)
}

#[tokio::test]
async fn a_rewritten_stream_keeps_its_order_and_its_pings() {
    let (text, end) = stream(Dialect::Anthropic, Shout { left: 1_000 }, "sim:deltas=2,pings=2,gzip").await;
    assert_eq!(end, End::Complete);
    let events: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        events,
        [
            "message_start",
            "content_block_start",
            "ping",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(text.contains("HELLO") && !text.contains("Hello"), "{text}");
    assert!(text.ends_with(": shouted\n\n"), "{text}");
}

#[tokio::test]
async fn a_rewriter_that_fails_ends_the_stream_with_an_error_in_the_clients_dialect() {
    let (text, end) = stream(Dialect::Anthropic, Shout { left: 3 }, "sim:deltas=9").await;
    assert!(text.contains("HELLO"), "what came before stays: {text}");
    assert!(text.contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"cut off on purpose\"}"), "{text}");
    assert!(!text.contains("message_stop"));
    assert_eq!(end, End::Failed);

    let (text, end) = stream(Dialect::OpenAiChat, Shout { left: 3 }, "sim:deltas=9").await;
    assert!(text.contains("data: {\"error\":{\"message\":\"cut off on purpose\""), "{text}");
    assert!(!text.contains("[DONE]"));
    assert_eq!(end, End::Failed);
}

#[tokio::test]
async fn a_stream_in_a_coding_that_nobody_reads_does_not_pass_by_its_rewriter() {
    for (dialect, path, kind) in [
        (Dialect::Anthropic, "/v1/messages", "api_error"),
        (Dialect::OpenAiChat, "/v1/chat/completions", "server_error"),
    ] {
        let (mut outcomes, observer) = Outcomes::new();
        let provider = service_fn(|_request: Request<Body>| async {
            let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
            let answer = answer.header(header::CONTENT_ENCODING, "br");
            Ok::<_, Infallible>(answer.body(Body::from("the secret, packed")).expect("an answer"))
        });
        let provider = Provider::with_client(dialect, "http://sim.invalid", None, provider).expect("a URL");
        let gateway = Gateway::builder()
            .upstream("sim", dialect, provider)
            .layer(GatewayLayer::new().rewrite(Shout { left: 9 }).on_close(observer))
            .build()
            .expect("a gateway");
        let model = if dialect == Dialect::Anthropic { "claude-x" } else { "gpt-x" };
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"stream":true,"messages":[]}}"#);
        let request = Request::post(path).header("accept-encoding", "br").body(Body::from(body)).expect("a request");
        let answer = gateway.oneshot(request).await.expect("infallible");
        assert_eq!((answer.status().as_u16(), answer.headers().get("content-encoding")), (502, None));
        let text = answer.into_body().collect().await.expect("whole").to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(json["error"]["type"], kind, "{json}");
        let outcome = outcomes.next().await;
        assert_eq!((outcome.end, outcome.rejection), (End::Failed, Some(RejectionKind::UpstreamGarbled)));
    }
}

/// Returns what the client gets of an OpenAI stream that ends like this, and how the call ended.
async fn ending_in(last: &'static str) -> (String, End) {
    let (mut outcomes, observer) = Outcomes::new();
    let provider = service_fn(move |_request: Request<Body>| async move {
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        let first = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n";
        Ok::<_, Infallible>(answer.body(Body::from(format!("{first}{last}"))).expect("an answer"))
    });
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://sim.invalid", None, provider).expect("a URL");
    let gateway = Gateway::builder()
        .upstream("sim", Dialect::OpenAiChat, provider)
        .layer(GatewayLayer::new().rewrite(Shout { left: 9 }).on_close(observer))
        .build()
        .expect("a gateway");
    let body = r#"{"model":"gpt-x","stream":true,"messages":[]}"#;
    let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
    let answer = gateway.oneshot(request).await.expect("infallible");
    let text = answer.into_body().collect().await.expect("a stream that ends in order").to_bytes();
    (String::from_utf8_lossy(&text).into_owned(), outcomes.next().await.end)
}

#[tokio::test]
async fn what_a_rewriter_says_last_is_an_event_of_its_own() {
    for last in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\n\n"] {
        let (text, _) = ending_in(last).await;
        let events: Vec<_> = text.split("\n\n").map(str::trim).filter(|event| !event.is_empty()).collect();
        assert!(events[0].contains("HELLO"), "{text}");
        assert_eq!(events[1..], ["data: [DONE]", ": shouted"], "{text}");
    }
}

#[tokio::test]
async fn what_is_left_over_and_says_nothing_breaks_no_answer() {
    for last in [": ping\n", ": ping", "event: done", "\n", ": ping\nid: 7\n"] {
        let (text, end) = ending_in(Box::leak(format!("data: [DONE]\n\n{last}").into_boxed_str())).await;
        assert!(text.contains("data: [DONE]\n\n") && text.ends_with(": shouted\n\n"), "{last:?}: {text}");
        assert_eq!(end, End::Complete, "{last:?}");
    }
}

#[tokio::test]
async fn half_an_event_does_not_pass_by_a_rewriter() {
    let (text, end) = ending_in("data: {\"choices\":[{\"delta\":{\"content\":\"Hello, my secr").await;
    assert!(text.contains("HELLO") && !text.contains("my secr"), "{text}");
    assert!(
        text.contains("data: {\"error\":{\"message\":\"the upstream's stream ended in the middle of an event\""),
        "{text}"
    );
    assert_eq!(end, End::Failed);
}

struct AsksForUsage;

#[async_trait::async_trait]
impl Gate for AsksForUsage {
    async fn admit(&self, _: &mut http::request::Parts, call: &Call) -> Result<(), Rejection> {
        call.ask_for_usage();
        Ok(())
    }
}

/// A body of these chunks.
struct Chunks(std::vec::IntoIter<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Returns what `WithholdUsage` leaves of a stream in these chunks, for a client that `asks` for usage or does not.
async fn withheld(chunks: &[&[u8]], asks: bool) -> Bytes {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect();
    let upstream = service_fn(move |_request: Request<Body>| {
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        let answer = answer.body(Body::new(Chunks(chunks.clone().into_iter()))).expect("an answer");
        async move { Ok::<_, Infallible>(answer) }
    });
    let stack = ServiceBuilder::new()
        .layer(IngestLayer::new())
        .layer(GateLayer::new(AsksForUsage))
        .layer(RewriteLayer::new(WithholdUsage::new()))
        .service(upstream);
    let asked = if asks { r#","stream_options":{"include_usage":true}"# } else { "" };
    let body = format!(r#"{{"model":"gpt-5-mini","stream":true,"messages":[]{asked}}}"#);
    let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
    let answer = stack.oneshot(request).await.expect("infallible");
    answer.into_body().collect().await.expect("whole").to_bytes()
}

#[tokio::test]
async fn of_a_stream_cut_anywhere_with_lines_of_any_end_only_the_usage_that_nobody_asked_for_is_withheld() {
    let mut withheld_ones = 0;
    for stream in fixtures::streams(Dialect::OpenAiChat) {
        for end in ["\n", "\r\n", "\r"] {
            let ended = |block: &str| block.replace("\r\n", "\n").replace('\r', "\n").replace('\n', end);
            let blocks: Vec<_> = stream.blocks.iter().map(|block| ended(block)).collect();
            let kept = blocks.iter().enumerate().filter(|(n, _)| Some(*n) != stream.usage_block);
            let kept: String = kept.map(|(_, block)| &**block).collect();
            let whole = blocks.concat();
            withheld_ones += usize::from(whole != kept);
            let bytes = whole.as_bytes();
            for cut in 0..bytes.len() {
                // One byte is a chunk by itself, for example the line feed of a CRLF.
                let chunks = [&bytes[..cut], &bytes[cut..=cut], &bytes[cut + 1..]];
                let out = withheld(&chunks, false).await;
                assert_eq!(String::from_utf8_lossy(&out), kept, "cut at {cut}, with {end:?}: {whole:?}");
            }
            assert_eq!(withheld(&[bytes], true).await, whole, "the client's own");
        }
    }
    assert_eq!(withheld_ones, 9);
}
