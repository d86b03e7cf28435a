//! Authenticates calls: checks the virtual key that a client presents, and finds the principal behind it.
//!
//! Use it if your service does not identify its users itself. If it does, put an `Arc<Principal>` into the request's
//! extensions further out. You may then keep this layer or leave it out: it accepts a principal that is already there.
//!
//! - **Reads:** `authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key`, and of several the first that has
//!   the form of our keys. Anything else is refused without asking the store.
//! - **Adds:** the [`Principal`](crate::domain::principal::Principal) to the call, and as an `Arc<Principal>` to the
//!   request's extensions, where your own handlers and middleware find it. **Removes** these four headers once it has
//!   accepted a key, so that the secret reaches no log and no provider.
//! - **Answers** 401 without a key, and with one that is unknown, disabled or expired, with `x-should-retry: false`.
//!   For a model that the key may not use: 400 in Anthropic's dialect, 404 `model_not_found` in OpenAI's.
//! - **Fails closed:** if the store cannot answer, 529, or 429 for OpenAI's clients.
//! - **Where:** outside of `IngestLayer`, so that no body is read for unauthenticated callers.
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
