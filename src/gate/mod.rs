//! Admission rules: one async function over a request's head. The polling is written once, here.
//!
//! To add a rule of your own, implement [`Gate`] and wrap it: `GateLayer::new(gate)` is a layer.
//!
//! - **Reads:** whatever an outer layer has left on the [`Call`]. A gate cannot touch the body or the answer; it leaves
//!   edits and answer headers on the call.
//! - **Records** what the gate has decided, as a decision of the layer `gate` whose reason begins with the name of the
//!   gate's type, unless the gate has [noted](Call::note) a decision itself.
//! - **Answers** with the gate's [`Rejection`], in the client's dialect.
//! - **Where:** inside of `IngestLayer` if it needs the model, outside if it can decide without the body.
//!
//! ```
//! use async_trait::async_trait;
//! use http::request::Parts;
//! use tollgate::domain::rejection::RejectionKind;
//! use tollgate::{Call, Gate, Rejection};
//!
//! /// Nobody streams.
//! struct NoStreams;
//!
//! #[async_trait]
//! impl Gate for NoStreams {
//!     async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
//!         match call.require_head()?.is_stream() {
//!             true => Err(Rejection::new(RejectionKind::NotPermitted, "streams are off here").param("stream")),
//!             false => Ok(()),
//!         }
//!     }
//! }
//! let layer = tollgate::gate::GateLayer::new(NoStreams);
//! ```
//!
//! A gate about models asks the route, since the client may have sent an alias, which `call.head()` has as it was sent:
//!
//! ```
//! # use async_trait::async_trait;
//! # use http::request::Parts;
//! # use tollgate::domain::rejection::RejectionKind;
//! # use tollgate::{Call, Gate, Rejection};
//! /// The team of interns gets no Opus.
//! struct NoOpus;
//!
//! #[async_trait]
//! impl Gate for NoOpus {
//!     async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
//!         let is_intern = call.principal().is_some_and(|caller| caller.team.as_deref() == Some("interns"));
//!         if is_intern && call.require_route()?.iter().any(|target| target.model.starts_with("claude-opus")) {
//!             return Err(Rejection::new(RejectionKind::ModelNotAllowed, "interns may not use Opus"));
//!         }
//!         Ok(())
//!     }
//! }
//! let layer = tollgate::GatewayLayer::new().gate(NoOpus);
//! ```
//!
//! A request may name further models (`fallbacks`, `models`): only `Principal::models` refuses those.
//! [`rejection`](crate::domain::rejection) has the status of each kind. For what one key may use,
//! [`Principal::models`](crate::domain::principal::Principal::models) needs no gate.

mod future;
mod layer;
mod name;
mod service;

pub use self::future::GateFuture;
pub use self::layer::GateLayer;
pub(crate) use self::name::Name;
pub use self::service::GateService;

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use crate::call::Call;
use crate::domain::rejection::Rejection;

/// Decides whether a request may pass, from its head.
///
/// # Cancellation
/// `admit` is dropped when the client leaves. What it has taken by then must be given back in `call.on_close`.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Lets the call pass, or refuses it.
    ///
    /// # Errors
    /// The rejection, which is sent to the client in its dialect.
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection>;

    /// Decides without waiting. It is called first, and its decision is final. The default, `None`, leaves the decision
    /// to [`admit`](Self::admit), whose future must be boxed for each call.
    fn decide(&self, _parts: &mut Parts, _call: &Call) -> Option<Result<(), Rejection>> {
        None
    }
}

#[async_trait]
impl<G: Gate + ?Sized> Gate for Arc<G> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        (**self).admit(parts, call).await
    }

    fn decide(&self, parts: &mut Parts, call: &Call) -> Option<Result<(), Rejection>> {
        (**self).decide(parts, call)
    }
}

#[async_trait]
impl<G: Gate + ?Sized> Gate for Box<G> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        (**self).admit(parts, call).await
    }

    fn decide(&self, parts: &mut Parts, call: &Call) -> Option<Result<(), Rejection>> {
        (**self).decide(parts, call)
    }
}

/// Asks one gate after another; the first refusal counts.
#[async_trait]
impl<G: Gate> Gate for Vec<G> {
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        for gate in self {
            match gate.decide(parts, call) {
                Some(verdict) => verdict?,
                None => gate.admit(parts, call).await?,
            }
        }
        Ok(())
    }
}
