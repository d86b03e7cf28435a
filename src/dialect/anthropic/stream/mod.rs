//! Messages streams, read and written.

mod content;
mod read;
mod write;

pub(crate) use self::content::Content;
pub(crate) use self::read::Reader;
pub(crate) use self::write::Writer;

/// The block that is open, as far as its deltas depend on it.
enum Kind {
    Text,
    Thinking {
        signed: bool,
    },
    Tool {
        /// The start event's input, given only if no delta gives one: both together would be no JSON.
        input: Option<String>,
    },
    /// One that is whole as it was opened.
    Opaque,
}
