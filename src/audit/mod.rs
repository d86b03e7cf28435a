//! One record for every call, whatever its end, refusals included.
//!
//! - **Reads:** the outcome: who, what, when, how much, every decision with its reason. Nothing of what prompts and
//!   answers held.
//! - **Answers** 529, 429 for OpenAI's clients, when the queue is full because the sink has been failing: a call that
//!   could not be recorded is not let through.
//! - **Where:** outermost, so that it sees refusals. What is no LLM endpoint is not recorded.
//!
//! A call takes its place in a bounded queue when it opens, and its record fills it when it closes; a task hands
//! records to the sink in batches, within some 20 ms while the sink is well, and again after a pause when the sink
//! fails. The last quarter of the places is for calls that somebody answers for: a refusal for want of a good key that ends
//! when no more is left is counted ([`AuditStatus::left_out`]) and told to the log, so that the calls that
//! strangers have made, and a sink that stalls, keep out nobody who has a key; those that they are making take places too.
//! Before the process ends, [`AuditLayer::flush`].
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
mod webhook;

pub use self::gate::AuditGate;
pub use self::json_lines::JsonLines;
pub use self::layer::AuditLayer;
pub use self::slack::Slack;
pub use self::status::AuditStatus;
pub use self::tracing_sink::TracingSink;
pub use self::webhook::{NotAWebhook, Webhook};
