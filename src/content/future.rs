use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Response};
use pin_project_lite::pin_project;

use super::body::ContentBody;
use super::layer::Shared;
use super::queue::Taken;
use super::redact::{Coding, Form};
use crate::body::{Body, BoxError, Gunzip, Share, is_plain};
use crate::call::{Call, Ending, is_event_stream};
use crate::domain::content::{Keep, Side};
use crate::domain::rejection::Rejection;

pin_project! {
    /// The future returned by a [`ContentService`](super::ContentService).
    pub struct ContentFuture<F> {
        #[pin]
        inner: Option<F>,
        kept: Option<Kept>,
        refused: Option<Rejection>,
    }
}

/// A call whose answer is kept.
pub(super) struct Kept {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Call,
    pub(super) keep: Keep,
    pub(super) method: Method,
}

impl<F> ContentFuture<F> {
    pub(super) fn new(inner: F, kept: Option<Kept>) -> Self {
        ContentFuture { inner: Some(inner), kept, refused: None }
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        ContentFuture { inner: None, kept: None, refused: Some(rejection) }
    }
}

impl<F, B, E> Future for ContentFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(rejection) = this.refused.take() {
            return Poll::Ready(Ok(Response::from(rejection)));
        }
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Pending };
        let response = ready!(inner.poll(cx))?.map(Body::new);
        Poll::Ready(Ok(match this.kept.take() {
            // An error of ours gets its form further out.
            Some(kept) if response.extensions().get::<Rejection>().is_none() => kept.copied(response),
            _ => response,
        }))
    }
}

impl Kept {
    fn copied(self, response: Response<Body>) -> Response<Body> {
        let Kept { shared, call, keep, method } = self;
        let (parts, body) = response.into_parts();
        let form = Form {
            is_event_stream: is_event_stream(&parts.headers),
            coding: coding(&parts.headers),
            ..Form::of(&call, shared.settings.most)
        };
        let mut taken = Taken::new(&call, Side::Answer, keep, form, Share::none(&shared.queue.room));
        taken.content.media_type = text(&parts.headers, &header::CONTENT_TYPE);
        taken.content.coding = text(&parts.headers, &header::CONTENT_ENCODING);
        let is_bodiless = Ending::is_bodiless(&method, parts.status);
        let body = ContentBody::new(body, is_bodiless, shared, call, taken);
        Response::from_parts(parts, Body::own(body))
    }
}

fn coding(headers: &HeaderMap) -> Coding {
    match is_plain(headers) {
        true => Coding::None,
        false if Gunzip::is_needed(headers) => Coding::Gzip,
        false => Coding::Other,
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<Arc<str>> {
    headers.get(name)?.to_str().ok().map(Arc::from)
}

impl<F> fmt::Debug for ContentFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentFuture").finish_non_exhaustive()
    }
}
