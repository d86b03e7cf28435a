use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, header};
use tower::{Service, ServiceExt as _};

use super::{Outbound, Passage, TranslateLayer};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::dialect::translate::is_possible;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::target::Target;

/// The service of a [`TranslateLayer`].
#[derive(Debug, Clone)]
pub struct Translate<S> {
    inner: S,
    layer: TranslateLayer,
}

impl<S> Translate<S> {
    pub(super) fn new(inner: S, layer: TranslateLayer) -> Self {
        Translate { inner, layer }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Translate<S>
where
    S: Service<Request<Body>, Response = Response<ResB>, Future: Send> + Clone + Send + 'static,
    ReqB: http_body::Body<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service is made ready within the call, which may be answered without it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let (head, body, passage) = match layer.outbound(request).await {
                Ok(ready) => ready,
                Err(answer) => return Ok(answer),
            };
            let Some(mut passage) = passage else {
                return Ok(inner.oneshot(Request::from_parts(head, body)).await?.map(Body::new));
            };
            let again = Mutex::new(inner.clone());
            passage.ask_again(&head, move |request| {
                let inner = again.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Box::pin(async move {
                    let failed = |_| {
                        let why = "the inner service failed when it was asked to continue its answer";
                        Response::from(Rejection::new(RejectionKind::UpstreamUnreachable, why))
                    };
                    inner.oneshot(request).await.map_or_else(failed, |answer| answer.map(Body::new))
                })
            });
            let answer = inner.oneshot(Request::from_parts(head, body)).await?.map(Body::new);
            Ok(passage.back(answer).await)
        })
    }
}

type Ready = (Parts, Body, Option<Box<Passage>>);

impl TranslateLayer {
    /// The request to send on, or the answer that replaces it.
    async fn outbound<B>(&self, request: Request<B>) -> Result<Ready, Response<Body>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let Some(call) = Call::of_parts(&parts).filter(|call| call.endpoint().has_head()).cloned() else {
            return Ok((parts, Body::new(body), None));
        };
        let bytes = match call.head() {
            Some(_) => Body::new(body).try_into_bytes().map_err(|_| {
                Rejection::misconfigured(
                    "the request body that `IngestLayer` read is no longer in memory: an inner layer has wrapped it",
                )
            }),
            None => self.ingest.read(&mut parts, pin!(body), &call).await,
        };
        let bytes = bytes.map_err(Response::from)?;
        // A route with a single target names the model that a layer further out has chosen.
        let routed =
            || call.route().and_then(|targets| if let [one] = targets { Some(one.model.clone()) } else { None });
        let model = self.model.clone().or_else(routed).or_else(|| call.model().cloned()).unwrap_or_default();
        if call.dialect() == self.upstream {
            let body = self.named(&call, model, &mut parts, bytes).map_err(Response::from)?;
            return Ok((parts, Body::from(body), None));
        }
        if !is_possible(call.dialect(), self.upstream) {
            let message = format!("{} cannot be translated to {} yet", call.dialect(), self.upstream);
            return Err(Response::from(Rejection::new(RejectionKind::Unsupported, message)));
        }
        check_paid(&call, &model).map_err(Response::from)?;
        let target = Arc::new(Target::new("service", self.upstream, model));
        match self.translation.outbound(&call, &target, &mut parts, &bytes).map_err(Response::from)? {
            Outbound::Answer(answer) => Err(answer),
            Outbound::Send(body, passage) => {
                // A meter within reads the upstream's dialect.
                parts.extensions.insert(call.toward(target));
                Ok((parts, Body::from(body), Some(passage)))
            }
        }
    }
}

impl TranslateLayer {
    /// A call in the service's own dialect: unchanged, unless another model is chosen.
    fn named(&self, call: &Call, model: Arc<str>, parts: &mut Parts, body: Bytes) -> Result<Bytes, Rejection> {
        // Compares with the body: an alias of the key is resolved on the call, but not in the body.
        if call.head().is_none_or(|head| *head.model() == *model) {
            return Ok(body);
        }
        check_paid(call, &model)?;
        let whole = Call::unedited(parts, body);
        let call = call.toward(Arc::new(Target::new("service", self.upstream, model)));
        let edited = call.edited(&whole)?;
        parts.extensions.insert(call);
        Call::keep_unedited(parts, whole, &edited);
        parts.headers.insert(header::CONTENT_LENGTH, edited.len().into());
        Ok(edited)
    }
}

/// The grant pays for the models that it was computed for, and for no more expensive one.
fn check_paid(call: &Call, model: &Arc<str>) -> Result<(), Rejection> {
    let is_paid = match call.route() {
        Some(targets) => targets.iter().any(|target| target.model == *model),
        None => call.model().is_none_or(|asked| asked == model),
    };
    if is_paid || !call.is_bounded() {
        return Ok(());
    }
    Err(Rejection::misconfigured(
        "the budget was reserved before the model was chosen: have a route name the model that `TranslateLayer::model` asks \
         for (`RouteLayer` outside of `BudgetLayer`, or `GatewayLayer::router`, whose target must be in the client's \
         dialect)",
    ))
}
