//! Translates requests of one API into requests of another, and translates the answers back: whole, streamed, or
//! errors.
//!
//! [`TranslateLayer`](crate::TranslateLayer) and the gateway do all of this for you; use the module if you cannot use a
//! layer. It has functions and state machines without I/O: bytes in, bytes out, however the chunks are cut. All
//! dialects meet in one canonical model, and each has a reader and a writer. An upstream's failure stays a failure, in
//! the format of the client's API. What the other side cannot express is reported or refused.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::dialect::translate::{self, Asked};
//!
//! let chat = br#"{"model":"smart","seed":7,"messages":[{"role":"user","content":"Hello"}]}"#;
//! let asked = Asked::new("claude-opus-5-5").max_output(64_000);
//! let translated = translate::request(chat, Dialect::OpenAiChat, Dialect::Anthropic, &asked)?;
//! let messages = String::from_utf8_lossy(&translated.body);
//! assert!(messages.contains(r#""messages":[{"role":"user","content":[{"type":"text","text":"Hello"}]}]"#));
//! assert_eq!(translated.warnings.as_deref(), Some("dropped=seed"));
//! # Ok::<(), tollgate::Rejection>(())
//! ```
//!
//! A stream, event by event:
//!
//! ```
//! use bytes::BytesMut;
//! use tollgate::Dialect;
//! use tollgate::dialect::translate::{Reply, StreamTranslator};
//!
//! let chat = concat!(
//!     "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n",
//!     "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
//!     "data: [DONE]\n\n",
//! );
//! let reply = Reply::new("claude-haiku-5-5", "req-1");
//! let mut translator = StreamTranslator::new(Dialect::OpenAiChat, Dialect::Anthropic, &reply).expect("two dialects");
//! let mut out = BytesMut::new();
//! translator.push(chat.as_bytes(), &mut out);
//! translator.finish(&mut out);
//! let messages = String::from_utf8_lossy(&out);
//! assert!(messages.contains(r#""delta":{"type":"text_delta","text":"Hello"}"#));
//! assert!(messages.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
//! ```

mod answer;
mod error;
mod fit;
mod gather;
mod request;
mod stream;

pub use self::answer::{answer, answer_as_stream};
pub use self::error::error;
pub use self::request::{AnthropicVersion, Asked, Mode, Translated, request};
pub use self::stream::StreamTranslator;

pub(crate) use self::answer::{try_answer, try_answer_as_stream};
pub(crate) use self::error::{ByStatus, OutOfTokens, fault, of_fault};
pub(crate) use self::gather::gathered;

use super::canon::needs::Needs;
use crate::domain::dialect::Dialect;

/// Whether requests of `client` can be sent to a server that speaks `upstream`, translated if necessary.
#[must_use]
pub fn is_possible(client: Dialect, upstream: Dialect) -> bool {
    // Responses is passed on unchanged, and not translated yet.
    client == upstream || (client != Dialect::OpenAiResponses && upstream != Dialect::OpenAiResponses)
}

/// What an answer repeats of its call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The model, as the client named it.
    pub model: String,
    /// The id of the call, which errors include.
    pub request_id: String,
    /// When the answer began, in seconds of Unix time. Every chunk of Chat Completions has it.
    pub created: i64,
    /// Whether a Chat Completions client asked for the usage chunk.
    pub include_usage: bool,
    /// How the answer must be adapted, as [`request`] found out.
    pub(crate) needs: Needs,
}

impl Reply {
    /// For an answer to a request for `model`, begun at the Unix epoch, without a usage chunk.
    #[must_use]
    pub fn new(model: impl Into<String>, request_id: impl Into<String>) -> Self {
        Reply {
            model: model.into(),
            request_id: request_id.into(),
            created: 0,
            include_usage: false,
            needs: Needs::default(),
        }
    }

    /// Sets when the answer began, in seconds of Unix time.
    #[must_use]
    pub fn created(mut self, seconds: i64) -> Self {
        self.created = seconds;
        self
    }

    /// Sets whether a Chat Completions client asked for the usage chunk.
    #[must_use]
    pub fn include_usage(mut self, asked: bool) -> Self {
        self.include_usage = asked;
        self
    }
}
