//! A temporary directory for one test.
#![allow(dead_code, reason = "every area uses its own part")]

use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::canary;

/// A temporary directory. When it is dropped, it is searched for secrets and removed, even if the test failed.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    /// Creates the directory in memory if the machine has such a place, for tests that are not about the disk.
    pub(crate) fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::within(memory, name) } else { Self::new(name) }
    }

    fn within(parent: &Path, name: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let (area, process) = (env!("CARGO_CRATE_NAME"), std::process::id());
        let path = parent.join(format!("{area}-{process}-{}-{name}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        // An earlier process with the same id may have been killed and left it behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // If the test has failed already, do not hide its message.
        let searched = (!std::thread::panicking()).then(|| catch_unwind(|| canary::assert_nothing_written(&self.0)));
        let _ = fs::remove_dir_all(&self.0);
        if let Some(Err(why)) = searched {
            resume_unwind(why);
        }
    }
}
