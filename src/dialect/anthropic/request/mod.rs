//! Messages requests, read and written.

mod arrange;
mod blocks;
mod caching;
mod documents;
mod flat;
mod held;
mod read;
mod results;
mod schema;
mod thinking;
mod tools;
mod turns;
mod write;

pub(crate) use self::read::read;
pub(crate) use self::write::write;
