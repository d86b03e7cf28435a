//! Rejections where no layer of ours stands further out to render and log them.

use http::{Request, Response, StatusCode};

use super::Call;
use super::future::log;
use super::service::endpoint;
use crate::body::Body;
use crate::dialect;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;

impl Call {
    /// The dialect of a request for which no call has been opened.
    pub(crate) fn doorless<B>(request: &Request<B>) -> Option<Dialect> {
        Call::of(request).is_none().then(|| endpoint(request).dialect)
    }

    /// Like [`reject`](Self::reject), if there may be no door. If there is a door, but a foreign layer dropped the call
    /// on the way, that door renders the rejection again, with its own id.
    pub(crate) fn reject_for(rejection: Rejection, doorless: Option<Dialect>) -> Response<Body> {
        let Some(dialect) = doorless else { return Call::reject(rejection) };
        log(&rejection, "none");
        let rendered = dialect::render(&rejection, dialect, "");
        let mut response = carrying(rejection, rendered.status, Body::from(rendered.body));
        response.headers_mut().extend(rendered.headers);
        response
    }
}

/// An answer that carries a rejection to the door.
pub(super) fn carrying(rejection: Rejection, status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.extensions_mut().insert(rejection.placed(status));
    response
}
