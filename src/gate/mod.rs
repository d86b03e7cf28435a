//! The mould of every admission layer: one async function over a request's head, with the polling written once.
//!
//! Reach for it when you have a rule of your own: implement [`Gate`], and `GateLayer::new(gate)` is a layer.
//!
//! - **Reads:** whatever an outer layer left on the [`Call`]. It cannot touch the body or the answer: it leaves
//!   edits and answer headers on the call.
//! - **Notes** that it let the call pass, by the name of its type, where it has [noted](Call::note) nothing itself.
//! - **Answers** its [`Rejection`], in the client's dialect.
//! - **Where:** inside `IngestLayer` if it needs the model, outside if it can decide without reading.
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
//!             true => Err(Rejection::new(RejectionKind::InvalidRequest, "streams are off here").param("stream")),
//!             false => Ok(()),
//!         }
//!     }
//! }
//! let layer = tollgate::gate::GateLayer::new(NoStreams);
//! ```

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

/// Decides on the head of a request.
///
/// # Cancellation
/// `admit` is dropped when the client leaves. What it has taken by then must be given back by `call.on_close`.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Lets the call pass, or says why not.
    ///
    /// # Errors
    /// The refusal, which the client is sent in its own dialect.
    async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection>;

    /// What can be said without waiting: asked first, and final. `None`, unless overridden, leaves the question to
    /// [`admit`](Self::admit), whose future has to be put in a box for each call.
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

/// One after another; the first refusal stands.
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
