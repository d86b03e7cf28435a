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

/// Writes each record as one line of JSON.
///
/// A batch is one write and one flush, on a thread that may block, and a file is on the disk then. After a failed write its
/// lines come again, so a line may stand there twice, or cut in its middle before a whole one; the `id` tells. A file that it
/// makes only this user may read (mode 0600, on Unix); one that is there keeps its mode.
pub struct JsonLines {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl JsonLines {
    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        JsonLines { out: Arc::new(Mutex::new(Box::new(out))) }
    }

    /// Appends to the file at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(Rotating::open(path.as_ref(), u64::MAX)?))
    }

    /// Appends to the file at `path`, and begins a new one before it grows beyond `max_bytes`: what was there is kept as
    /// `path.1`, then `path.2`, and so on, the highest the newest. None is ever removed. One process writes one file.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn rotating(path: impl AsRef<Path>, max_bytes: u64) -> io::Result<Self> {
        Ok(Self::new(Rotating::open(path.as_ref(), max_bytes)?))
    }

    /// A line of each.
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
