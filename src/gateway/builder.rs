use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::models::Model;
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
}

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
        let pattern = if dialect == Dialect::Anthropic { "claude*" } else { "*" };
        self.table = self.table.pattern(pattern, name.clone(), dialect);
        self.upstreams = self.upstreams.add(name, service);
        self
    }

    /// Serves `name` by these models, the first that answers. For the built-in routing only.
    #[must_use]
    pub fn alias<M: Into<Arc<str>>>(mut self, name: impl Into<Arc<str>>, models: impl IntoIterator<Item = M>) -> Self {
        self.table = self.table.alias(name, models);
        self
    }

    /// The models that `GET /v1/models` lists.
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

    /// The gateway.
    #[must_use]
    pub fn build(self) -> Gateway {
        let layer = if self.layer.has_router() { self.layer } else { self.layer.router(self.table.catch_alls_last()) };
        let surface =
            Surface::new(self.models, layer.key_info(), Dispatch::new(self.upstreams).translation(self.translation));
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
