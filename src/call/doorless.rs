//! Rejections on their way to the client: as answers that the outermost layer of ours renders and logs, and where none
//! stands further out.

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

    /// The answer of a rejection, if there may be no door. If there is a door, but a foreign layer dropped the call
    /// on the way, that door renders the rejection again, with its own id.
    pub(crate) fn reject_for(rejection: Rejection, doorless: Option<Dialect>) -> Response<Body> {
        let Some(dialect) = doorless else { return Response::from(rejection) };
        log(&rejection, "none");
        let rendered = dialect::render(&rejection, dialect, "");
        let mut response = carrying(rejection, rendered.status, Body::from(rendered.body));
        response.headers_mut().extend(rendered.headers);
        response
    }
}

/// Refuses a call, from a service or a layer of the host's.
///
/// The layer of ours around it renders the rejection in the client's dialect and records a refusal. Without such a
/// layer, only the status is sent, without the message. It declares that no provider was asked: nothing is charged for
/// the call, unless a meter within has seen an attempt.
impl From<Rejection> for Response<Body> {
    fn from(rejection: Rejection) -> Self {
        let status = dialect::render(&rejection, Dialect::OpenAiChat, "").status;
        carrying(rejection, status, Body::empty())
    }
}

/// An answer that carries a rejection to the door.
fn carrying(rejection: Rejection, status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.extensions_mut().insert(rejection.placed(status));
    response
}
