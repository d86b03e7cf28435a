//! Messages streams, read and written.

mod content;
mod read;
mod write;

pub(crate) use self::content::Content;
pub(crate) use self::read::Reader;
pub(crate) use self::write::Writer;

/// The kind of the open block, as far as its deltas depend on it.
enum Kind {
    Text,
    Thinking {
        signed: bool,
    },
    Tool {
        /// The start event's input. It is used only if no delta has one: both together would not be JSON.
        input: Option<String>,
    },
    /// A block that was complete when it was opened.
    Opaque,
}
