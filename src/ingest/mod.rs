//! Reads the request's body once, with size limits, into one contiguous buffer, and indexes its head in one scan.
//!
//! Use it when you stack layers by hand; [`GatewayLayer`](crate::GatewayLayer) contains it.
//!
//! - **Reads:** the body of a `POST` to a generation or token count endpoint. Other requests pass unread.
//! - **Adds:** the [`Head`], and passes on the body as one `Bytes`.
//! - **Answers** in the client's dialect:
//!   - 400 for a body that is no JSON object, or that has a governed member twice.
//!   - 405 for another method, 408 if the client pauses for too long, and 413 for a body above the size limit.
//!   - 429 with `retry-after: 1` if the bodies of all calls, or those of this caller, use too much memory.
//! - **Where:** inside of authentication, so that no body is read for unauthenticated callers, and outside of
//!   everything that needs the model.
//!
//! ```
//! use tollgate::ingest::IngestLayer;
//! let default = IngestLayer::new();
//! let small = IngestLayer::new().max_body(1 << 20).max_in_memory(64 << 20);
//! ```

mod count;
mod layer;
mod read;
mod service;

pub use self::count::TokenCounter;
pub use self::layer::IngestLayer;
pub use self::service::Ingest;

pub use crate::dialect::head::Head;
