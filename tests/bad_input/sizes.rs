//! Requests over a limit: too many bytes, too deep, too many tools, too many calls at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tollgate::domain::outcome::End;
use tollgate::domain::rejection::RejectionKind;
use tollgate::testing::Script;
use tollgate::{Body, Dialect, IngestLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::raw::ask;
use crate::shape::{Expected, INVALID};
use crate::stack::{BOTH, Stack, model, path, request};

const TOO_LARGE: Expected = Expected {
    status: [413, 413],
    anthropic: "request_too_large",
    openai: ("invalid_request_error", Some("request_too_large")),
};
const FULL: Expected =
    Expected { status: [429, 429], anthropic: "rate_limit_error", openai: ("requests", Some("rate_limit_exceeded")) };

const SLOW: Expected =
    Expected { status: [408, 408], anthropic: "timeout_error", openai: ("invalid_request_error", Some("timeout")) };

/// A request of exactly `len` bytes.
fn of_len(dialect: Dialect, len: usize) -> Vec<u8> {
    let mut body = request(dialect, r#","x":""#).into_bytes();
    body.truncate(body.len() - 1);
    body.resize(len - 2, b'a');
    body.extend_from_slice(br#""}"#);
    body
}

#[tokio::test]
async fn a_body_beyond_the_hosts_own_limit_is_answered_413() {
    for dialect in BOTH {
        let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let body = http_body_util::Limited::new(Body::from(of_len(dialect, 2_000)), 1_000);
        // `map_frame` hides the length of the body.
        let body = Body::new(body.map_frame(|frame| frame));
        let request = Request::post(path(dialect)).body(body).expect("a request");
        let answer = IngestLayer::new().layer(inner).oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 413, "{dialect}");
    }
}

#[tokio::test]
async fn a_body_of_33_mib_is_answered_413_even_to_a_client_that_sends_all_before_it_reads() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let body = of_len(dialect, 33 << 20);
        let head =
            format!("POST {} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\n\r\n", path(dialect), body.len());
        let reply = ask(stack.gateway.addr, &[head.as_bytes(), &body].concat()).await;
        stack.was_refused(&reply, dialect, TOO_LARGE, "declared").await;

        let mut chunked =
            format!("POST {} HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n", path(dialect))
                .into_bytes();
        for part in body.chunks(1 << 16) {
            chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            chunked.extend_from_slice(part);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let reply = ask(stack.gateway.addr, &chunked).await;
        stack.was_refused(&reply, dialect, TOO_LARGE, "without a length").await;
    }
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn a_client_that_only_announces_33_mib_is_answered_within_seconds() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let head = format!("POST {} HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n", path(dialect), 33 << 20);
        let asked = tokio::time::Instant::now();
        let reply = ask(stack.gateway.addr, head.as_bytes()).await;
        assert!(asked.elapsed() < Duration::from_secs(5));
        stack.was_refused(&reply, dialect, TOO_LARGE, "announced").await;
    }
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn the_limit_of_one_body_is_a_limit_to_the_byte() {
    let mut stack = Stack::ingesting(IngestLayer::new().max_body(10_000)).await;
    for dialect in BOTH {
        let reply = stack.post(dialect, of_len(dialect, 10_000)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(stack.outcome_of(&reply).await.end, End::Complete);
        stack.refuses(dialect, &of_len(dialect, 10_001), TOO_LARGE, "a byte more").await;
    }
    assert_eq!(stack.provider.received().len(), BOTH.len());
}

#[tokio::test]
async fn a_small_body_without_a_length_is_as_good_as_any() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let body = request(dialect, "");
        let (mut sender, channel) = Channel::<Bytes>::new(1);
        let parts: Vec<Bytes> = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let send = async move {
            for part in parts {
                sender.send_data(part).await.expect("the gateway reads");
            }
        };
        let (reply, ()) = tokio::join!(stack.send(Request::post(path(dialect)), Body::new(channel)), send);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(stack.outcome_of(&reply).await.end, End::Complete);
        let received = stack.provider.received();
        let received = received.last().expect("a request");
        assert_eq!(received.body, body);
        assert_eq!(received.headers["content-length"], body.len().to_string(), "upstream it has a length");
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_is_refused_and_its_room_is_others() {
    for dialect in BOTH {
        let ingest = IngestLayer::new().max_in_memory(5000).idle_timeout(Duration::from_millis(200));
        let mut stack = Stack::ingesting(ingest).await;
        let (mut sender, channel) = Channel::<Bytes, Infallible>::new(4);
        sender.send_data(Bytes::from(of_len(dialect, 4000)).slice(..3999)).await.expect("the gateway reads");
        let hangs = stack.send(Request::post(path(dialect)), Body::new(channel));
        let reply = tokio::time::timeout(Duration::from_secs(10), hangs).await.expect("it is refused");
        stack.was_refused(&reply, dialect, SLOW, "silent").await;
        let reply = stack.post(dialect, of_len(dialect, 4000)).await;
        assert_eq!(reply.status, 200);
        stack.outcome_of(&reply).await;
        drop(sender);
    }
}

#[tokio::test]
async fn a_call_beyond_the_bytes_in_memory_is_told_to_come_back_in_a_second_and_then_finds_room() {
    for dialect in BOTH {
        let mut stack = Stack::ingesting(IngestLayer::new().max_in_memory(5000)).await;
        stack.provider.script(Script::new().head_delay(Duration::from_secs(1)));
        let first = stack.post(dialect, of_len(dialect, 3000));
        let second = async {
            // By then the first call is upstream, and its body is still held in memory.
            while stack.provider.received().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stack.post(dialect, of_len(dialect, 3000)).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.status, 200);
        assert_eq!(second.header("retry-after"), "1");
        stack.was_refused(&second, dialect, FULL, "no room").await;
        assert_eq!(stack.outcome_of(&first).await.end, End::Complete);

        let third = stack.post(dialect, of_len(dialect, 3000)).await;
        assert_eq!(third.status, 200, "the first has given its room back");
        stack.outcome_of(&third).await;

        // A body larger than all the memory allowed is refused while it is read. None of the memory may stay counted.
        for _ in 0..3 {
            stack.refuses(dialect, &of_len(dialect, 6000), FULL, "larger than all of it").await;
        }
        let fourth = stack.post(dialect, of_len(dialect, 4900)).await;
        assert_eq!(fourth.status, 200);
        assert_eq!(stack.outcome_of(&fourth).await.rejection, None);
        assert_eq!(stack.provider.received().len(), 3);
    }
}

#[tokio::test]
async fn what_a_refused_body_held_is_given_back() {
    for dialect in BOTH {
        let mut stack = Stack::ingesting(IngestLayer::new().max_in_memory(5000).max_body(4000)).await;
        for _ in 0..4 {
            let mut bad = of_len(dialect, 3500);
            bad.push(b'x');
            stack.refuses(dialect, &bad, INVALID, "trailing bytes").await;
            let reply = stack.post(dialect, of_len(dialect, 4500)).await;
            reply.is_error(dialect, TOO_LARGE, "too large");
            assert_eq!(stack.outcome_of(&reply).await.rejection, Some(RejectionKind::TooLarge));
        }
        let reply = stack.post(dialect, of_len(dialect, 4000)).await;
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn nesting_passes_at_128_and_is_refused_at_129_or_10_000() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        // The root is the first level.
        let deep = |depth: usize, open: &str, close: &str| {
            let (open, close) = (open.repeat(depth - 1), close.repeat(depth - 1));
            format!(r#"{{"model":"{}","x":{open}0{close}}}"#, model(dialect)).into_bytes()
        };
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            for depth in [129, 10_000] {
                stack.refuses(dialect, &deep(depth, open, close), INVALID, "too deep").await;
            }
            // Brackets that never close must not cost more time than brackets that do.
            stack.refuses(dialect, &deep(100_000, open, ""), INVALID, "open for ever").await;
            let before = stack.provider.received().len();
            let reply = stack.post(dialect, deep(128, open, close)).await;
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!(outcome.rejection, None, "128 levels: {}", reply.text());
            assert_eq!(stack.provider.received().len(), before + 1);
        }
    }
}

#[tokio::test]
async fn tools_pass_at_10_000_and_are_refused_at_one_more() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let tools = |n: usize| request(dialect, &format!(r#","tools":[{}]"#, vec!["{}"; n].join(" , ")));
        let message = stack.refuses(dialect, tools(10_001).as_bytes(), INVALID, "10,001 tools").await;
        assert!(message.contains("10,000"), "{message}");
        let reply = stack.post(dialect, tools(10_000)).await;
        assert_eq!(stack.outcome_of(&reply).await.end, End::Complete, "10,000 tools");
    }
}

#[tokio::test]
async fn messages_pass_at_100_000_and_are_refused_at_one_more() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let one = r#"{"role":"user","content":"a"}"#;
        let messages =
            |n: usize| format!(r#"{{"model":"{}","messages":[{}]}}"#, model(dialect), vec![one; n].join(","));
        let message = stack.refuses(dialect, messages(100_001).as_bytes(), INVALID, "100,001 messages").await;
        assert!(message.contains("100,000"), "{message}");
        let reply = stack.post(dialect, messages(100_000)).await;
        assert_eq!(stack.outcome_of(&reply).await.end, End::Complete, "100,000 messages: {}", reply.text());
    }
}

/// A body of one frame that then reports its end. Polling it again waits for ever.
struct Ended(Option<Bytes>);

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[tokio::test]
async fn a_body_that_says_that_it_has_ended_is_not_waited_for() {
    let inner = service_fn(|request: Request<Body>| async {
        let body = request.into_body().collect().await.expect("in memory").to_bytes();
        Ok::<_, Infallible>(Response::new(Body::from(body)))
    });
    let body = Bytes::from_static(br#"{"model":"claude-x","max_tokens":9,"messages":[]}"#);
    let request = Request::post("/v1/messages").body(Ended(Some(body.clone()))).expect("a request");
    let answer = IngestLayer::new().layer(inner).oneshot(request);
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("at once").expect("infallible");
    assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), body);
}
