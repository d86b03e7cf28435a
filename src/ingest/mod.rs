//! Reads the request's body: once, bounded, into one piece of memory, and indexes its head in one scan.
//!
//! Reach for it when you stack layers by hand; [`GatewayLayer`](crate::GatewayLayer) has it inside.
//!
//! - **Reads:** the body of a `POST` to a generation or a token count; anything else passes unread.
//! - **Adds:** the [`Head`], and hands on a body that is one `Bytes`.
//! - **Answers** in the client's dialect: 400 for what is no JSON object or says a governed member twice, 405 for another
//!   method, 413 beyond the size of one body, 429 with `retry-after: 1` beyond the bytes held over all calls, or those that
//!   are one caller's share.
//! - **Where:** inside authentication, so that nothing is read for strangers, and outside of everything that asks for the model.
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
