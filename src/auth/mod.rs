//! Authenticates calls: checks the virtual key that a client presents, and finds the principal behind it.
//!
//! Use it if your service does not identify its users itself. If it does, put a `Principal` into the request's
//! extensions further out. You may then keep this layer or leave it out: it accepts a principal that is already there.
//! A key in the same request is then not looked at, whatever it is.
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
//!
//! # Callers whom your service knows
//!
//! Where your own sign-on takes the place of keys, leave this layer out, and set
//! [`GatewayLayer::require_principal`](crate::GatewayLayer::require_principal). It lets the callers pass whom your service
//! has named, and answers all others with a 401 in their dialect, which is recorded. Without it, a stack with limits or
//! budgets answers a call without a principal with a 500, as misconfigured, and lists its models to anyone. A stack that
//! has neither is open.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))] {
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use axum::extract::Request;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::Response;
//! use tollgate::domain::principal::Principal;
//! use tollgate::store::memory::MemoryBudgets;
//! use tollgate::{BudgetLayer, Gateway, GatewayLayer};
//!
//! # fn user_of_session(_: &http::HeaderMap) -> Option<String> { None }
//! /// Names the caller, and refuses nobody.
//! async fn signed_in(mut request: Request, next: Next) -> Response {
//!     // A name must be unique and stay the same: budgets are counted under it.
//!     if let Some(user) = user_of_session(request.headers()) {
//!         request.extensions_mut().insert(Arc::new(Principal::new(user)));
//!     }
//!     next.run(request).await
//! }
//!
//! fn only_signed_in() -> GatewayLayer {
//!     GatewayLayer::new().require_principal().budget(BudgetLayer::new(MemoryBudgets::new()))
//! }
//!
//! /// `gateway` was built with the layer above.
//! fn mount(gateway: Gateway) -> Router {
//!     let governed = Router::new().fallback_service(gateway).layer(from_fn(signed_in));
//!     Router::new().nest_service("/llm", governed)
//! }
//! # }
//! ```

mod gate;
mod layer;

pub use self::gate::KeyAuthGate;
pub use self::layer::KeyAuthLayer;
