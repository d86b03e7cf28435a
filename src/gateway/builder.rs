use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::controls::ASKS_TWICE;
use super::models::{Model, listed};
use super::surface::Surface;
use super::{Dispatch, Gateway, GatewayLayer, GatewayService, Upstreams};
use crate::body::{Body, BoxError};
use crate::domain::dialect::Dialect;
use crate::route::ModelTable;
use crate::translate::Translation;

/// Builds a [`Gateway`].
#[derive(Default)]
pub struct GatewayBuilder {
    layer: GatewayLayer,
    upstreams: Upstreams,
    table: ModelTable,
    models: Vec<Model>,
    translation: Translation,
    /// A name that was given to two upstreams.
    doubled: Option<Arc<str>>,
    has_aliases: bool,
    is_layered: bool,
    is_layered_twice: bool,
}

/// The reason why a gateway cannot be built.
#[derive(Debug)]
pub struct BuildError {
    message: String,
}

impl BuildError {
    fn new(message: impl Into<String>) -> Self {
        BuildError { message: message.into() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}

impl GatewayBuilder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds an upstream under a name.
    ///
    /// The built-in routing, used unless the stages have a router of their own, sends models whose name starts with
    /// `claude` to the first Anthropic upstream, and all other models to the first upstream of another dialect.
    #[must_use]
    pub fn upstream<S, ResB>(mut self, name: impl Into<Arc<str>>, dialect: Dialect, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<ResB>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        ResB: http_body::Body<Data = Bytes> + Send + 'static,
        ResB::Error: Into<BoxError>,
    {
        let name = name.into();
        if self.upstreams.has(&name) {
            self.doubled = Some(name.clone());
        }
        let pattern = if dialect == Dialect::Anthropic { "claude*" } else { "*" };
        self.table = self.table.pattern(pattern, name.clone(), dialect);
        self.upstreams = self.upstreams.add(name, service);
        self
    }

    /// Makes `name` an alias for these models, tried in this order.
    ///
    /// The next model is tried only if the request cannot have reached the previous one: its upstream could not be
    /// reached, so that nothing was sent, or its dialect cannot express the request. A request that was sent is never
    /// sent again. Applies to the built-in routing only.
    ///
    /// To try one model at several upstreams, use a [`Route`](crate::route::Route) of your own.
    #[must_use]
    pub fn alias<M: Into<Arc<str>>>(mut self, name: impl Into<Arc<str>>, models: impl IntoIterator<Item = M>) -> Self {
        self.has_aliases = true;
        self.table = self.table.alias(name, models);
        self
    }

    /// Sets the models that `GET /v1/models` lists, in this order. The list continues with the router's aliases, and
    /// with each caller's own aliases.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = Model>) -> Self {
        self.models.extend(models);
        self
    }

    /// Configures the translation of calls whose target speaks another dialect than the client.
    #[must_use]
    pub fn translation(mut self, translation: Translation) -> Self {
        self.translation = translation;
        self
    }

    /// Sets the stages: your gates, observers, rewriters and controls. Once: they are all in one [`GatewayLayer`].
    #[must_use]
    pub fn layer(mut self, layer: GatewayLayer) -> Self {
        self.is_layered_twice |= self.is_layered;
        self.is_layered = true;
        self.layer = layer;
        self
    }

    /// Builds the gateway, and refuses a configuration that cannot be meant.
    ///
    /// # Errors
    /// - An upstream name is used twice, or there is no upstream.
    /// - The layer was set twice: the second would replace the first, with its keys and budgets.
    /// - The layer has both `admission` and `rate_limit` or `budget`.
    /// - The layer has a router of its own, and the builder has aliases, which only the built-in routing knows.
    /// - With the built-in routing: there is an upstream that no model reaches, an alias without models, or an alias
    ///   for a model that no upstream serves. The second upstream that speaks Anthropic Messages is one that no model
    ///   reaches, and so is the second of other dialects: use [`GatewayLayer::router`] to tell them apart.
    pub fn build(self) -> Result<Gateway, BuildError> {
        if let Some(problem) = self.problem() {
            return Err(problem);
        }
        let layer = if self.layer.has_router() { self.layer } else { self.layer.router(self.table.catch_alls_last()) };
        let models = listed(self.models, layer.aliases());
        let surface =
            Surface::new(models, layer.key_info(), Dispatch::new(self.upstreams).translation(self.translation));
        Ok(GatewayService::new(layer.stages(move |request| surface.answer(request), true)))
    }

    /// The first mistake in the configuration.
    fn problem(&self) -> Option<BuildError> {
        if let Some(name) = &self.doubled {
            return Some(BuildError::new(format!("two upstreams have the name `{name}`")));
        }
        if self.upstreams.is_empty() {
            return Some(BuildError::new("no upstream is configured".to_owned()));
        }
        if self.layer.asks_twice() {
            return Some(BuildError::new(ASKS_TWICE.to_owned()));
        }
        if self.is_layered_twice {
            return Some(BuildError::new("`layer` is set twice, and the second would replace the first".to_owned()));
        }
        if self.layer.has_router() {
            let is_unknown =
                "aliases of the builder need its built-in routing, but the layer has a router: give it the aliases";
            return self.has_aliases.then(|| BuildError::new(is_unknown.to_owned()));
        }
        let table = self.table.clone().catch_alls_last();
        table.problem().map(BuildError::new)
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("layer", &self.layer)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}
