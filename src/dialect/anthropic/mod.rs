//! Anthropic Messages.

pub(crate) mod answer;
mod envelope;
pub(crate) mod error;
mod ids;
pub(crate) mod meter;
pub(crate) mod request;
pub(crate) mod stream;
mod too_long;
mod unsigned;

pub(crate) use ids::foreign_tool_ids;
pub(crate) use unsigned::unsigned_thinking;
