//! One more segment than is needed, if content is kept.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::segment;
use crate::domain::clock::{Clock, SystemClock};

/// How long to wait before trying again to make a spare segment: each try briefly takes the room that there is.
const AGAIN: Duration = Duration::from_secs(10);

/// The segment after the next, if content is kept. As long as it can be made, there is room. Otherwise content stops,
/// before calls do.
#[derive(Default)]
pub(super) struct Spare {
    pub(super) file: Option<File>,
    failed: Option<Duration>,
}

impl Spare {
    /// Whether the spare is there or can be made; calls `meanwhile` while it is made.
    pub(super) fn is_there(&mut self, dir: &Path, size: u64, meanwhile: impl FnMut(&File) -> io::Result<()>) -> bool {
        let now = SystemClock.elapsed();
        let is_due = self.failed.is_none_or(|failed| now.saturating_sub(failed) >= AGAIN);
        if self.file.is_none() && is_due {
            match segment::prepare_spare(dir, size, meanwhile) {
                Ok(file) => (self.file, self.failed) = (Some(file), None),
                Err(error) => {
                    if self.failed.replace(now).is_none() {
                        tracing::error!(%error, "there is no room for a spare segment of the journal; no content is kept until there is");
                    }
                }
            }
        }
        self.file.is_some()
    }
}
