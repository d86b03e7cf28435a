//! Posting to an endpoint of somebody's.

use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use tower::{Service, ServiceExt};

use super::NotAWebhook;
use crate::body::{Body, BoxError};
use crate::store::StoreError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn endpoint(url: &str) -> Result<Uri, NotAWebhook> {
    let url: Uri = url.parse().map_err(|_| NotAWebhook("the URL cannot be read"))?;
    let is_http = url.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if !is_http || url.authority().is_none() {
        return Err(NotAWebhook("the URL is not an absolute one of http or https"));
    }
    Ok(url)
}

/// Sends it, and gives the status by which it was refused for good, if it was.
///
/// # Errors
/// When it was not answered, or so that it may be taken when it comes again.
pub(super) async fn post<C, B>(client: C, request: Request<Body>) -> Result<Option<StatusCode>, StoreError>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Send,
{
    let answering = tokio::time::timeout(PATIENCE, client.oneshot(request));
    let answer = answering.await.map_err(StoreError::uncertain)?.map_err(StoreError::uncertain)?;
    let status = answer.status();
    let comes_again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || comes_again.contains(&status) {
        return Err(StoreError::unavailable(format!("the endpoint answered {status}")));
    }
    Ok((!status.is_success()).then_some(status))
}
