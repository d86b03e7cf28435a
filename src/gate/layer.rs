use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::{GateService, Name};
use crate::call::CallService;

/// Puts a [`Gate`](super::Gate) in front of a service. See the [module](crate::gate).
pub struct GateLayer<G> {
    gate: Arc<G>,
    name: Name,
}

impl<G> GateLayer<G> {
    /// Creates a layer around `gate`. All services made by the layer share that gate.
    pub fn new(gate: G) -> Self {
        GateLayer { gate: Arc::new(gate), name: Name::of::<G>() }
    }

    /// For a gate of this crate, which records its decisions itself.
    pub(crate) fn ours(gate: G) -> Self {
        GateLayer { gate: Arc::new(gate), name: Name::OURS }
    }
}

impl<G: super::Gate> GateLayer<G> {
    /// The gate itself, for an assembly that runs it directly.
    pub(crate) fn into_gate(self) -> Arc<G> {
        self.gate
    }
}

impl<G, S> Layer<S> for GateLayer<G> {
    type Service = CallService<GateService<G, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(GateService::new(self.gate.clone(), self.name, inner))
    }
}

// By hand: deriving would demand `G: Clone` of a gate that sits behind an `Arc`.
impl<G> Clone for GateLayer<G> {
    fn clone(&self) -> Self {
        GateLayer { gate: self.gate.clone(), name: self.name }
    }
}

impl<G> fmt::Debug for GateLayer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLayer").field("gate", &std::any::type_name::<G>()).finish()
    }
}
