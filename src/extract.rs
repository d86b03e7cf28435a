use std::convert::Infallible;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::call::Call;
use crate::domain::dialect::Endpoint;
use crate::domain::rejection::Rejection;

/// Extracts the call that one of our layers has opened. Without such a layer, the answer is 500 and the log names the
/// cure; `Option<Call>` is then `None`.
impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        parts.extensions.get::<Call>().cloned().ok_or_else(|| missing(parts))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Call>().cloned())
    }
}

/// Refuses a call from a handler, as the [`http::Response`] of a rejection does from a service: the layer of ours around
/// it renders the message, and without such a layer only the status is sent.
impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        http::Response::from(self).map(axum_core::body::Body::new)
    }
}

/// There is no call, and so no door that renders the rejection.
fn missing(parts: &Parts) -> Response {
    tracing::error!("no `Call` for the extractor: put `CallLayer` or `GatewayLayer` around the route");
    let rejection = Rejection::misconfigured("no `Call`");
    let rendered = crate::dialect::render(&rejection, Endpoint::of(parts.uri.path()).dialect, "");
    (rendered.status, rendered.headers, rendered.body).into_response()
}
