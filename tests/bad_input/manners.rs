//! Requests that are wrong whatever their JSON is: no body, half a body, another method, a content coding.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::domain::outcome::End;
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Dialect, IngestLayer};

use crate::raw::ask;
use crate::shape::{Expected, INVALID};
use crate::stack::{BOTH, Stack, path, request};
use crate::support::Server;

#[tokio::test]
async fn a_post_without_a_body_is_refused() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for length in ["", "content-length: 0\r\n"] {
            let head = format!("POST {} HTTP/1.1\r\nhost: gateway\r\n{length}\r\n", path(dialect));
            let reply = ask(stack.gateway.addr, head.as_bytes()).await;
            stack.was_refused(&reply, dialect, INVALID, "no body").await;
        }
    }
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn another_method_is_405_in_the_dialect_of_the_path() {
    const METHOD: Expected = Expected {
        status: [405, 405],
        anthropic: "invalid_request_error",
        openai: ("invalid_request_error", Some("method_not_supported")),
    };
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            let body = if method == "GET" { String::new() } else { request(dialect, "") };
            let reply = stack.send(Request::builder().method(method).uri(path(dialect)), body).await;
            assert_eq!(reply.header("allow"), "POST", "{method}");
            stack.was_refused(&reply, dialect, METHOD, method).await;
        }
        // An answer to HEAD has no body.
        let reply = stack.send(Request::head(path(dialect)), "").await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (405, 0));
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!(outcome.end, End::Refused);
    }
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn a_compressed_body_is_refused_whatever_its_coding() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for coding in ["gzip", "br", "zstd", "gzip, identity", "nonsense"] {
            // The body is plain in truth. A gateway that ignored the header would read something else than the
            // provider.
            let builder = Request::post(path(dialect)).header("content-encoding", coding);
            let reply = stack.send(builder, request(dialect, "")).await;
            stack.was_refused(&reply, dialect, INVALID, coding).await;
        }
    }
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn a_coding_on_a_second_line_is_refused_as_well() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let builder =
            Request::post(path(dialect)).header("content-encoding", "identity").header("content-encoding", "br");
        let reply = stack.send(builder, request(dialect, "")).await;
        stack.was_refused(&reply, dialect, INVALID, "the second line says br").await;
    }
    assert!(stack.provider.received().is_empty());
}

#[tokio::test]
async fn a_body_that_says_it_is_not_compressed_passes() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        for coding in ["identity", "Identity"] {
            let builder = Request::post(path(dialect)).header("content-encoding", coding);
            let reply = stack.send(builder, request(dialect, "")).await;
            assert_eq!(stack.outcome_of(&reply).await.end, End::Complete, "{coding}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_half_its_body_and_leaves_closes_its_call_and_costs_nothing() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let body = request(dialect, "");
        // Half of the declared length, half a chunk, and a body without its last chunk.
        let declared = format!("content-length: {}\r\n\r\n{}", body.len(), &body[..body.len() / 2]);
        let chunked = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{}", body.len(), &body[..body.len() / 2]);
        let whole_chunk = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len());
        for rest in [declared, chunked, whole_chunk] {
            for rude in [false, true] {
                let mut socket = TcpStream::connect(stack.gateway.addr).await.expect("the gateway listens");
                let head = format!("POST {} HTTP/1.1\r\nhost: gateway\r\n{rest}", path(dialect));
                socket.write_all(head.as_bytes()).await.expect("room for it");
                if rude {
                    socket.set_zero_linger().expect("a socket");
                }
                drop(socket);
                let outcome = stack.outcomes.next().await;
                assert!(matches!(outcome.end, End::Abandoned | End::Refused), "{:?}", outcome.end);
                assert!(outcome.attempts.is_empty());
                assert_eq!(outcome.usage, None);
            }
        }
    }
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty(), "half a request is no request, even where its half is whole JSON");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_or_refused_at_once() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let body = request(dialect, "");
        let head = |more: &str| {
            let (path, len) = (path(dialect), body.len());
            format!("POST {path} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: {len}\r\n{more}\r\n")
        };
        let reply = ask(stack.gateway.addr, head("content-encoding: gzip\r\n").as_bytes()).await;
        stack.was_refused(&reply, dialect, INVALID, "no body was asked for").await;

        let mut socket = TcpStream::connect(stack.gateway.addr).await.expect("the gateway listens");
        socket.write_all(head("").as_bytes()).await.expect("room for it");
        let mut asked = [0; 25];
        socket.read_exact(&mut asked).await.expect("an answer");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(body.as_bytes()).await.expect("room for it");
        let mut answer = [0; 15];
        socket.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        assert_eq!(stack.outcomes.next().await.end, End::Complete);
        let received = stack.provider.received();
        let received = received.last().expect("a request");
        assert_eq!(received.body, body);
        assert!(!received.headers.contains_key("expect"), "that was between the client and us");
    }
    assert_eq!(stack.provider.received().len(), BOTH.len());
}

#[tokio::test]
async fn a_client_that_was_asked_for_its_body_reads_why_it_is_refused_in_its_middle() {
    let mut stack = Stack::ingesting(IngestLayer::new().max_body(4_000)).await;
    for dialect in BOTH {
        let path = path(dialect);
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut socket = TcpStream::connect(stack.gateway.addr).await.expect("the gateway listens");
        socket.write_all(head.as_bytes()).await.expect("room for it");
        let mut asked = [0; 25];
        socket.read_exact(&mut asked).await.expect("an answer");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        // Like most clients, it sends everything before it reads. It is refused before it has sent everything.
        let chunk = format!("2710\r\n{}\r\n", "a".repeat(10_000));
        socket.write_all(chunk.as_bytes()).await.expect("it is taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..89 {
            socket.write_all(chunk.as_bytes()).await.expect("it is taken");
        }
        socket.write_all(b"0\r\n\r\n").await.expect("it is taken");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 413");
        assert_eq!(stack.outcomes.next().await.end, End::Refused);
    }
}

#[tokio::test]
async fn a_head_beyond_all_bounds_is_hypers_to_refuse_and_opens_no_call() {
    let mut stack = Stack::new().await;
    let mut socket = TcpStream::connect(stack.gateway.addr).await.expect("the gateway listens");
    let head = format!("POST {} HTTP/1.1\r\nhost: g\r\nx: {}\r\n\r\n", path(Dialect::Anthropic), "a".repeat(1 << 20));
    // The server may close the connection before it has read all of this.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    stack.outcomes.none_left().await;
    assert!(stack.provider.received().is_empty());
    // The gateway still works.
    assert_eq!(stack.post(Dialect::Anthropic, request(Dialect::Anthropic, "")).await.status, 200);
}

#[tokio::test]
async fn a_key_that_makes_two_requests_one_goes_upstream_only_where_the_host_lets_it() {
    let provider = Simulated::new().recording();
    let upstream = Server::start(provider.clone()).await;
    for (lets, expected) in [(false, None), (true, Some("once"))] {
        let tune = |provider: Provider<HttpClient>| match lets {
            true => provider.pass_header("idempotency-key"),
            false => provider,
        };
        let stack = Stack::build(&upstream.url(), IngestLayer::new(), tune).await;
        for dialect in BOTH {
            let asked =
                Request::post(path(dialect)).header("idempotency-key", "once").header("x-idempotency-key", "once");
            assert_eq!(stack.send(asked, request(dialect, "")).await.status, 200);
            let received = provider.received();
            let headers = &received.last().expect("a request").headers;
            let sent = headers.get("idempotency-key").map(|key| key.to_str().expect("text"));
            assert_eq!((sent, headers.contains_key("x-idempotency-key")), (expected, false), "{dialect}");
        }
    }
}
