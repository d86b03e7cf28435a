//! Where an attempt goes: to which upstream, in which dialect, and under which model name.
//!
//! Use it to write your own [`Route`](crate::route::Route).
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::domain::target::Target;
//! let target = Target::new("anthropic", Dialect::Anthropic, "claude-opus-5-5");
//! assert_eq!(&*target.model, "claude-opus-5-5");
//! ```

use std::sync::Arc;

use super::dialect::Dialect;

/// A place that can serve a call. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// The name under which the upstream was registered with the gateway. It is never a URL, and the client never
    /// chooses it.
    pub upstream: Arc<str>,
    /// The API that the upstream speaks.
    pub dialect: Dialect,
    /// The name of the model there.
    pub model: Arc<str>,
}

impl Target {
    /// A target of the upstream called `upstream`.
    pub fn new(upstream: impl Into<Arc<str>>, dialect: Dialect, model: impl Into<Arc<str>>) -> Self {
        Target { upstream: upstream.into(), dialect, model: model.into() }
    }
}
