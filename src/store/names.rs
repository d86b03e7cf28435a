//! Which file has a name. A file that was removed or moved can be written on, but nobody will look for it there.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

pub(crate) type Id = (u64, u64);

/// What tells this file from every other; `None` where files cannot be told apart.
#[cfg(unix)]
pub(crate) fn id(found: &Metadata) -> Option<Id> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
pub(crate) fn id(_: &Metadata) -> Option<Id> {
    None
}

/// Whether the name is that of no file, or of another one than this.
pub(crate) fn is_another(path: &Path, own: Id) -> bool {
    match fs::metadata(path) {
        Ok(found) => id(&found).is_some_and(|found| found != own),
        // Any other error says nothing about the file.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether the file has lost its name: it was removed, or it or its directory was moved.
pub(crate) fn is_removed(file: &File, path: &Path) -> bool {
    file.metadata().ok().and_then(|own| id(&own)).is_some_and(|own| is_another(path, own))
}

/// Brings the names in a directory to the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    // On other systems a directory cannot be opened, and its names need no sync.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
