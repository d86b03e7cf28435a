//! A call in one dialect, answered by an upstream that speaks another.
//!
//! Reach for [`TranslateLayer`] in front of a service that speaks one dialect, so that clients of the other can call it.
//! [`Gateway`](crate::Gateway) translates by itself wherever a target does not speak the client's dialect; there
//! [`Translation`] says how.
//!
//! - **Reads:** the body; in front of a service of your own it reads it itself. **Adds:** what was lost, for the outcome and
//!   `x-tollgate-warnings`, and the target, so that a meter within reads the upstream's dialect.
//! - **Answers:** what cannot be said in the other dialect with a 400 that names the field; `count_tokens`, which OpenAI
//!   has not, with an estimate that says so.
//! - **Where:** nearest the upstream, with `MeterLayer` alone within, behind a `GatewayLayer` too: what that meters by itself is
//!   what the client is told, under the name that the client asked for, and by its price. It changes the path of a request: it goes
//!   around an axum `Router` (`fallback_service(layer.layer(router))`), whose own `layer` comes when that has been chosen by.
//!
//! The head of a streamed answer waits for the upstream's first event, at most ten seconds: what fails at once is an HTTP
//! error, what fails later an error within the stream. While the upstream is silent, the client hears a ping every now and
//! then. A server may answer in JSON or in a stream, whichever was asked for: the client gets what it wanted.
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

/// How calls are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Translation {
    mode: Mode,
    version: AnthropicVersion,
    server_tools: bool,
    drops_stale_thinking: bool,
}

impl Translation {
    /// In [`Mode::Compat`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of what the other API cannot say.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether nobody is told of what is lost.
    pub(crate) fn is_silent(self) -> bool {
        self.mode == Mode::Silent
    }

    /// The version of Anthropic's API that requests are translated to. Clients of Anthropic's own name theirs themselves.
    #[must_use]
    pub fn anthropic_version(mut self, version: AnthropicVersion) -> Self {
        self.version = version;
        self
    }

    /// Whether providers may run tools of their own for clients of another API: Anthropic searches the web for who sends
    /// `web_search_options`. A model that pauses while it does is asked to go on, as another attempt. On a key with a budget
    /// it is refused: nothing bounds what a search brings to read.
    #[must_use]
    pub fn server_tools(mut self, allowed: bool) -> Self {
        self.server_tools = allowed;
        self
    }

    /// Whether thinking that no longer fits the history before it is left out by Anthropic (a beta of its own API alone),
    /// which else refuses a request of a client that has edited its history. Of Anthropic's own clients nothing changes.
    #[must_use]
    pub fn drops_stale_thinking(mut self, drops: bool) -> Self {
        self.drops_stale_thinking = drops;
        self
    }
}
