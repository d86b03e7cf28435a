//! Tower layers that put an LLM gateway inside your own [axum](https://docs.rs/axum) or [hyper](https://docs.rs/hyper)
//! service.
//!
//! A separate proxy in front of a model provider is one more thing to deploy, patch and be paged for. tollgate is a
//! library instead: you stack the layers you want in the service you already run, and unmodified clients (the OpenAI
//! and Anthropic SDKs, Claude Code, curl) talk to that service.
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
//!     .build()?;
//! # fn serve<S: Clone>(_: S) {}
//! serve(gateway); // a `tower::Service`: give it to axum's `fallback_service`, or to hyper
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! - [`GatewayLayer`] and [`Gateway`]: the complete stack, in the correct order. [`docs::ordering`] explains that
//!   order.
//! - [`gate`]: write your own admission rule in about ten lines. [`rewrite`]: change streamed answers. [`upstream`]:
//!   where calls are sent.
//! - [`audit`], [`store::journal`]: records that survive a crash. [`telemetry`]: spans and metrics.
//! - [`content`]: keep the text of prompts and answers, where you ask for it.
//! - [`call`]: what every layer knows about a call, and how a call closes. [`domain`]: the basic types. [`dialect`],
//!   [`wire`]: the formats and the bytes.
//! - [`docs::promises`]: what is guaranteed, and the test that proves it. [`docs::limits`]: the limits of these
//!   guarantees. [`docs::design`]: how the crate is built.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `memory` (default) | keys, budgets and limits in memory: [`store::memory`] |
//! | `upstream` | `HttpClient`: hyper's pool over rustls (ring, webpki-roots), and `Provider::anthropic`, `Provider::openai` |
//! | `sqlite` | keys, budgets, limits and audit records in one SQLite file, through `sqlx` |
//! | `axum` | [`Call`] as an extractor, and [`Rejection`] as a handler's response |
//! | `redact` | [`content::Patterns`]: removes e-mail addresses, card numbers and secrets from kept bodies, through `regex` |
//! | `metrics` | [`telemetry::Metrics`]: counters and histograms through the `metrics` facade |
//! | `testing` | a simulated provider, with a bill of every token that it produces |
//! | `conformance` | [`store::conformance`]: the test suite that every store passes, for stores of your own |
//! | `full` | all of these features |
//!
//! Features are additive: none changes the behavior of another.

#![cfg_attr(docsrs, feature(doc_cfg))]

/// Compiles the README's examples as doctests.
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
