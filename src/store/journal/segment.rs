//! The files of a journal: one per segment, named by the first line in it. Each has its full size from the beginning,
//! so that writing a line needs no room that the disk may not have.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::store::sync_dir;

const SUFFIX: &str = ".seg";
/// The next segment, before it has a name.
const NEXT: &str = "next.tmp";
/// The segment after that, if there is one.
const SPARE: &str = "spare.tmp";

/// An existing segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first line.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// All segments of a directory, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) {
            found.push(Segment { first, path });
        }
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// Makes the next segment, filled with zeros. That takes time, so `meanwhile` is called after each part but the last.
pub(super) fn prepare(dir: &Path, size: u64, meanwhile: impl FnMut(&File) -> io::Result<()>) -> io::Result<File> {
    made(&dir.join(NEXT), size, meanwhile)
}

/// Makes the segment after the next.
pub(super) fn prepare_spare(dir: &Path, size: u64, meanwhile: impl FnMut(&File) -> io::Result<()>) -> io::Result<File> {
    made(&dir.join(SPARE), size, meanwhile)
}

/// Removes a spare segment that an earlier process may have left.
pub(super) fn forget_spare(dir: &Path) {
    let _ = fs::remove_file(dir.join(SPARE));
}

/// Makes the spare one the next.
pub(super) fn promote(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(SPARE), dir.join(NEXT))
}

fn made(path: &Path, size: u64, meanwhile: impl FnMut(&File) -> io::Result<()>) -> io::Result<File> {
    // A file for which there was no room is removed, or its half would keep others from their room.
    fill(path, size, meanwhile).inspect_err(|_| _ = fs::remove_file(path))
}

/// Options to write a file, and to create it for its owner only: whoever can open the file can also lock it.
pub(super) fn owners() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn fill(path: &Path, size: u64, mut meanwhile: impl FnMut(&File) -> io::Result<()>) -> io::Result<File> {
    let mut file = owners().truncate(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let part = zeros.len().min(usize::try_from(left).unwrap_or(zeros.len()));
        file.write_all(&zeros[..part])?;
        left -= part as u64;
        if left > 0 {
            meanwhile(&file)?;
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Gives the prepared segment its name. After an error it can be called again.
pub(super) fn begin(dir: &Path, first: u64) -> io::Result<PathBuf> {
    let path = dir.join(format!("{first:020}{SUFFIX}"));
    match fs::rename(dir.join(NEXT), &path) {
        // It has its name since the last time.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
        named => named?,
    }
    sync_dir(dir)?;
    Ok(path)
}

/// Moves a segment without lines out of the way of those that have some. If it has any content, that is kept.
pub(super) fn set_aside(segment: &Segment) -> io::Result<()> {
    if fs::read(&segment.path)?.iter().all(|byte| *byte == 0) {
        return fs::remove_file(&segment.path);
    }
    let kept = (1..).map(|n| segment.path.with_extension(format!("unreadable-{n}"))).find(|kept| !kept.exists());
    fs::rename(&segment.path, kept.ok_or(io::ErrorKind::AlreadyExists)?)
}

/// Frees the room behind the last line of a segment that nobody will write to any more.
pub(super) fn trim(segment: &Segment, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(&segment.path)?.set_len(len)
}
