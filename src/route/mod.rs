//! Chooses the targets that may serve the model that a client asks for.
//!
//! Use [`ModelTable`] to route by model name, and implement [`Route`] for any other rule.
//!
//! - **Reads:** the head. **Adds:** the call's ordered targets, which the dispatch tries and budgets must be able to
//!   pay for, and the decision `route`, which names them.
//! - **Answers** 400 in Anthropic's dialect, or 404 `model_not_found` in OpenAI's, for a model that nothing serves.
//! - **Where:** inside of `IngestLayer`, outside of limits and budgets.
//!
//! A target may speak another dialect than the client: `Dispatch` translates. Such targets are ignored for Responses,
//! which is not translated yet, and in front of a service of your own.
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
//!
//! A table sends a model to one upstream. To try the same model at a second one where the first cannot be reached:
//!
//! ```
//! use std::sync::Arc;
//! use tollgate::dialect::head::Head;
//! use tollgate::domain::target::Target;
//! use tollgate::route::Route;
//! use tollgate::{Call, Dialect, GatewayLayer, Rejection};
//!
//! struct Both;
//!
//! impl Route for Both {
//!     fn route(&self, call: &Call, _head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
//!         // The caller's own aliases are resolved in it.
//!         let Some(model) = call.model() else { return Ok(Vec::new()) };
//!         let at = |upstream| Arc::new(Target::new(upstream, Dialect::Anthropic, model.clone()));
//!         Ok(vec![at("direct"), at("cloud")]) // the names given to `GatewayBuilder::upstream`
//!     }
//! }
//! let layer = GatewayLayer::new().router(Both);
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

/// Chooses the targets of a call, in order of preference.
pub trait Route: Send + Sync + 'static {
    /// Returns the targets that may serve this call. An empty list means that no target serves it.
    ///
    /// # Errors
    /// A rejection, if a more specific answer is needed.
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection>;

    /// The router's own aliases for models, each with the dialect in which it is served. A [`Gateway`](crate::Gateway)
    /// lists them after the host's models. The default is no aliases.
    fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        Vec::new()
    }
}

impl<R: Route + ?Sized> Route for Arc<R> {
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        (**self).route(call, head)
    }

    fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        (**self).aliases()
    }
}

/// Routes calls with a [`Route`]. See the [module](crate::route).
pub struct RouteLayer<R> {
    gate: GateLayer<RouteGate<R>>,
}

impl<R> RouteLayer<R> {
    /// Creates a layer that asks `router`.
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
