//! Limits requests per minute, tokens per minute and concurrent calls.
//!
//! - **Reads:** the principal's limits, and the head, from which it estimates tokens: the input by its bytes, the
//!   output by what was asked for, at most [`RateLimitLayer::expected_output`]. When the call ends, its actual usage
//!   replaces the estimate. Input that Anthropic's API read from its cache does not count.
//! - **Adds:** the limit headers of the caller's dialect, on every answer to a call that reached this layer; a slot
//!   that is held until the last byte. Calls refused further out (a bad key or body, a model that the key may not use)
//!   get no limit headers. Calls refused further in, by a budget or a gate, count for nothing, and their headers show
//!   that.
//! - **Answers** 429 with an accurate `retry-after`. A call larger than its limit is told not to retry.
//! - **Fails closed:** if the store cannot answer, 529, or 429 for OpenAI's clients.
//! - **Where:** inside of `KeyAuthLayer` and `IngestLayer`, outside of `BudgetLayer`: a refusal there undoes the count
//!   here.
//!
//! A call counts against all of its limits or none. Callers without limits, and paths that are no LLM endpoint, pass
//! uncounted.
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
