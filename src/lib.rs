//! An LLM gateway inside your own service: Tower layers for [axum](https://docs.rs/axum) and
//! [hyper](https://docs.rs/hyper).
//!
//! A proxy in front of a model provider is one more thing to deploy, patch and be called about at night. tollgate is a
//! library instead: stack the layers you want in the service you already run, and unmodified clients (the OpenAI and
//! Anthropic SDKs, Claude Code, curl) talk to it.
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use tollgate::testing::Simulated;
//! use tollgate::upstream::Provider;
//! use tollgate::{Dialect, Gateway, GatewayLayer};
//!
//! let provider = Provider::with_client(Dialect::Anthropic, "http://sim.local", None, Simulated::new())?;
//! let gateway = Gateway::builder()
//!     .upstream("anthropic", Dialect::Anthropic, provider)
//!     .layer(GatewayLayer::new().on_close(|outcome| println!("{:?} {:?}", outcome.end, outcome.usage)))
//!     .build();
//! # fn serve<S: Clone>(_: S) {}
//! serve(gateway); // a `tower::Service`: give it to axum's `fallback_service`, or to hyper
//! # }
//! # Ok::<(), tollgate::upstream::ProviderError>(())
//! ```
//!
//! # Where to read on
//!
//! - [`GatewayLayer`] and [`Gateway`]: everything, in the one right order. [`docs::ordering`] says why that order.
//! - [`gate`]: a rule of your own in ten lines. [`rewrite`]: changing streams. [`upstream`]: where calls go.
//! - [`audit`], [`store::journal`]: records that outlive a crash. [`telemetry`]: spans and metrics.
//! - [`content`]: what prompts and answers held, kept where somebody asks for it.
//! - [`call`]: what every layer knows of a call, and how it closes. [`domain`]: the nouns. [`dialect`], [`wire`]: the
//!   bytes.
//! - [`docs::promises`]: what holds, and by which test; [`docs::limits`]: where it ends; [`docs::design`]: how the house is built.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `memory` (default) | keys, budgets and limits in memory: [`store::memory`] |
//! | `upstream` | `HttpClient`: hyper's pool over rustls (ring, webpki-roots), and `Provider::anthropic`, `Provider::openai` |
//! | `sqlite` | keys, budgets, limits and audit records in one SQLite file, through `sqlx` |
//! | `axum` | [`Call`] as an extractor, and a [`Rejection`] as an answer of a handler |
//! | `redact` | [`content::Patterns`]: takes addresses, card numbers and secrets out of what is kept of bodies, through `regex` |
//! | `metrics` | [`telemetry::Metrics`]: counters and histograms through the `metrics` facade |
//! | `testing` | the simulated provider, with a bill of every token that it produced |
//! | `conformance` | the suite that every store passes, for a store of your own: [`store::conformance`] |
//! | `full` | all of them |
//!
//! None changes how another behaves.

#![cfg_attr(docsrs, feature(doc_cfg))]

/// The README's example compiles, or the README lies.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod admission;
pub mod audit;
pub mod auth;
pub mod body;
pub mod budget;
pub mod call;
pub mod content;
pub mod dialect;
pub mod docs;
pub mod domain;
#[cfg(feature = "axum")]
mod extract;
pub mod gate;
pub mod gateway;
pub mod ingest;
pub mod meter;
pub mod rate_limit;
pub mod rewrite;
pub mod route;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod translate;
pub mod upstream;
pub mod wire;

pub use self::admission::AdmissionLayer;
pub use self::audit::AuditLayer;
pub use self::auth::KeyAuthLayer;
pub use self::body::Body;
pub use self::budget::BudgetLayer;
pub use self::call::{Call, CallLayer};
pub use self::content::ContentLayer;
pub use self::domain::dialect::Dialect;
pub use self::domain::rejection::Rejection;
pub use self::gate::{Gate, GateLayer};
pub use self::gateway::{Gateway, GatewayLayer};
pub use self::ingest::IngestLayer;
pub use self::meter::MeterLayer;
pub use self::rate_limit::RateLimitLayer;
pub use self::rewrite::RewriteLayer;
pub use self::route::RouteLayer;
pub use self::translate::TranslateLayer;
