use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the simulated provider would charge: one line for each generation, updated while it is produced.
#[derive(Debug, Clone, Default)]
pub struct Bill {
    lines: Arc<Mutex<Vec<Line>>>,
}

/// The line of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The model, as the request named it.
    pub model: String,
    /// Input tokens.
    pub input: u64,
    /// Output tokens produced so far, whether or not anyone has read them.
    pub output: u64,
    /// Whether everything was produced, and sent to the client.
    pub complete: bool,
}

impl Bill {
    /// A copy of all lines, in the order in which the generations began.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().clone()
    }

    /// Opens a line and returns its index.
    pub(super) fn open(&self, model: &str, input: u64) -> usize {
        let mut lines = self.lock();
        lines.push(Line { model: model.to_owned(), input, output: 0, complete: false });
        lines.len() - 1
    }

    pub(super) fn produce(&self, line: usize, tokens: u64) {
        if let Some(line) = self.lock().get_mut(line) {
            line.output += tokens;
        }
    }

    pub(super) fn complete(&self, line: usize) {
        if let Some(line) = self.lock().get_mut(line) {
            line.complete = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
