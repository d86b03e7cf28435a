//! Keeps the content of prompts and answers, if asked to: in full, redacted, or only as a hash.
//!
//! It is off by default: a stack without a [`ContentLayer`] records nothing of what bodies contain. A layer keeps what
//! it is told to: for every call ([`ContentLayer::keep`]), for a key
//! ([`Principal::content`](crate::domain::principal::Principal::content)), or for one call
//! ([`Call::keep_content`](crate::Call::keep_content), in a gate of yours).
//!
//! - **Reads:** the request as the client sent it, and the answer as the client gets it; changes neither. Requests that
//!   are refused before this layer, and the gateway's own errors, are not kept.
//! - **Where:** inside of Ingest and of authentication, outside of Rewrite and Dispatch. On routes of axum, in one
//!   `ServiceBuilder` with Ingest: between two calls of `route_layer`, axum turns the body into its own.
//! - **Answers** 500 if the body was not read before.
//!
//! A request is queued at once, and an answer when it has ended. A task sends them to the
//! [`ContentSink`](crate::store::content::ContentSink); no call waits for it. If the sink stalls and the queue has no
//! room, a body is not kept, and counted as dropped. Losing content never loses a record, and never refuses a call.
//!
//! - **Proof.** With [`sealed_by`](ContentLayer::sealed_by), the journal gets a line about each body before the sink
//!   gets the body: its length, and a salted hash of what is kept. The salt is kept only with the body. A change of the
//!   body is detected by [`Seals`](crate::store::journal::Seals). After the body is deleted, the chain still holds, and
//!   reveals nothing about it.
//! - **Retention.** [`ContentLayer::retain`] deletes older content, and records that in the journal.
//! - **Redaction.** By a [`Redactor`]: `Patterns` (feature `redact`), or your own. It covers every string of the JSON,
//!   including documents within texts, and every number with eight or more digits before its point. What a telling name
//!   stands above or beside is hidden ([`Redactor::hides`]). Images and documents are left out, and so is `logprobs`,
//!   which repeats the text. A stream is assembled before, since a match may be split over events. What cannot be read
//!   is not kept.
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
mod names;
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
