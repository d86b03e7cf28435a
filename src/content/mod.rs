//! Keeps what prompts and answers hold, where somebody has asked for it: whole, redacted, or only as a hash.
//!
//! Off unless it is asked for: a stack without a [`ContentLayer`] records nothing of what bodies hold, and a layer keeps what
//! it is told to, for every call ([`ContentLayer::keep`]), for a key
//! ([`Principal::content`](crate::domain::principal::Principal::content)), or for one call
//! ([`Call::keep_content`](crate::Call::keep_content), in a gate of yours).
//!
//! - **Reads:** the request as the client sent it and the answer as it was handed; changes neither. What is refused before it
//!   reaches this layer is not kept, nor an error of the gateway's own.
//! - **Where:** inside of Ingest and of what says who calls, outside of Rewrite and Dispatch.
//! - **Answers** 500 where the body was not read before.
//!
//! A body goes into a queue when it has come to its end, a request at once, and by a task to the
//! [`ContentSink`](crate::store::content::ContentSink); no call waits for it. What the queue has no room for, because its sink
//! stalls, is not kept, and counted: losing content never loses a record, and never refuses a call.
//!
//! - **Proof.** With [`sealed_by`](ContentLayer::sealed_by), the journal has a line of each body before the sink has it: how long
//!   it was, and a hash of what is kept under a salt that is kept with it, and nowhere else. Whoever changes it is found out by
//!   [`Seals`](crate::store::journal::Seals), and when it is deleted the chain still holds, and tells nothing of it.
//! - **Retention.** [`ContentLayer::retain`] deletes what is older, and has the journal say so.
//! - **Redaction.** By a [`Redactor`]: `Patterns` (feature `redact`), or your own. Every string and number of the JSON is
//!   redacted, documents within texts too; images and documents are left out, and `logprobs`, which say all once more. A stream is
//!   put together before: what is to be found may be split over events. What cannot be read is not kept.
//!
//! ```
//! # #[cfg(all(feature = "sqlite", feature = "redact"))] {
//! # async fn of() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tollgate::content::{ContentLayer, Patterns};
//! use tollgate::domain::content::Keep;
//! use tollgate::store::sqlite::Sqlite;
//! use tollgate::GatewayLayer;
//!
//! // A file of its own, so that no ledger waits for it.
//! let sqlite = Sqlite::open("content.db").await?;
//! sqlite.migrate().await?;
//! let content = ContentLayer::new(sqlite.contents())
//!     .redact_by(Patterns::common())
//!     .keep(Keep::Redacted)
//!     .retain(Duration::from_secs(30 * 86_400));
//! let layer = GatewayLayer::new().content(&content);
//! // … and before the process ends:
//! content.flush().await;
//! # drop(layer); Ok(()) } }
//! ```

mod body;
#[cfg(feature = "redact")]
mod checked;
mod data;
mod document;
mod future;
mod horizon;
mod layer;
#[cfg(feature = "redact")]
mod patterns;
mod prepare;
mod prose;
mod queue;
mod redact;
mod service;
mod task;

pub use self::future::ContentFuture;
pub use self::layer::ContentLayer;
#[cfg(feature = "redact")]
pub use self::patterns::{NotAPattern, Patterns};
pub use self::redact::Redactor;
pub use self::service::ContentService;
