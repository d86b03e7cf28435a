use std::sync::LazyLock;

use memchr::memmem::Finder;

/// A quoted word to look for in every event of a stream. Its searcher is made once, since making it costs as much as a
/// search.
///
/// A match is a member's name or value, since quotes within text are escaped.
#[derive(Debug)]
pub(crate) struct Mark(LazyLock<Finder<'static>>);

pub(crate) static ERROR: Mark = Mark(LazyLock::new(|| Finder::new(br#""error""#)));
pub(crate) static MESSAGE: Mark = Mark(LazyLock::new(|| Finder::new(br#""message_"#)));
pub(crate) static USAGE: Mark = Mark(LazyLock::new(|| Finder::new(br#""usage""#)));

impl Mark {
    /// What follows the first match, if there is one.
    #[inline]
    pub(crate) fn after<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        self.0.find(data).map(|at| &data[at + self.0.needle().len()..])
    }

    #[inline]
    pub(crate) fn is_in(&self, data: &[u8]) -> bool {
        self.0.find(data).is_some()
    }
}
