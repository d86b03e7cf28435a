//! HTTP/2 servers that report that they have not begun with a call, or that give it up in the middle of the answer.

use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::domain::outcome::{AttemptEnd, Outcome};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::{tls, trusting};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u8 = 0;
const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;

/// An HTTP/2 frame (RFC 9113 section 4.1) without flags.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    flagged(kind, 0, stream, payload)
}

fn flagged(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head with status 200 and this content type (RFC 7541 section 6: names and the status by their index).
fn head(kind: &str) -> Vec<u8> {
    const STATUS_200: u8 = 0x88;
    const CONTENT_TYPE: [u8; 2] = [0x0f, 31 - 15];
    let len = u8::try_from(kind.len()).expect("small");
    flagged(HEADERS, END_HEADERS, 1, &[&[STATUS_200], &CONTENT_TYPE[..], &[len], kind.as_bytes()].concat())
}

fn reset(code: u8) -> Vec<u8> {
    frame(RST_STREAM, 1, &[0, 0, 0, code])
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
    let refused = reset(REFUSED_STREAM);
    // Last stream 0: the server has begun with none. Error code 0: no error.
    let goes_away = frame(GOAWAY, 0, &[0; 8]);
    for (said, words) in [("refused", refused), ("goes away", goes_away)] {
        assert_eq!(asked(words).await, (AttemptEnd::Unsent, 200), "{said}");
    }
    // With CANCEL, the server may have begun with the call.
    assert_eq!(asked(reset(CANCEL)).await, (AttemptEnd::NoAnswer, 502));
}

/// What a client of Chat Completions gets through a gateway whose upstream sends these bytes: the text, and whether it
/// was cut.
async fn passed(words: Vec<u8>) -> (String, bool) {
    let (url, certificate) = saying(words).await;
    let credential = Credential::bearer("sk-canary-ours").expect("a header");
    let provider = Provider::with_client(Dialect::OpenAiChat, &url, credential, trusting(certificate)).expect("a URL");
    let gateway = Gateway::builder().upstream("openai", Dialect::OpenAiChat, provider).build().expect("a gateway");
    let body = r#"{"model":"gpt-x","stream":true,"messages":[]}"#;
    let request = Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request");
    let mut answer = gateway.oneshot(request).await.expect("infallible").into_body();
    let mut text = String::new();
    while let Some(frame) = answer.frame().await {
        let Ok(frame) = frame else { return (text, true) };
        text.push_str(std::str::from_utf8(frame.data_ref().expect("no trailers")).expect("text"));
    }
    (text, false)
}

#[tokio::test]
async fn an_answer_that_is_reset_is_no_whole_one_whatever_the_code() {
    const CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    for code in [NO_ERROR, CANCEL] {
        let words = [head("text/event-stream"), frame(DATA, 1, CHUNK.as_bytes()), reset(code)].concat();
        let (text, cut) = passed(words).await;
        let rest = text.strip_prefix(CHUNK).unwrap_or_else(|| panic!("{code}: {text}"));
        assert!(!cut && rest.contains("the upstream's answer was cut off"), "{code}: {text}");
        let words = [head("application/json"), frame(DATA, 1, b"{\"id\":"), reset(code)].concat();
        assert_eq!(passed(words).await, ("{\"id\":".to_owned(), true), "{code}");
    }
    // Behind the end of its answer, a server that needs no more of the request resets the stream (RFC 9113, 8.1).
    let end = flagged(DATA, END_STREAM, 1, CHUNK.as_bytes());
    let words = [head("text/event-stream"), end, reset(NO_ERROR)].concat();
    assert_eq!(passed(words).await, (CHUNK.to_owned(), false));
}
