use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::RewriteService;
use crate::call::CallService;

/// Rewrites event streams, but **no JSON answers**. See the [module](crate::rewrite).
pub struct RewriteLayer<R> {
    rewrite: Arc<R>,
}

impl<R> RewriteLayer<R> {
    /// Creates a layer that gets a rewriter from `rewrite` for each stream.
    pub fn new(rewrite: R) -> Self {
        RewriteLayer { rewrite: Arc::new(rewrite) }
    }
}

impl<R, S> Layer<S> for RewriteLayer<R> {
    type Service = CallService<RewriteService<R, S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(RewriteService::new(self.rewrite.clone(), inner))
    }
}

impl<R> Clone for RewriteLayer<R> {
    fn clone(&self) -> Self {
        RewriteLayer { rewrite: self.rewrite.clone() }
    }
}

impl<R> fmt::Debug for RewriteLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewriteLayer").field("rewrite", &std::any::type_name::<R>()).finish()
    }
}
