use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;
use tokio::task::JoinHandle;

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
    /// The write that may still be under way, whether or not its caller still waits for it.
    write: tokio::sync::Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl JsonLines {
    /// Creates a sink that writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        JsonLines { out: Arc::new(Mutex::new(Box::new(out))), write: tokio::sync::Mutex::default() }
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
        // One at a time: on a disk that hangs, each further attempt would block one more thread, and repeat the lines
        // once more when the disk is back.
        let mut write = self.write.lock().await;
        if let Some(earlier) = write.as_mut() {
            // Its caller gave up, and nobody was told how it ended: the lines are written again.
            let _ = earlier.await;
        }
        let out = self.out.clone();
        let written = write.insert(tokio::task::spawn_blocking(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(&lines).and_then(|()| out.flush())
        }));
        let written = written.await;
        *write = None;
        written.map_err(StoreError::uncertain)?.map_err(StoreError::uncertain)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::{Arc, JsonLines, Mutex, Write, io};

    /// Each write hangs until it is told to go on.
    struct Hangs {
        go_on: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Hangs {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.go_on.recv().map_err(io::Error::other)?;
            self.written.lock().expect("no panic under it").extend(lines);
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once_however_often_a_write_is_tried_again() {
        let (told, go_on) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let lines = JsonLines::new(Hangs { go_on, written: written.clone() });
        for _ in 0..20 {
            let given_up = tokio::time::timeout(Duration::from_millis(5), lines.lines(&["a"])).await;
            given_up.expect_err("it hangs");
        }
        // Enough for all of them, if each were written.
        for _ in 0..21 {
            told.send(()).expect("it waits");
        }
        lines.lines(&["b"]).await.expect("it goes on");
        let written = String::from_utf8(written.lock().expect("no panic under it").clone()).expect("text");
        assert_eq!(written, "\"a\"\n\"b\"\n", "the first attempt's line, and the one after");
    }
}
