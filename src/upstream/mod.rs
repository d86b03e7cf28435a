//! Sends calls to model providers over HTTP.
//!
//! A [`Provider`] has the base URL, the credential and the timeouts. The HTTP client below it is any tower service:
//! [`HttpClient`] (feature `upstream`), your own, or a test double. The next target is tried only after an error that
//! proves that nothing was sent. That is an error which has one of these among its sources: a refused connection,
//! [`NotSent`], or, with the feature `upstream`, a failed connect of hyper-util's client, or a server that refused an
//! HTTP/2 stream without processing it.
//!
//! - **Reads:** the request made by the dispatch. **Removes** the client's credentials, cookies, hop-by-hop and
//!   forwarding headers, and adds the credential last.
//! - **Answers** 502 or 504 if the provider cannot be reached or takes too long. 500 if the provider rejects *our*
//!   credential. 502 if the answer is a redirect, has a status outside of 200 to 599, or is a success with an HTML
//!   page. An HTML error is replaced, and keeps only its status.
//! - **Passes** every other answer with its status and bytes. gzip is decoded if the client does not accept it, and in
//!   errors, in which our credential is covered.
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
pub use self::unreachable::NotSent;
