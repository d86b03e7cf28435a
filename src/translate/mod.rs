//! Translates a call in one dialect for an upstream that speaks another one.
//!
//! Use [`TranslateLayer`] in front of a service that speaks one dialect, so that clients of the other one can call it.
//! [`Gateway`](crate::Gateway) translates by itself when a target does not speak the client's dialect; [`Translation`]
//! configures how.
//!
//! - **Reads:** the body; in front of a service of your own, it reads the body itself. **Adds:** what was lost, for the
//!   outcome and `x-tollgate-warnings`; and the target, so that a meter within reads the upstream's dialect.
//! - **Answers:** 400 with the name of the field, for what the other dialect cannot express. `count_tokens`, which
//!   OpenAI's API does not have, is answered with an estimate that is marked as one.
//! - **Where:** nearest the upstream, with only `MeterLayer` inside. That is also true behind a `GatewayLayer`, whose
//!   own meter sees the answer as the client does: with the model name that the client asked for, and priced by that
//!   name. The layer changes the path of a request. So put it around an axum `Router`
//!   (`fallback_service(layer.layer(router))`): the router's own `layer` runs after the path has been matched.
//!
//! The head of a streamed answer waits for the upstream's first event, at most ten seconds. An early failure is thus an
//! HTTP error, and a later one is an error within the stream. While the upstream is silent, the client gets a ping from
//! time to time. A server may answer in JSON or in a stream, whichever was asked for; the client gets what it asked
//! for.
//!
//! ```
//! use tollgate::translate::{TranslateLayer, Translation};
//! use tollgate::{Dialect, MeterLayer};
//! use tower::{Layer, service_fn};
//! # use http::{Request, Response};
//! # use tollgate::Body;
//! # let server = service_fn(|_request: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
//! // Clients of Anthropic, on a server that speaks Chat Completions.
//! let service = TranslateLayer::new(Dialect::OpenAiChat).model("llama-4").layer(MeterLayer::new().layer(server));
//! ```

mod answer;
mod body;
mod layer;
mod request;
mod service;

pub use self::layer::TranslateLayer;
pub use self::service::Translate;

pub(crate) use self::request::{Outbound, Passage};

use crate::dialect::translate::{AnthropicVersion, Mode};

/// Configures the translation of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Translation {
    mode: Mode,
    version: AnthropicVersion,
    server_tools: bool,
    drops_stale_thinking: bool,
}

impl Translation {
    /// Creates a translation in [`Mode::Compat`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what happens to what the other API cannot express.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether losses are not reported.
    pub(crate) fn is_silent(self) -> bool {
        self.mode == Mode::Silent
    }

    /// Sets the version of Anthropic's API for translated requests. Clients of Anthropic's API name their version
    /// themselves.
    #[must_use]
    pub fn anthropic_version(mut self, version: AnthropicVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets whether providers may run their own tools for clients of another API: Anthropic then searches the web if a
    /// client sends `web_search_options`.
    ///
    /// If the model pauses meanwhile, it is asked to continue, as another attempt. With a key that has a budget, the
    /// tool is refused: the cost of what a search reads has no bound.
    #[must_use]
    pub fn server_tools(mut self, allowed: bool) -> Self {
        self.server_tools = allowed;
        self
    }

    /// Sets whether Anthropic drops thinking that no longer fits the history before it. This is a beta of Anthropic's
    /// own API.
    ///
    /// Otherwise it rejects a request whose client has edited the history. Nothing changes for clients of Anthropic's
    /// API.
    #[must_use]
    pub fn drops_stale_thinking(mut self, drops: bool) -> Self {
        self.drops_stale_thinking = drops;
        self
    }
}
