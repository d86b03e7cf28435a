//! Chat Completions streams, read and written.

mod balance;
mod calls;
mod chunk;
mod finish;
mod read;
mod thought;
mod write;

pub(crate) use self::read::Reader;
pub(crate) use self::write::Writer;
