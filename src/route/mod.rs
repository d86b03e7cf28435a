//! From the model that a client asks for to the targets that may serve it.
//!
//! Reach for [`ModelTable`] when models are told apart by name, and for [`Router`] when something else decides.
//!
//! - **Reads:** the head. **Adds:** the call's ordered targets, which dispatch tries and money must be able to pay for, and the
//!   decision `route`, which names them.
//! - **Answers** a model that nothing serves: 400 in Anthropic's dialect, 404 `model_not_found` in OpenAI's.
//! - **Where:** inside `IngestLayer`, outside of limits and budgets.
//!
//! A target may speak another dialect than the client: `Dispatch` translates. Responses is not translated yet, so for it,
//! and in front of a service of your own, such a target is none.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::route::{ModelTable, RouteLayer};
//! let table = ModelTable::new()
//!     .pattern("claude*", "anthropic", Dialect::Anthropic)
//!     .pattern("*", "openai", Dialect::OpenAiChat)
//!     .alias("fast", ["claude-haiku-5-5", "claude-haiku-4-5"]);
//! let layer = RouteLayer::new(table);
//! ```

mod gate;
mod table;

pub use self::gate::RouteGate;
pub use self::table::ModelTable;

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::call::{Call, CallService};
use crate::dialect::head::Head;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;
use crate::gate::{GateLayer, GateService};

/// Chooses the targets of a call, best first.
pub trait Router: Send + Sync + 'static {
    /// The targets that may serve this call. An empty list means that nothing does.
    ///
    /// # Errors
    /// A refusal, when there is more to say than that.
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection>;

    /// Names of its own for models, which a [`Gateway`](crate::Gateway) lists behind the host's models, each with the dialect in
    /// which it is served. None, unless a router has some.
    fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        Vec::new()
    }
}

impl<R: Router + ?Sized> Router for Arc<R> {
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        (**self).route(call, head)
    }

    fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        (**self).aliases()
    }
}

/// Puts a [`Router`] in front of a service. See the [module](crate::route).
pub struct RouteLayer<R> {
    gate: GateLayer<RouteGate<R>>,
}

impl<R> RouteLayer<R> {
    /// A layer that asks `router`.
    pub fn new(router: R) -> Self {
        RouteLayer { gate: GateLayer::ours(RouteGate::new(router)) }
    }
}

impl<R, S> Layer<S> for RouteLayer<R> {
    type Service = CallService<GateService<RouteGate<R>, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.gate.layer(inner)
    }
}

impl<R> Clone for RouteLayer<R> {
    fn clone(&self) -> Self {
        RouteLayer { gate: self.gate.clone() }
    }
}

impl<R> fmt::Debug for RouteLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteLayer").field("gate", &self.gate).finish()
    }
}
