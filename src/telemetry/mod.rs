//! Telemetry: a `tracing` span for each call, and counters and histograms (feature `metrics`).
//!
//! Use it to see what a gateway does without reading its records. It is independent of any SDK: the host provides the
//! subscriber and the recorder. `examples/otel.rs` has a bridge to OpenTelemetry, and `examples/prometheus` an endpoint
//! to scrape and a dashboard for Grafana.
//!
//! - **Reads:** the call when it opens, and the outcome when it closes. **Adds** nothing to either.
//! - **Where:** [`GatewayLayer::on_open`](crate::GatewayLayer::on_open), or
//!   [`CallLayer::on_open`](crate::CallLayer::on_open) of the outermost layer in a stack of single layers.
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `tollgate_calls_in_flight` | gauge | |
//! | `tollgate_calls_total` | counter | `dialect`, `operation`, `model`, `end`, `reason` |
//! | `tollgate_call_seconds` | histogram | `dialect`, `operation`, `model`, `end` |
//! | `tollgate_first_byte_seconds` | histogram | `dialect`, `model` |
//! | `tollgate_overhead_seconds` | histogram | `dialect` |
//! | `tollgate_cost_nanodollars_total` | counter | `upstream`, `model`, optionally `team` |
//! | `tollgate_charged_nanodollars_total` | counter | `model`, `quality`, optionally `team` |
//! | `tollgate_tokens_total` | counter | `upstream`, `model`, `type`, optionally `team` |
//! | `tollgate_attempts_total` | counter | `upstream`, `model`, `end` |
//! | `tollgate_translation_losses_total` | counter | `kind` |
//! | `tollgate_settlements_waiting` | gauge | |
//! | `tollgate_audit_refusing`, `tollgate_audit_places_left` | gauge | |
//! | `tollgate_audit_behind` | gauge | `sink` |
//! | `tollgate_content_dropped_total` | counter | |
//! | `gen_ai.client.operation.duration`, or `gen_ai.client.inference.duration` | histogram, seconds | `gen_ai.operation.name`, `gen_ai.system` or `gen_ai.provider.name`, `gen_ai.request.model`, `error.type` |
//! | `gen_ai.client.token.usage`, or `gen_ai.client.inference.operation.{input,output}_tokens` | histogram | the same without `error.type`; the former also has `gen_ai.token.type` |
//! | `gen_ai.client.inference.time_to_first_chunk`, only with the latest names | histogram, seconds | the first three labels above |
//! | `gen_ai.client.inference.usage.{input_tokens, output_tokens, cache_read.input_tokens, cache_write.input_tokens, reasoning.output_tokens}`, only with the latest names | counter | the same three, and `gen_ai.token.modality` |
//!
//! `model` is the catalog's name of the model that the client asked for, or of the one that its alias stands for; `other`
//! if the catalog knows neither. Of an attempt, it is that of the model that was asked. A label is `none` where there is
//! nothing to name: no `reason`, no `team`, no model in the request, no `upstream` because the service is your own.
//! `type` is `input`, `cache_read`, `cache_write` or `output`; no token counts in two of them.
//!
//! `tollgate_first_byte_seconds` is measured for good answers only. `tollgate_overhead_seconds` is the time to the head
//! of an answer without the time spent waiting for upstreams.
//!
//! Cost is computed from the usage that providers state and the catalog's prices, whether or not a budget pays for it.
//! Charges are counted for calls with a hold of a budget, and include what no provider stated.
//!
//! The gauges of settlements, the audit trail and content belong to no call. They are as recent as your last calls of
//! [`settlements`](Metrics::settlements), [`audit`](Metrics::audit) and [`content`](Metrics::content).
//!
//! Translation losses are counted as clients are told of them (`x-tollgate-warnings`): each path once per call, by its
//! kind: `dropped`, `clamped`, `emulated`, `adapted`.
//!
//! The last four rows describe attempts that ask for an answer, under the names of one [generation](Conventions) of
//! OpenTelemetry's conventions; the time to the first chunk is measured for streamed calls. `error.type` is the status
//! of the provider's error (`429`), or else how the attempt ended (`no_answer`, `broken`, …).
//!
//! ```
//! use tollgate::GatewayLayer;
//! use tollgate::telemetry::Spans;
//! let spans = Spans::new();
//! let layer = GatewayLayer::new().on_open(move |call| spans.begin(call));
//! # #[cfg(feature = "metrics")] {
//! let metrics = tollgate::telemetry::Metrics::new().by_team(50);
//! let layer = layer.on_open(move |call| metrics.begin(call));
//! # }
//! ```

#[cfg(feature = "metrics")]
mod metrics;
mod semconv;
mod spans;
#[cfg(feature = "metrics")]
mod standing;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
pub use self::semconv::Conventions;
pub use self::spans::Spans;
