//! Upstreams that never send a head.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tollgate::IngestLayer;
use tollgate::domain::outcome::{AttemptEnd, End};
use tollgate::testing::{Script, Simulated};

use crate::raw::{Act, Rude, say};
use crate::shape::{Expected, TIMEOUT, UNREACHABLE};
use crate::skip::skip;
use crate::stack::{BOTH, Stack, request};
use crate::support::Server;

/// Calls through `stack` in both dialects, with and without a stream, and checks the one attempt of each.
async fn never_answers(stack: &mut Stack, expected: Expected, attempt: AttemptEnd, why: &str) {
    for dialect in BOTH {
        for more in ["", r#","stream":true"#] {
            let reply = stack.post(dialect, request(dialect, more)).await;
            reply.is_error(dialect, expected, why);
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!(outcome.end, End::Failed, "{why}");
            assert!(outcome.rejection.is_some_and(|kind| kind.is_upstream()), "{why}");
            assert_eq!(outcome.attempts.len(), 1, "{why}");
            assert_eq!(outcome.attempts[0].end, attempt, "{why}");
            assert_eq!(outcome.usage, None, "{why}");
            assert_eq!(outcome.bytes_out, reply.body.len() as u64);
        }
    }
    stack.outcomes.none_left().await;
}

#[tokio::test]
async fn a_refused_connection_is_502() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let mut stack = Stack::over(&format!("http://{addr}")).await;
    never_answers(&mut stack, UNREACHABLE, AttemptEnd::Unsent, "refused").await;
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_502() {
    let mut stack = Stack::over("http://no-such-host.invalid").await;
    let reply = stack.post(BOTH[0], request(BOTH[0], "")).await;
    // If name resolution is slow, the connect timeout comes first.
    assert!(matches!(reply.status.as_u16(), 502 | 504), "{}", reply.status);
    assert!(!reply.text().contains("no-such-host"), "{}", reply.text());
    let outcome = stack.outcome_of(&reply).await;
    assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Unsent));
}

#[tokio::test]
async fn an_upstream_that_hangs_up_without_an_answer_is_502_and_is_asked_once() {
    for acts in [vec![], vec![Act::Reset], vec![say("HTTP/1.1 200 OK\r\ncontent-type: text/ev")]] {
        let rude = Rude::start(acts).await;
        let mut stack = Stack::over(&rude.url()).await;
        never_answers(&mut stack, UNREACHABLE, AttemptEnd::NoAnswer, "hung up").await;
        assert_eq!(rude.requests(), 4, "what may have been billed once is not sent again");
    }
}

#[tokio::test]
async fn what_is_no_http_is_502() {
    for garbage in ["garbage\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", "HTTP/9.9 200 OK\r\n\r\n", "\0\x01\x02\r\n\r\n"] {
        let rude = Rude::start(vec![say(garbage)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        never_answers(&mut stack, UNREACHABLE, AttemptEnd::NoAnswer, garbage).await;
    }
}

#[tokio::test]
async fn an_answer_after_the_first_byte_timeout_is_504() {
    let provider = Simulated::new();
    let upstream = Server::start(provider.clone()).await;
    let tune = |p: tollgate::upstream::Provider<_>| p.first_byte_timeout(Duration::from_millis(100));
    let mut stack = Stack::build(&upstream.url(), IngestLayer::new(), tune).await;
    for _ in 0..4 {
        provider.script(Script::new().head_delay(Duration::from_secs(3)));
    }
    never_answers(&mut stack, TIMEOUT, AttemptEnd::NoAnswer, "slow").await;
}

#[tokio::test]
async fn an_upstream_that_never_lets_us_in_is_504_and_has_seen_nothing() {
    let Some((listener, addr, callers)) = full_listener().await else {
        return skip("a full listener", "this system answers for a listener that does not");
    };
    let mut stack = Stack::over(&format!("http://{addr}")).await;
    never_answers(&mut stack, TIMEOUT, AttemptEnd::Unsent, "connecting").await;
    drop((listener, callers));
}

/// A listener whose backlog is full, so that the next connection waits.
async fn full_listener() -> Option<(TcpListener, SocketAddr, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback");
    let listener = socket.listen(1).expect("a listener");
    let addr = listener.local_addr().expect("bound");
    let mut callers = Vec::new();
    for _ in 0..64 {
        match tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr)).await {
            Ok(connected) => callers.push(connected.expect("loopback")),
            Err(_) => return Some((listener, addr, callers)),
        }
    }
    None
}
