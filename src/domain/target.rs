//! Where an attempt goes: which upstream, in which dialect, under which model name.
//!
//! Reach for it when you write a [`Router`](crate::route::Router) of your own.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::domain::target::Target;
//! let target = Target::new("anthropic", Dialect::Anthropic, "claude-opus-5-5");
//! assert_eq!(&*target.model, "claude-opus-5-5");
//! ```

use std::sync::Arc;

use super::dialect::Dialect;

/// One place that can serve a call. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// The name under which the upstream was given to the gateway; never a URL, and never the client's to choose.
    pub upstream: Arc<str>,
    /// The API that it speaks.
    pub dialect: Dialect,
    /// The model to ask it for.
    pub model: Arc<str>,
}

impl Target {
    /// A target of the upstream called `upstream`.
    pub fn new(upstream: impl Into<Arc<str>>, dialect: Dialect, model: impl Into<Arc<str>>) -> Self {
        Target { upstream: upstream.into(), dialect, model: model.into() }
    }
}
