use std::sync::Arc;

use tower::Layer;

use super::{Translate, Translation};
use crate::call::CallService;
use crate::domain::dialect::Dialect;
use crate::ingest::IngestLayer;

/// Lets clients of either dialect call a service that speaks one. See the [module](crate::translate).
#[derive(Debug, Clone)]
pub struct TranslateLayer {
    pub(super) upstream: Dialect,
    pub(super) model: Option<Arc<str>>,
    pub(super) translation: Translation,
    pub(super) ingest: IngestLayer,
}

impl TranslateLayer {
    /// In front of a service that speaks `upstream`. Calls in that dialect pass untouched, but for the model, where another is
    /// chosen.
    #[must_use]
    pub fn new(upstream: Dialect) -> Self {
        TranslateLayer { upstream, model: None, translation: Translation::new(), ingest: IngestLayer::new() }
    }

    /// Asks for this model, whichever the client named, and in whichever dialect. Unless set, for the one that a route with one
    /// target names, or else the client.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Translates so.
    #[must_use]
    pub fn translation(mut self, translation: Translation) -> Self {
        self.translation = translation;
        self
    }

    /// Reads bodies as `ingest` says, where no `IngestLayer` further out has.
    #[must_use]
    pub fn ingest(mut self, ingest: IngestLayer) -> Self {
        self.ingest = ingest;
        self
    }
}

impl<S> Layer<S> for TranslateLayer {
    type Service = CallService<Translate<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(Translate::new(inner, self.clone()))
    }
}
