use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use tower::Service;

use super::key_info::KeyInfo;
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::domain::rejection::Rejection;

/// The last step before a host's own service: applies the call's edits in one splice. The meter inside removes their
/// visible effects from the answer. If that service is itself a gateway, it gets the original body, and the edits
/// through the call.
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
        if let Some(call) = Call::of(&request).filter(|call| self.info.answers(call)) {
            let (info, call, method) = (self.info.clone(), call.clone(), request.method().clone());
            return Box::pin(async move { Ok(info.answer(&method, &call).await.unwrap_or_else(Response::from)) });
        }
        let call = Call::of(&request).filter(|call| call.head().is_some()).cloned();
        let edited = match call {
            Some(call) => edit(&call, request),
            None => Ok(request),
        };
        match edited {
            Ok(request) => {
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
            Err(rejection) => Box::pin(async move { Ok(Response::from(rejection)) }),
        }
    }
}

fn edit(call: &Call, request: Request<Body>) -> Result<Request<Body>, Rejection> {
    let (mut parts, body) = request.into_parts();
    let bytes = Call::unedited(&mut parts, in_memory(body)?);
    call.ask_for_usage();
    let edited = call.edited(&bytes)?;
    Call::keep_unedited(&mut parts, bytes, &edited);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(edited.len()));
    Ok(Request::from_parts(parts, Body::from(edited)))
}

/// Takes the body that `IngestLayer` left in memory.
pub(super) fn in_memory(body: Body) -> Result<Bytes, Rejection> {
    body.try_into_bytes().map_err(|_| {
        Rejection::misconfigured("the request body is not in memory: put `IngestLayer` outside of the dispatch")
    })
}
