//! Writes one record for every call, whatever its end, including refusals.
//!
//! - **Reads:** the outcome: who, what, when, how much, and every decision with its reason. It contains nothing of
//!   prompts and answers.
//! - **Answers** 529, or 429 for OpenAI's clients, if the queue is full because the sink keeps failing: a call that
//!   could not be recorded is not admitted.
//! - **Where:** outermost, so that it sees refusals. Paths that are no LLM endpoint are not recorded.
//!
//! A call reserves a place in a bounded queue when it opens, and its record fills the place when it closes. A task
//! sends records to the sink in batches: within about 20 ms if the sink works, and again after a pause if the sink
//! fails.
//!
//! The last quarter of the places is reserved for authenticated calls. If no more is left when a call ends that was
//! refused for lack of a good key, its record is dropped, counted ([`AuditStatus::left_out`]) and mentioned in the log.
//! So a slow sink, filled with closed calls of strangers, does not keep out callers who have a key. Calls of strangers
//! that are still open take places too.
//!
//! Call [`AuditLayer::flush`] before the process ends.
//!
//! ```
//! use tollgate::audit::{AuditLayer, TracingSink};
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let audit = AuditLayer::new(TracingSink::new());
//! // … a clone of it in the stack, the server run and stopped, settlements drained:
//! audit.flush().await;
//! # }
//! ```

mod gate;
mod json_lines;
mod layer;
mod parts;
mod post;
mod queue;
mod rotating;
mod slack;
mod status;
mod tracing_sink;
mod unfinished;
mod webhook;

pub use self::gate::AuditGate;
pub use self::json_lines::JsonLines;
pub use self::layer::AuditLayer;
pub use self::slack::Slack;
pub use self::status::AuditStatus;
pub use self::tracing_sink::TracingSink;
pub use self::webhook::{NotAWebhook, Webhook};
