use async_trait::async_trait;
use bytes::Bytes;

use crate::call::Call;

/// Counts the input tokens of requests, with a tokenizer or the provider's own endpoint.
///
/// ```
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use tollgate::Call;
/// use tollgate::ingest::{IngestLayer, TokenCounter};
///
/// struct Tokenizer;
///
/// #[async_trait]
/// impl TokenCounter for Tokenizer {
///     async fn count(&self, call: &Call, body: &Bytes) -> Option<u64> {
///         // Only one family is known here.
///         call.model()?.starts_with("gpt-").then(|| tokens(body))
///     }
/// }
/// # fn tokens(body: &Bytes) -> u64 { body.len() as u64 / 4 }
/// let ingest = IngestLayer::new().count_by(Tokenizer);
/// ```
#[async_trait]
pub trait TokenCounter: Send + Sync + 'static {
    /// Returns the input tokens of this request: its text, tools, images and documents. Prompts that the provider adds
    /// itself may be left out. If this returns `None`, tokens are estimated from the bytes.
    ///
    /// Called once for each call that generates, before limits and budgets. The call waits for it, so an implementation
    /// that asks over a network must set a time limit.
    async fn count(&self, call: &Call, body: &Bytes) -> Option<u64>;
}
