use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::RateLimitGate;
use crate::call::CallService;
use crate::domain::limit::Limit;
use crate::gate::{GateLayer, GateService};
use crate::store::rate_limit::RateLimitStore;

/// Limits requests per minute, tokens per minute and concurrent calls. See the [module](crate::rate_limit).
pub struct RateLimitLayer<R> {
    gate: RateLimitGate<R>,
}

impl<R: RateLimitStore> RateLimitLayer<R> {
    /// Creates a layer that counts in `store`.
    pub fn new(store: R) -> Self {
        RateLimitLayer { gate: RateLimitGate::new(store) }
    }

    /// Sets the most output tokens that a call is expected to use, whatever it asks for. The default is 512.
    ///
    /// Clients usually ask for the model's maximum and use a hundredth of it.
    #[must_use]
    pub fn expected_output(mut self, tokens: u64) -> Self {
        self.gate = self.gate.expected_output(tokens);
        self
    }

    /// Adds a limit that every caller in its scope counts against, besides the caller's own limits: the members of a
    /// team, callers with a tag, everyone, or whoever asks for a model or a provider.
    #[must_use]
    pub fn for_everyone(mut self, limit: Limit) -> Self {
        self.gate = self.gate.for_everyone(limit);
        self
    }

    /// Sets whom to ask for more; refusals include it: "the limit of … is reached: …; ask #llm-platform for more".
    #[must_use]
    pub fn contact(mut self, contact: impl Into<Arc<str>>) -> Self {
        self.gate = self.gate.contact(contact.into());
        self
    }

    pub(crate) fn into_gate(self) -> RateLimitGate<R> {
        self.gate
    }
}

impl<R, S> Layer<S> for RateLimitLayer<R> {
    type Service = CallService<GateService<RateLimitGate<R>, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        GateLayer::ours(self.gate.clone()).layer(inner)
    }
}

impl<R> Clone for RateLimitLayer<R> {
    fn clone(&self) -> Self {
        RateLimitLayer { gate: self.gate.clone() }
    }
}

impl<R> fmt::Debug for RateLimitLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("gate", &self.gate).finish()
    }
}
