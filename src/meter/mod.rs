//! Reads usage from answers as they pass, without changing or delaying them. The only exception is the usage chunk that
//! [`Call::ask_for_usage`](crate::Call::ask_for_usage) has asked for, which is removed.
//!
//! Use it around an upstream client of your own, below [`Dispatch`](crate::gateway::Dispatch).
//!
//! - **Reads:** the call's target, for the upstream's dialect; without a target, it assumes the client's.
//! - **Adds:** one attempt to the call, with its usage and its end. The call stays open until the answer's last byte.
//! - **Answers** nothing itself.
//! - **Where:** nearest the upstream, one around each. If meters are nested, the innermost counts.
//!
//! A JSON answer is also kept in memory until its end, up to 32 MiB, since its usage comes last. Of a stream, only an
//! unfinished event is kept. A gzip answer is decoded in a copy.
//!
//! ```
//! use tollgate::meter::MeterLayer;
//! use tower::Layer;
//! # let my_client = tower::service_fn(|_: http::Request<tollgate::Body>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(tollgate::Body::empty()))
//! # });
//! let metered = MeterLayer::new().layer(my_client);
//! ```

mod body;
mod future;
mod layer;
mod service;
mod stream;
mod tap;

pub use self::future::MeterFuture;
pub use self::layer::MeterLayer;
pub use self::service::Meter;
