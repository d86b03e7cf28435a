//! Whether the file that is open still has its name. A removed file can be read and written on, but nobody will ever see
//! it again, and a new connection opens whatever has the name then. So from then on none is believed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::error::{SqliteError, SqliteErrorKind};
use crate::domain::clock::{Clock, SystemClock};
use crate::store::{Id, id, is_another};

/// How often the name is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// The file that was opened.
pub(super) struct Same {
    /// `None` where files cannot be told apart.
    id: Option<Id>,
    /// When the name was last looked at, in milliseconds of the process.
    looked: AtomicU64,
    is_another: AtomicBool,
}

impl Same {
    /// The file that has this name now.
    pub(super) fn of(path: &Path) -> Self {
        let id = std::fs::metadata(path).ok().and_then(|found| id(&found));
        Same { id, looked: AtomicU64::new(0), is_another: AtomicBool::new(false) }
    }

    /// For a database of the host's, which is the host's to watch.
    pub(super) fn unwatched() -> Self {
        Same { id: None, looked: AtomicU64::new(0), is_another: AtomicBool::new(false) }
    }

    /// Fails once the name was found to be that of no file, or of another one.
    pub(super) fn check(&self, path: &Path) -> Result<(), SqliteError> {
        let Some(own) = self.id else { return Ok(()) };
        let (now, looked) = (millis(SystemClock.elapsed()), self.looked.load(Ordering::Relaxed));
        if now >= looked.saturating_add(millis(EVERY)) {
            self.looked.store(now, Ordering::Relaxed);
            self.is_another.fetch_or(is_another(path, own), Ordering::Relaxed);
        }
        match self.is_another.load(Ordering::Relaxed) {
            true => Err(SqliteError::new(path, SqliteErrorKind::Removed)),
            false => Ok(()),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
