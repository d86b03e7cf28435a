//! Anthropic Messages.

pub(crate) mod error;
pub(crate) mod meter;
pub(crate) mod stream;
