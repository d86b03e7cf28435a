use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;

use super::rotating::Rotating;
use crate::domain::audit::AuditRecord;
use crate::store::StoreError;
use crate::store::audit::AuditSink;

/// An audit sink that writes each record as one line of JSON.
///
/// Each batch is one write and one flush, on a thread that may block. A file is synced to disk by then. After a failed
/// write the lines are written again, so a line may appear twice, or cut off before its complete copy; the record's
/// `id` identifies copies. A new file is readable only by its owner (mode 0600, on Unix); an existing file keeps its
/// mode.
///
/// On Unix, a file may be moved or removed while it is in use, as logrotate does: the next batch goes to the file that
/// has the name then, which is created if needed. If it cannot be, nothing is taken until it can.
pub struct JsonLines {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl JsonLines {
    /// Creates a sink that writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        JsonLines { out: Arc::new(Mutex::new(Box::new(out))) }
    }

    /// Creates a sink that appends to the file at `path`, and creates the file if needed.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(Rotating::open(path.as_ref(), u64::MAX)?))
    }

    /// Creates a sink that appends to the file at `path`, and starts a new file before it grows beyond `max_bytes`.
    ///
    /// The old file is renamed to `path.1`, then `path.2`, and so on; the highest number is the newest. No file is ever
    /// removed. Only one process may write to a file.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn rotating(path: impl AsRef<Path>, max_bytes: u64) -> io::Result<Self> {
        Ok(Self::new(Rotating::open(path.as_ref(), max_bytes)?))
    }

    /// Writes each as one line.
    pub(super) async fn lines<T: Serialize>(&self, all: &[T]) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for one in all {
            serde_json::to_writer(&mut lines, one).map_err(StoreError::broken)?;
            lines.push(b'\n');
        }
        let out = self.out.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(&lines).and_then(|()| out.flush())
        });
        written.await.map_err(StoreError::uncertain)?.map_err(StoreError::uncertain)
    }
}

#[async_trait]
impl AuditSink for JsonLines {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.lines(records).await
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}
