//! HTTP/2 servers that report that they have not begun with a call.

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::domain::outcome::{AttemptEnd, Outcome};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::{tls, trusting};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// An HTTP/2 frame (RFC 9113 section 4.1) without flags.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&len[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

/// A server that sends these bytes as soon as it has a request, and closes the connection when the client does.
async fn saying(words: Vec<u8>) -> (String, rustls::pki_types::CertificateDer<'static>) {
    let (acceptor, certificate) = tls(&[b"h2"]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    tokio::runtime::Handle::current().spawn(async move {
        let (socket, _) = listener.accept().await.expect("loopback");
        let mut socket = acceptor.accept(socket).await.expect("a client that trusts us");
        socket.write_all(&frame(SETTINGS, 0, &[])).await.expect("open");
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).await.expect("HTTP/2");
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.expect("a frame");
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            socket.read_exact(&mut payload).await.expect("all of it");
            if head[3] == HEADERS {
                break;
            }
        }
        socket.write_all(&words).await.expect("open");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    });
    (url, certificate)
}

/// Returns how the attempt at the first of two targets ends, whose server sends these bytes, and the client's status.
async fn asked(words: Vec<u8>) -> (AttemptEnd, u16) {
    let (url, certificate) = saying(words).await;
    let first = Provider::with_client(
        Dialect::OpenAiChat,
        &url,
        Credential::bearer("sk-canary-ours").expect("a header"),
        trusting(certificate),
    );
    let second = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let (told, mut outcomes) = tokio::sync::mpsc::unbounded_channel::<Outcome>();
    let gateway = Gateway::builder()
        .upstream("openai", Dialect::OpenAiChat, first.expect("a URL"))
        .upstream("anthropic", Dialect::Anthropic, second.expect("a URL"))
        .alias("best", ["gpt-5-mini", "claude-haiku-5-5"])
        .layer(GatewayLayer::new().on_close(move |outcome: &std::sync::Arc<Outcome>| {
            told.send(Outcome::clone(outcome)).expect("listened to");
        }))
        .build()
        .expect("a gateway");
    let body = r#"{"model":"best","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
    let answer = gateway.oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    drop(answer);
    let outcome = outcomes.recv().await.expect("it closes");
    (outcome.attempts[0].end, status)
}

#[tokio::test]
async fn what_a_server_has_not_begun_with_is_asked_of_the_next_target_and_costs_nothing() {
    const REFUSED_STREAM: u8 = 7;
    let refused = frame(RST_STREAM, 1, &[0, 0, 0, REFUSED_STREAM]);
    // Last stream 0: the server has begun with none. Error code 0: no error.
    let goes_away = frame(GOAWAY, 0, &[0; 8]);
    for (said, words) in [("refused", refused), ("goes away", goes_away)] {
        assert_eq!(asked(words).await, (AttemptEnd::Unsent, 200), "{said}");
    }
    // With CANCEL, the server may have begun with the call.
    const CANCEL: u8 = 8;
    assert_eq!(asked(frame(RST_STREAM, 1, &[0, 0, 0, CANCEL])).await, (AttemptEnd::NoAnswer, 502));
}
