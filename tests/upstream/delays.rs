//! Delays that the kernel would add to small parts of a request.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tollgate::Body;
use tollgate::upstream::HttpClient;
use tower::ServiceExt;

const TURNS: usize = 40;

/// Each turn has two parts, and the upstream answers after the second. Without TCP_NODELAY, the client's kernel would
/// hold the second part back until the first is acknowledged. The upstream's kernel delays that acknowledgement by 40
/// ms, since it has no answer to send it with.
#[tokio::test]
async fn small_parts_of_a_request_do_not_wait_for_acknowledgements() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let (told, mut first_parts) = mpsc::unbounded_channel();
    let upstream = Handle::current().spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("loopback");
        // Only the client's side is measured.
        socket.set_nodelay(true).expect("a socket");
        let mut bytes = [0; 1024];
        let mut head = &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..];
        loop {
            let read = socket.read(&mut bytes).await.expect("open");
            if read == 0 {
                return;
            }
            socket.write_all(std::mem::take(&mut head)).await.expect("open");
            for byte in &bytes[..read] {
                match byte {
                    b'<' => told.send(()).expect("the test goes on"),
                    b'>' => socket.write_all(b"1\r\n.\r\n").await.expect("open"),
                    _ => {}
                }
            }
        }
    });
    let (mut parts, body) = Channel::<Bytes>::new(1);
    let request = Request::post(url).body(Body::new(body)).expect("a request");
    let answer = HttpClient::new().expect("TLS").oneshot(request).await.expect("answered");
    let mut answer = answer.into_body();
    let mut slow = 0;
    for _ in 0..TURNS {
        let began = Instant::now();
        parts.send_data(Bytes::from_static(b"<")).await.expect("sent");
        first_parts.recv().await.expect("the upstream reads");
        parts.send_data(Bytes::from_static(b">")).await.expect("sent");
        answer.frame().await.expect("a turn").expect("open");
        slow += usize::from(began.elapsed() >= Duration::from_millis(35));
    }
    assert!(slow < TURNS / 2, "{slow} of {TURNS} turns waited");
    upstream.abort();
}
