//! Providers: what turns a call of ours into a request of theirs.
//!
//! Reach for [`Provider`] to send calls over HTTP. It owns the base URL, the credential and the timeouts; the HTTP client
//! beneath it is any tower service: [`HttpClient`] (feature `upstream`), one of your own, or a test double.
//!
//! - **Reads:** the request that dispatch made. **Strips** the client's credentials, cookies, hop-by-hop and forwarding
//!   headers; **injects** the credential last.
//! - **Answers** 502 and 504 where the provider cannot be reached or takes too long, 500 where it refuses *our*
//!   credential, 502 where an answer that should be good is HTML; an error that is HTML keeps its status alone. All else
//!   passes with its status and bytes.
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use std::time::Duration;
//! use tollgate::Dialect;
//! use tollgate::testing::Simulated;
//! use tollgate::upstream::{Credential, Provider};
//!
//! let provider = Provider::with_client(
//!     Dialect::OpenAiChat,
//!     "https://llm.example.com/openai",
//!     Credential::bearer("sk-…")?,
//!     Simulated::new(),
//! )?
//! .first_byte_timeout(Duration::from_secs(120));
//! # }
//! # Ok::<(), tollgate::upstream::ProviderError>(())
//! ```

mod answer;
mod base;
#[cfg(feature = "upstream")]
mod client;
mod credential;
mod error;
mod future;
mod idle;
#[cfg(feature = "upstream")]
mod opening;
#[cfg(feature = "upstream")]
mod pools;
mod provider;
mod request;
mod unreachable;

#[cfg(feature = "upstream")]
pub use self::client::HttpClient;
pub use self::credential::Credential;
pub use self::error::ProviderError;
pub use self::future::ProviderFuture;
#[cfg(feature = "upstream")]
pub use self::pools::{HttpBody, HttpFuture};
pub use self::provider::Provider;
