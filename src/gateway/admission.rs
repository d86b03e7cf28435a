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

/// Takes a request from the opening of its call to the inner service: the door, reading the body, and the gates.
///
/// One future does what our separate layers would do nested in each other. Each of those would look up the call, take
/// the request apart, and keep a service and a box of its own.
pub(super) struct Admission<I> {
    pub(super) door: Option<Door>,
    pub(super) ingest: IngestLayer,
    /// Gates that need a head. They run only if the request has one.
    pub(super) gates: Vec<(Name, Arc<dyn Gate>)>,
    pub(super) last: Last,
    /// The inner service, as a function.
    pub(super) inner: I,
}

impl<I> Admission<I> {
    /// Forwards the request to the inner service, or answers with the rejection.
    ///
    /// Not an `async fn`: its future would store each argument twice, once as passed and once as used by the body.
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
                Err(rejection) => Ok(Response::from(rejection)),
            }
        }
    }

    async fn admit(&self, parts: &mut Parts, body: Body) -> Result<Body, Rejection> {
        let Some(call) = Call::of_parts(parts).cloned() else {
            return Err(Rejection::misconfigured("a request reached the gates before its call was opened"));
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
            // The gates do not run for this path, but would for the path as clients normally write it.
            return call.check_spelling().map(|()| body);
        }
        let bytes = self.ingest.read(parts, pin!(body), &call).await?;
        for (name, gate) in &self.gates {
            let before = name.before(&call, &parts.headers);
            let verdict = match gate.decide(parts, &call) {
                Some(verdict) => verdict,
                // Calls the gate inside the pointer: the pointer's own implementation would box the future once more.
                None => (**gate).admit(parts, &call).await,
            };
            name.decided(&call, before, &verdict);
            verdict?;
        }
        self.last.pass(parts, &call).await?;
        Ok(Body::from(bytes))
    }
}
