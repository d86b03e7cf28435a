//! The whole house: the stages in the one right order, in front of your own service or of upstreams.
//!
//! Reach for [`Gateway`] to serve clients from upstreams, and for [`GatewayLayer`] when the service behind is your own.
//!
//! - **Reads** what its stages read. **Adds** what they add.
//! - **Answers** what they answer; a [`Gateway`] also lists models and gives unknown paths a 404 in their prefix's
//!   dialect.
//! - **Where:** outermost, but for what must see strangers' requests first (your tracing, your timeouts).
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
//! let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build();
//! # }
//! # Ok::<(), tollgate::upstream::ProviderError>(())
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
