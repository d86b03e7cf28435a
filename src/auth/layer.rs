use std::fmt;

use tower::Layer;

use super::KeyAuthGate;
use crate::call::CallService;
use crate::domain::key::Pepper;
use crate::gate::{GateLayer, GateService};
use crate::store::key::KeyStore;

/// Requires a virtual key. See the [module](crate::auth).
pub struct KeyAuthLayer<K> {
    gate: GateLayer<KeyAuthGate<K>>,
}

impl<K: KeyStore> KeyAuthLayer<K> {
    /// Creates a layer that looks up keys in `keys`, where they are stored under `pepper`. Wrap a store that is not in
    /// memory in [`CachedKeys`](crate::store::cached::CachedKeys).
    pub fn new(keys: K, pepper: Pepper) -> Self {
        KeyAuthLayer { gate: GateLayer::ours(KeyAuthGate::new(keys, pepper)) }
    }

    pub(crate) fn into_gate(self) -> GateLayer<KeyAuthGate<K>> {
        self.gate
    }
}

impl<K, S> Layer<S> for KeyAuthLayer<K> {
    type Service = CallService<GateService<KeyAuthGate<K>, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.gate.layer(inner)
    }
}

impl<K> Clone for KeyAuthLayer<K> {
    fn clone(&self) -> Self {
        KeyAuthLayer { gate: self.gate.clone() }
    }
}

impl<K> fmt::Debug for KeyAuthLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAuthLayer").finish_non_exhaustive()
    }
}
