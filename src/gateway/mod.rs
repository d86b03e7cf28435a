//! The complete stack, in the correct order, in front of your own service or of upstreams.
//!
//! Use [`Gateway`] to serve clients from upstreams, and [`GatewayLayer`] when the inner service is your own.
//!
//! - **Reads** and **adds** what its stages read and add.
//! - **Answers** what they answer. A [`Gateway`] also lists models, and answers unknown paths with a 404 in the dialect
//!   of the path's prefix.
//! - **Where:** outermost, except for what must see every request first (your tracing, your timeouts).
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use tollgate::testing::Simulated;
//! use tollgate::upstream::{Credential, Provider};
//! use tollgate::{Dialect, Gateway};
//!
//! let provider = Provider::with_client(
//!     Dialect::Anthropic,
//!     "https://api.anthropic.com",
//!     Credential::x_api_key("sk-ant-…")?,
//!     Simulated::new(), // your HTTP client, or `Provider::anthropic(key)` for ours
//! )?;
//! let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build()?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod builder;
mod controls;
mod dispatch;
mod key_info;
mod layer;
mod models;
mod service;
mod stage;
mod surface;
mod usage;
mod wire;

pub use self::builder::{BuildError, GatewayBuilder};
pub use self::dispatch::{Dispatch, Upstreams};
pub use self::layer::GatewayLayer;
pub use self::models::Model;
pub use self::service::{Gateway, GatewayService};
