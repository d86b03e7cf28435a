//! Requests a minute, tokens a minute, and calls at once.
//!
//! - **Reads:** the principal's limits, and the head, from which the tokens are estimated: the input by its bytes, the
//!   output by what was asked for, at most [`RateLimitLayer::expected_output`]. What the call used in the end takes the
//!   estimate's place, without the input that Anthropic's API has read from its cache.
//! - **Adds:** the limit headers of the caller's dialect, on every answer to a call that came as far as this; a slot that is
//!   held until the last byte. What is refused further out (a bad key or body, a model that the key may not use) has none; what
//!   a budget or a gate refuses further in counts for nothing, and its headers say so.
//! - **Answers** 429 with a true `retry-after`. A call that is larger than its limit is told not to come again. A store
//!   that cannot tell: 529, 429 for OpenAI's clients.
//! - **Where:** inside of `KeyAuthLayer` and `IngestLayer`, outside of `BudgetLayer`, whose refusal undoes it.
//!
//! All limits are counted, or none. A caller without limits is not asked about; nor is what is no LLM endpoint.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::rate_limit::RateLimitLayer;
//! use tollgate::store::memory::MemoryLimits;
//! let default = RateLimitLayer::new(MemoryLimits::new());
//! let long_answers = RateLimitLayer::new(MemoryLimits::new()).expected_output(4_096);
//! # }
//! ```

mod gate;
mod layer;

pub use self::gate::RateLimitGate;
pub(crate) use self::gate::Wanted;
pub use self::layer::RateLimitLayer;
