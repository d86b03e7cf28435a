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
    /// The name of two upstreams.
    doubled: Option<Arc<str>>,
}

/// Why a gateway cannot be built.
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

    /// Adds an upstream under a name. Unless the stages have a router of their own, models called `claude*` go to the
    /// first Anthropic upstream, and all others to the first that speaks Chat Completions.
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

    /// Serves `name` by these models, in this order: by the next where the upstream of the one before could not be reached, so
    /// that nothing was sent, or where what is asked for cannot be said in its dialect. What was sent is never sent again. For
    /// the built-in routing only.
    #[must_use]
    pub fn alias<M: Into<Arc<str>>>(mut self, name: impl Into<Arc<str>>, models: impl IntoIterator<Item = M>) -> Self {
        self.table = self.table.alias(name, models);
        self
    }

    /// The models that `GET /v1/models` lists, in this order. Behind them it lists the aliases of the router, and to each
    /// caller its own.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = Model>) -> Self {
        self.models.extend(models);
        self
    }

    /// How calls are translated whose target does not speak the client's dialect.
    #[must_use]
    pub fn translation(mut self, translation: Translation) -> Self {
        self.translation = translation;
        self
    }

    /// The stages, with your gates, observers and rewriters.
    #[must_use]
    pub fn layer(mut self, layer: GatewayLayer) -> Self {
        self.layer = layer;
        self
    }

    /// The gateway, if all that was said of it can be so.
    ///
    /// # Errors
    /// An upstream that is named twice, or none at all; a layer with both ways to ask for limits and budgets; and with the built-in routing an upstream that no model comes to, and
    /// an alias that stands for no model, or for one that no upstream serves.
    pub fn try_build(self) -> Result<Gateway, BuildError> {
        match self.problem() {
            None => Ok(self.build()),
            Some(problem) => Err(problem),
        }
    }

    /// The first thing that cannot have been meant.
    fn problem(&self) -> Option<BuildError> {
        if let Some(name) = &self.doubled {
            return Some(BuildError::new(format!("two upstreams are called `{name}`")));
        }
        if self.upstreams.is_empty() {
            return Some(BuildError::new("there is no upstream".to_owned()));
        }
        if self.layer.asks_twice() {
            return Some(BuildError::new(ASKS_TWICE.to_owned()));
        }
        if self.layer.has_router() {
            return None;
        }
        let table = self.table.clone().catch_alls_last();
        table.problem().map(BuildError::new)
    }

    /// The gateway. What cannot have been meant is logged: [`try_build`](Self::try_build) refuses it.
    #[must_use]
    pub fn build(self) -> Gateway {
        if let Some(problem) = self.problem() {
            tracing::error!(%problem, "a gateway is not what it was meant to be");
        }
        let layer = if self.layer.has_router() { self.layer } else { self.layer.router(self.table.catch_alls_last()) };
        let models = listed(self.models, layer.aliases());
        let surface =
            Surface::new(models, layer.key_info(), Dispatch::new(self.upstreams).translation(self.translation));
        GatewayService::new(layer.stages(move |request| surface.answer(request), true))
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
