use std::sync::Arc;

use tower::Layer;

use super::{Translate, Translation};
use crate::call::CallService;
use crate::domain::dialect::Dialect;
use crate::ingest::IngestLayer;

/// Lets clients of either dialect call a service that speaks one of them. See the [module](crate::translate).
#[derive(Debug, Clone)]
pub struct TranslateLayer {
    pub(super) upstream: Dialect,
    pub(super) model: Option<Arc<str>>,
    pub(super) translation: Translation,
    pub(super) ingest: IngestLayer,
}

impl TranslateLayer {
    /// Creates a layer in front of a service that speaks `upstream`. Calls in that dialect pass untouched, except for
    /// the model if another one is chosen.
    #[must_use]
    pub fn new(upstream: Dialect) -> Self {
        TranslateLayer { upstream, model: None, translation: Translation::new(), ingest: IngestLayer::new() }
    }

    /// Sets the model to ask for, whatever model the client named, in either dialect. By default, it is the model of a
    /// route with a single target, or else the client's model.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets how requests and answers are translated.
    #[must_use]
    pub fn translation(mut self, translation: Translation) -> Self {
        self.translation = translation;
        self
    }

    /// Sets how bodies are read, if no `IngestLayer` further out has read them.
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
