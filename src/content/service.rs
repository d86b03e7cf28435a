use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::ContentFuture;
use super::future::Kept;
use super::layer::Shared;
use super::queue::{NO_ROOM, Taken};
use super::redact::Form;
use super::task;
use crate::body::{Body, BoxError, Share};
use crate::call::Call;
use crate::domain::content::{Keep, Side};
use crate::domain::rejection::Rejection;

/// The service of a [`ContentLayer`](super::ContentLayer).
#[derive(Clone)]
pub struct ContentService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> ContentService<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        ContentService { inner, shared }
    }
}

impl<S, ResB> Service<Request<Body>> for ContentService<S>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ContentFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match kept(&self.shared, &request) {
            Ok(kept) => ContentFuture::new(self.inner.call(request), kept),
            Err(rejection) => ContentFuture::refused(rejection),
        }
    }
}

/// Keeps the request, and prepares to keep its answer, if either is wanted.
fn kept(shared: &Arc<Shared>, request: &Request<Body>) -> Result<Option<Kept>, Rejection> {
    task::sweep_too(shared);
    let Some(call) = Call::of(request).filter(|call| call.endpoint().has_head()) else { return Ok(None) };
    let keep = call.content(shared.settings.keep);
    if keep == Keep::Nothing {
        return Ok(None);
    }
    let body = request.body().in_memory().ok_or_else(|| {
        Rejection::misconfigured("the request body is not in memory: put `IngestLayer` outside of `ContentLayer`")
    })?;
    let mut share = Share::none(&shared.queue.room);
    let fits = body.len() <= shared.settings.most;
    match !fits || share.grow(body.len()).is_ok() {
        true => {
            let form = Form::of(call, shared.settings.most);
            let mut taken = Taken::new(call, Side::Request, keep, form, share);
            taken.content.media_type = Some("application/json".into());
            // A copy: the bytes themselves count as memory of a call in progress, and a sink may take long.
            let copy = fits.then(|| Bytes::copy_from_slice(&body));
            taken.ended(call.now(), true, body.len() as u64, copy);
            task::push(shared, taken);
        }
        false => shared.queue.drop_one(NO_ROOM),
    }
    let (shared, call, method) = (shared.clone(), call.clone(), request.method().clone());
    Ok(Some(Kept { shared, call, keep, method }))
}

impl<S: fmt::Debug> fmt::Debug for ContentService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
