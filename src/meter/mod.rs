//! Reads usage off answers as they pass, without changing a byte and without delaying one; but the usage chunk that
//! [`Call::ask_for_usage`](crate::Call::ask_for_usage) asked for is ours, and goes no further.
//!
//! Reach for it around an upstream client of your own, below [`Dispatch`](crate::gateway::Dispatch).
//!
//! - **Reads:** the call's target, for the upstream's dialect; the client's where there is none.
//! - **Adds:** one attempt to the call, with its usage and its end; the call stays open until the answer's last byte.
//! - **Answers** nothing by itself.
//! - **Where:** nearest the upstream, one around each. Of one within another the innermost counts.
//!
//! JSON answers are kept until their end, up to 32 MiB, since usage stands last; of a stream only an unfinished event is.
//! A gzip answer is decoded in a copy.
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
