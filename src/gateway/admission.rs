use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};

use super::controls::{Door, Last};
use crate::body::Body;
use crate::call::{Call, DISCARD, discard};
use crate::domain::rejection::Rejection;
use crate::gate::{Gate, Name};
use crate::ingest::IngestLayer;

/// All that a request passes between the opening of its call and the service behind: the door, the reading of its body,
/// the gates.
///
/// What the layers of ours do one within another, in one future: each of them would look for the call, take the request
/// apart, and keep a service and a box of its own.
pub(super) struct Admission<I> {
    pub(super) door: Option<Door>,
    pub(super) ingest: IngestLayer,
    /// Gates that expect a head, asked only where there is one.
    pub(super) gates: Vec<(Name, Arc<dyn Gate>)>,
    pub(super) last: Last,
    /// The service behind, as a function.
    pub(super) inner: I,
}

impl<I> Admission<I> {
    /// Lets the request through to what is behind, or says why not.
    ///
    /// No `async fn`, whose future has room for each argument twice: as it came, and as the body calls it.
    pub(super) fn answer<F, E>(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, E>>
    where
        I: Fn(Request<Body>) -> F,
        F: Future<Output = Result<Response<Body>, E>>,
    {
        let (mut parts, body) = request.into_parts();
        async move {
            match self.admit(&mut parts, body).await {
                Ok(body) => (self.inner)(Request::from_parts(parts, body)).await,
                Err(rejection) => Ok(Call::reject(rejection)),
            }
        }
    }

    async fn admit(&self, parts: &mut Parts, body: Body) -> Result<Body, Rejection> {
        let Some(call) = Call::of_parts(parts).cloned() else {
            return Err(Rejection::misconfigured("a request came to the gates before its call was opened"));
        };
        if let Some(door) = &self.door
            && let Err(rejection) = door.admit(parts, &call).await
        {
            discard(&parts.headers, body, DISCARD).await;
            return Err(rejection);
        }
        if !call.endpoint().has_head() {
            if self.gates.is_empty() {
                return Ok(body);
            }
            // They are not asked, and would have been by a path as clients write it.
            return call.check_spelling().map(|()| body);
        }
        let bytes = self.ingest.read(parts, pin!(body), &call).await?;
        for (name, gate) in &self.gates {
            let before = name.before(&call, &parts.headers);
            match gate.decide(parts, &call) {
                Some(verdict) => verdict?,
                // Past the pointer's own implementation, which would put the future in a box of its own.
                None => (**gate).admit(parts, &call).await?,
            }
            name.passed(&call, before);
        }
        self.last.pass(parts, &call).await?;
        Ok(Body::from(bytes))
    }
}
