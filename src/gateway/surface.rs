use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use percent_encoding::percent_decode_str;
use pin_project_lite::pin_project;

use super::Dispatch;
use super::key_info::{KeyInfo, is_asked};
use super::models::{self, Model, Paging};
use crate::body::Body;
use crate::call::{Call, DISCARD, discard};
use crate::domain::dialect::Endpoint;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::short::{SHOWN, shortened};

/// Claude Code's telemetry. Its gateway contract requires these paths to be accepted and allows dropping the data.
const TELEMETRY: [&str; 5] =
    ["/v1/metrics", "/v1/logs", "/v1/traces", "/api/event_logging/batch", "/api/event_logging/v2/batch"];

/// What a gateway answers under which path: generations go to dispatch, everything else is answered here.
pub(super) struct Surface {
    models: Arc<[Model]>,
    info: KeyInfo,
    dispatch: Dispatch,
}

/// Boxed, so that dispatched calls (nearly all) do not carry its size.
type Here = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

pin_project! {
    /// Written by hand, since an `async` block stores what it awaits twice: once as captured and once as awaited.
    #[project = WayProj]
    enum Way<D> {
        Dispatched { #[pin] answer: D },
        Here { answer: Here },
    }
}

impl<D> Future for Way<D>
where
    D: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = D::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WayProj::Dispatched { answer } => answer.poll(cx),
            WayProj::Here { answer } => answer.as_mut().poll(cx).map(Ok),
        }
    }
}

impl Surface {
    pub(super) fn new(models: Vec<Model>, info: KeyInfo, dispatch: Dispatch) -> Self {
        Surface { models: models.into(), info, dispatch }
    }

    pub(super) fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        match Call::of(&request).is_some_and(|call| call.endpoint().has_head()) {
            true => Way::Dispatched { answer: self.dispatch.answer(request) },
            false => Way::Here { answer: self.answer_here(request) },
        }
    }

    fn answer_here(&self, request: Request<Body>) -> Here {
        if let Some(call) = Call::of(&request) {
            call.asks_nobody();
        }
        let asks = Call::of(&request).filter(|call| is_asked(call)).cloned();
        let (info, answer) = match asks {
            Some(call) => (Some((self.info.clone(), call)), Response::default()),
            None => (None, self.known(&request).unwrap_or_else(Response::from)),
        };
        Box::pin(async move {
            let answer = match info {
                Some((info, call)) => info.answer(request.method(), &call).await.unwrap_or_else(Response::from),
                None => answer,
            };
            let (parts, body) = request.into_parts();
            discard(&parts.headers, body, DISCARD).await;
            answer
        })
    }

    fn known(&self, request: &Request<Body>) -> Result<Response<Body>, Rejection> {
        let path = request.uri().path();
        let below = Endpoint::below_family(path);
        let known = match below {
            // Warm-up probes of Claude Code and of load balancers.
            "" | "/" | "/api/hello" => Some(Bytes::new()),
            _ if TELEMETRY.contains(&below) && *request.method() == Method::POST => {
                return Ok(Response::new(Body::empty()));
            }
            _ => self.models(Call::of(request), below, request.uri().query())?,
        };
        let Some(json) = known else {
            return Err(not_found(request.method(), path));
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Rejection::only("GET, HEAD"));
        }
        let is_probe = json.is_empty();
        let mut response = Response::new(Body::from(json));
        if is_probe {
            return Ok(response);
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// Answers `/models` and `/models/ID` with the models that the caller may use.
    fn models(&self, call: Option<&Call>, path: &str, query: Option<&str>) -> Result<Option<Bytes>, Rejection> {
        let path = Endpoint::below_version(path);
        let Some(id) = path.strip_prefix("/models") else { return Ok(None) };
        let principal = call.and_then(Call::principal);
        let shown = models::shown(&self.models, principal.map(|principal| &**principal));
        let list = || models::list(&shown, &Paging::of(query));
        match id.strip_prefix('/') {
            None if id.is_empty() => Ok(Some(list())),
            None => Ok(None),
            Some("") => Ok(Some(list())),
            Some(id) => {
                let id = percent_decode_str(id).decode_utf8_lossy();
                match shown.iter().find(|model| model.id() == id) {
                    Some(model) => Ok(Some(serde_json::to_vec(&model.entry()).unwrap_or_default().into())),
                    None => {
                        let message =
                            format!("model `{}` is not in this gateway's list of models", shortened(id, SHOWN));
                        Err(Rejection::new(RejectionKind::ModelNotFound, message).param("model"))
                    }
                }
            }
        }
    }
}

/// The 404 for a path of any length; long methods and paths are shortened.
pub(super) fn not_found(method: &Method, path: &str) -> Rejection {
    let (method, path) = (shortened(method.as_str(), SHOWN), shortened(path, SHOWN));
    Rejection::new(RejectionKind::NotFound, format!("nothing is served under {method} {path}"))
}
