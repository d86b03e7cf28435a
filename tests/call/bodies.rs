//! Bodies with every possible kind of end, and a client for HTTP/1.1 and HTTP/2.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tollgate::body::BoxError;

/// How a body signals its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By `is_end_stream`, after its last frame.
    ReportsItsEnd,
    /// By `None` alone; its length is unknown.
    UnknownLength,
    /// By an exact length, and never by `is_end_stream`.
    ExactLength,
    /// It is empty, and reports that from the start.
    Empty,
    /// By an error, after its frames.
    Breaks,
    /// Never: it falls silent after its frames.
    FallsSilent,
    /// By a panic, after its frames.
    Panics,
}

/// Three frames of four bytes, and an end of some shape.
pub(crate) struct Shaped {
    shape: Shape,
    frames: VecDeque<Bytes>,
    left: u64,
}

pub(crate) fn shaped(shape: Shape) -> Shaped {
    let frames: VecDeque<_> =
        if shape == Shape::Empty { VecDeque::new() } else { vec![Bytes::from_static(b"abc\n"); 3].into() };
    Shaped { shape, left: frames.len() as u64 * 4, frames }
}

/// A stream that states usage, sends `mark`, and then stays open.
pub(crate) fn said(mark: &'static str) -> Shaped {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    Shaped {
        shape: Shape::FallsSilent,
        frames: [usage, mark].map(|text| Bytes::from_static(text.as_bytes())).into(),
        left: 0,
    }
}

impl http_body::Body for Shaped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(frame) => {
                self.left = self.left.saturating_sub(frame.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            None if self.shape == Shape::Breaks => Poll::Ready(Some(Err("broken on purpose".into()))),
            None if self.shape == Shape::FallsSilent => Poll::Pending,
            None if self.shape == Shape::Panics => panic!("on purpose"),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.shape {
            Shape::ReportsItsEnd => self.frames.is_empty(),
            Shape::Empty => true,
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.shape {
            Shape::ExactLength => SizeHint::with_exact(self.left),
            _ => SizeHint::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    H1,
    H2,
}

pub(crate) async fn send(version: Version, addr: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    try_send(version, addr, request).await.expect("an answer")
}

pub(crate) async fn try_send(
    version: Version,
    addr: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(version == Version::H2);
    let client: Client<HttpConnector, Full<Bytes>> = builder.build_http();
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("http://{addr}{}", parts.uri).parse().expect("a URI");
    client.request(Request::from_parts(parts, body)).await
}
