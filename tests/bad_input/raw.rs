//! Peers on plain sockets: an upstream that sends exactly the given bytes, and a client that does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::stack::Reply;

/// One step of the upstream, after it has read a whole request.
#[derive(Clone)]
pub(crate) enum Act {
    Say(Bytes),
    /// Resets the connection.
    Reset,
    /// Stays silent for as long as the test runs.
    Hang,
}

pub(crate) fn say(bytes: impl AsRef<[u8]>) -> Act {
    Act::Say(Bytes::copy_from_slice(bytes.as_ref()))
}

/// A listener that plays the same acts on each connection, then closes it.
pub(crate) struct Rude {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Rude {
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        Self::listening(acts, true).await
    }

    /// Answers as soon as it has read a head, and reads no body.
    pub(crate) async fn impatient(acts: Vec<Act>) -> Self {
        Self::listening(acts, false).await
    }

    async fn listening(acts: Vec<Act>, patient: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.expect("loopback");
                connections.spawn(play(socket, acts.clone(), counter.clone(), patient));
            }
        });
        Rude { addr, requests, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The number of whole requests that it has read.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn play(mut socket: TcpStream, acts: Vec<Act>, requests: Arc<AtomicUsize>, patient: bool) {
    if !read_request(&mut socket, patient).await {
        return;
    }
    requests.fetch_add(1, Ordering::SeqCst);
    for act in acts {
        match act {
            Act::Say(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Reset => socket.set_zero_linger().expect("a socket"),
            Act::Hang => std::future::pending().await,
        }
    }
}

/// Reads a request up to the end that `content-length` gives, or its head alone. Returns whether all of it came.
async fn read_request(socket: &mut TcpStream, with_body: bool) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |value| value.trim().parse().expect("a length"));
            if !with_body || bytes.len() >= end + 4 + length {
                return true;
            }
        }
        match socket.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// A whole answer with a length.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    say([head.as_bytes(), body].concat())
}

/// The head of an event stream, whose chunks follow.
pub(crate) fn stream_head() -> Act {
    say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n")
}

pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Act {
    let bytes = bytes.as_ref();
    say([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

pub(crate) fn last_chunk() -> Act {
    say("0\r\n\r\n")
}

/// Writes all of `bytes` before it reads, as the simplest clients do. The answer must have a `content-length`.
pub(crate) async fn ask(addr: SocketAddr, bytes: &[u8]) -> Reply {
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await.expect("the gateway listens");
        socket.write_all(bytes).await.expect("the gateway takes it all");
        let mut got = Vec::new();
        let end = loop {
            let head = got.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(head) = head
                && got.len() >= head + 4 + length(&got[..head])
            {
                break head;
            }
            assert_ne!(socket.read_buf(&mut got).await.expect("an answer, not a reset"), 0, "no whole answer");
        };
        reply(&got, end)
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("an answer within 20 s")
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or("0");
    length.trim().parse().expect("a length")
}

fn reply(got: &[u8], end: usize) -> Reply {
    let head = std::str::from_utf8(&got[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse::<StatusCode>().ok());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let body = Bytes::copy_from_slice(&got[end + 4..]);
    Reply { status: status.expect("a status"), headers, body, cut: false }
}
