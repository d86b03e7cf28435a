//! Who calls: the virtual key that a client presents, and the principal behind it.
//!
//! Reach for it when your service does not know its users by itself. Where it does, put an `Arc<Principal>` into the
//! request's extensions further out, and leave this layer out, or in: a principal that is there already is believed.
//!
//! - **Reads:** `authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key`; of several the first that is shaped
//!   as a key of ours. What is no such key is refused without asking the store.
//! - **Adds:** the [`Principal`](crate::domain::principal::Principal). **Takes away**, where it has asked for a key:
//!   those four headers, so that the secret goes no further, into no log and to no provider.
//! - **Answers** 401 without a key and with one that is unknown, disabled or has expired, with `x-should-retry: false`;
//!   a model that the key may not use: 400 in Anthropic's dialect, 404 `model_not_found` in OpenAI's. A store that
//!   cannot tell: 529, 429 for OpenAI's clients, never a way in.
//! - **Where:** outside of `IngestLayer`, so that nothing is read for strangers.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::auth::KeyAuthLayer;
//! use tollgate::domain::key::Pepper;
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::memory::MemoryKeys;
//!
//! let pepper = Pepper::new(b"32 random bytes from your vault.")?;
//! let layer = KeyAuthLayer::new(CachedKeys::new(MemoryKeys::new()), pepper);
//! # }
//! # Ok::<(), tollgate::domain::key::KeyError>(())
//! ```

mod gate;
mod layer;

pub use self::gate::KeyAuthGate;
pub use self::layer::KeyAuthLayer;
