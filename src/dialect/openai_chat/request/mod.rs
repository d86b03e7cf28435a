//! Chat Completions requests, read and written.

mod breakpoints;
mod definitions;
mod dialogue;
mod media;
mod messages;
mod parts;
mod read;
mod schema;
mod tools;
mod write;

pub(crate) use self::read::read;
pub(crate) use self::write::write;
