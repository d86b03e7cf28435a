//! Recovery from a failed sync. Syncing again proves nothing, since a kernel that could not write its pages considers
//! them written from then on. So they are read back and written once more before a sync is believed.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::frame::{Found, Frames};
use super::shared::{Shared, Trouble};

/// What was written to one segment and is not known to be on the disk.
pub(super) struct Unsynced {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
    /// The length of everything that was written to it.
    pub(super) len: u64,
    /// A sync of it has failed.
    pub(super) is_suspect: bool,
}

/// The result of a sync that the disk answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Synced {
    Whole,
    /// What had been written is not there any more.
    Lost,
}

impl Unsynced {
    /// Syncs it to the disk.
    ///
    /// # Errors
    /// When the disk does not take it. From then on it is suspect.
    pub(super) fn sync(&mut self) -> io::Result<Synced> {
        if self.is_suspect {
            return mend(&self.path, self.len);
        }
        self.is_suspect = true;
        self.file.sync_data()?;
        self.is_suspect = false;
        Ok(Synced::Whole)
    }

    /// More was written to the same segment.
    pub(super) fn add(&mut self, more: &Unsynced) {
        self.len = self.len.max(more.len);
        self.is_suspect |= more.is_suspect;
    }
}

/// Syncs these to the disk, and returns those that failed.
pub(super) fn sync(journal: &Shared, unsynced: Vec<Unsynced>) -> Vec<Unsynced> {
    let (mut failed, mut why, is_idle) = (Vec::new(), None, unsynced.is_empty());
    for mut one in unsynced {
        match one.sync() {
            Ok(Synced::Whole) => {}
            Ok(Synced::Lost) => {
                let path = one.path.display();
                tracing::error!(%path, "the disk lost lines of the journal; calls are refused until a restart");
                journal.trouble(Trouble::Lost, Some(&"the disk lost lines of the journal; restart the gateway"));
            }
            Err(error) => {
                tracing::error!(%error, "the journal is written but could not be synced to disk; calls are refused until it is");
                failed.push(one);
                why = Some(format!("written lines could not be synced to disk: {error}"));
            }
        }
    }
    if !is_idle {
        journal.trouble(Trouble::Sync, why.as_ref().map(|why| why as &dyn Display));
    }
    failed
}

/// Reads the file back, writes it again, and returns whether it was complete. Anyone who writes meanwhile does so
/// behind that.
fn mend(path: &Path, len: u64) -> io::Result<Synced> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        // The segment was removed, so every sink has had it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Synced::Whole),
        file => file?,
    };
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(len).read_to_end(&mut bytes)?;
    let is_whole = Frames::of_part(&bytes).all(|(_, found)| matches!(found, Found::Line(_)));
    // Also if it is incomplete: the kernel considers the rest of it written as well.
    file.rewind()?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    Ok(if bytes.len() as u64 == len && is_whole { Synced::Whole } else { Synced::Lost })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::chain::{Head, LineHash};
    use super::super::line::{Said, Settled, put};
    use super::*;

    #[test]
    fn after_a_sync_that_failed_none_is_believed_before_all_is_written_again() {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
        fs::create_dir_all(&target).expect("a directory");
        let path = target.join(format!("mend-{}", std::process::id()));
        let mut bytes = Vec::new();
        let head = (0..3).fold(Head { seq: 0, hash: LineHash::NONE }, |head, _| {
            put(&mut bytes, head, &Said::Settled(Settled { before: 3, ..Settled::default() })).expect("a line")
        });
        assert_eq!(head.seq, 3);
        let len = bytes.len() as u64;
        let mut room = bytes.clone();
        room.resize(4096, 0);
        fs::write(&path, &room).expect("writable");
        // A file that can be written, and is never on any disk.
        let nowhere = OpenOptions::new().write(true).open("/dev/null").expect("there");
        let unsynced = |len| Unsynced {
            file: Arc::new(nowhere.try_clone().expect("open")),
            path: path.clone().into(),
            len,
            is_suspect: false,
        };
        let mut one = unsynced(len);
        one.sync().expect_err("it cannot be synced");
        assert!(one.is_suspect);
        assert_eq!(one.sync().expect("it is written again"), Synced::Whole);
        assert_eq!(fs::read(&path).expect("there"), room);
        // More was written than is there.
        let mut more = unsynced(len + 8);
        more.add(&one);
        assert_eq!(more.sync().expect("it can be read"), Synced::Lost);
        // A page is what it was before.
        room[20..40].fill(0);
        fs::write(&path, &room).expect("writable");
        assert_eq!(one.sync().expect("it can be read"), Synced::Lost);
        fs::remove_file(&path).expect("ours");
        assert_eq!(one.sync().expect("it is gone"), Synced::Whole);
    }
}
