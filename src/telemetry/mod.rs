//! What dashboards are made of: a `tracing` span a call, and (feature `metrics`) counters and histograms.
//!
//! Reach for it to see what a gateway does without reading its records. Neither knows an SDK: a host brings the subscriber and
//! the recorder that it has, `examples/otel.rs` a bridge to OpenTelemetry, `examples/prometheus` an endpoint to scrape and a
//! dashboard for Grafana.
//!
//! - **Reads:** the call when it opens, the outcome when it closes. **Adds** nothing to either.
//! - **Where:** [`GatewayLayer::on_open`](crate::GatewayLayer::on_open), or [`CallLayer::on_open`](crate::CallLayer::on_open) of
//!   the outermost of single layers.
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `tollgate_calls_in_flight` | gauge | |
//! | `tollgate_calls_total` | counter | `dialect`, `operation`, `model`, `end`, `reason` |
//! | `tollgate_call_seconds` | histogram | `dialect`, `operation`, `model`, `end` |
//! | `tollgate_first_byte_seconds` | histogram | `dialect`, `model` |
//! | `tollgate_overhead_seconds` | histogram | `dialect` |
//! | `tollgate_cost_nanodollars_total` | counter | `upstream`, `model`, perhaps `team` |
//! | `tollgate_charged_nanodollars_total` | counter | `model`, `quality`, perhaps `team` |
//! | `tollgate_tokens_total` | counter | `upstream`, `model`, `type`, perhaps `team` |
//! | `tollgate_attempts_total` | counter | `upstream`, `model`, `end` |
//! | `tollgate_translation_losses_total` | counter | `kind` |
//! | `tollgate_settlements_waiting` | gauge | |
//! | `tollgate_audit_refusing`, `tollgate_audit_places_left` | gauge | |
//! | `tollgate_audit_behind` | gauge | `sink` |
//! | `tollgate_content_dropped_total` | counter | |
//! | `gen_ai.client.operation.duration`, or `gen_ai.client.inference.duration` | histogram, seconds | `gen_ai.operation.name`, `gen_ai.system` or `gen_ai.provider.name`, `gen_ai.request.model`, `error.type` |
//! | `gen_ai.client.token.usage`, or `gen_ai.client.inference.operation.{input,output}_tokens` | histogram | the same but `error.type`, and `gen_ai.token.type` with the former |
//! | with the latest names also `gen_ai.client.inference.time_to_first_chunk` | histogram, seconds | the first three of these |
//! | and `gen_ai.client.inference.usage.{input_tokens, output_tokens, cache_read.input_tokens, cache_write.input_tokens, reasoning.output_tokens}` | counter | the same three, and `gen_ai.token.modality` |
//!
//! What calls cost is what their providers stated, by the catalogue's prices, whether or not a budget pays for it; what they are
//! charged is counted where money was held of one, and includes what nobody stated.
//!
//! How settlements, the trail and content stand no call says: they are as old as your last
//! [`settlements`](Metrics::settlements), [`audit`](Metrics::audit) and [`content`](Metrics::content).
//!
//! What translations lost is counted as clients were told of it (`x-tollgate-warnings`): each path once a call, by its kind:
//! `dropped`, `clamped`, `emulated`, `adapted`.
//!
//! The last four are an attempt's that asks for an answer, under the names of OpenTelemetry's conventions of a
//! [generation](Conventions); the time to the first chunk is a call's that is a stream. `error.type` is the status of the
//! provider's error (`429`), or else how the attempt ended (`no_answer`, `broken`, …).
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
