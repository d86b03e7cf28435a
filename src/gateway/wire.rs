use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use tower::Service;

use crate::body::{Body, BoxError};
use super::key_info::KeyInfo;
use crate::call::Call;
use crate::domain::rejection::Rejection;
use crate::rewrite::{WithholdUsage, rewrite};

/// The last step before a host's own service: the call's edits, in one splice, and their undoing on the way back.
#[derive(Clone)]
pub(super) struct Wire<S> {
    inner: S,
    info: KeyInfo,
}

impl<S> Wire<S> {
    pub(super) fn new(inner: S, info: KeyInfo) -> Self {
        Wire { inner, info }
    }
}

impl<S, ResB> Service<Request<Body>> for Wire<S>
where
    S: Service<Request<Body>, Response = Response<ResB>, Future: Send> + Clone + Send + 'static,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(&request).cloned();
        let has_head = call.as_ref().is_some_and(|call| call.head().is_some());
        if let Some(call) = call.as_ref().filter(|call| self.info.answers(call)) {
            let (info, call, method) = (self.info.clone(), call.clone(), request.method().clone());
            return Box::pin(async move { Ok(info.answer(&method, &call).await.unwrap_or_else(Call::reject)) });
        }
        let (Some(call), true) = (call, has_head) else {
            let answer = self.inner.call(request);
            return Box::pin(async move { Ok(answer.await?.map(Body::new)) });
        };
        call.ask_for_usage();
        match edit(&call, request) {
            Ok(request) => {
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(rewrite(&WithholdUsage::new(), &call, answer.await?.map(Body::new))) })
            }
            Err(rejection) => Box::pin(async move { Ok(Call::reject(rejection)) }),
        }
    }
}

fn edit(call: &Call, request: Request<Body>) -> Result<Request<Body>, Rejection> {
    let (mut parts, body) = request.into_parts();
    let bytes = in_memory(body)?;
    let edited = call.edited(&bytes)?;
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(edited.len()));
    Ok(Request::from_parts(parts, Body::from(edited)))
}

/// The body that `IngestLayer` left in memory.
pub(super) fn in_memory(body: Body) -> Result<Bytes, Rejection> {
    body.try_into_bytes().map_err(|_| {
        Rejection::misconfigured("the request body is not in memory: put `IngestLayer` outside of the dispatch")
    })
}
