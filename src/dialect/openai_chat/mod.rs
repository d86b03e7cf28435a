//! OpenAI Chat Completions.

pub(crate) mod error;
pub(crate) mod meter;
