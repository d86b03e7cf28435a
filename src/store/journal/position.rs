//! The position of each sink: one file per sink beside the segments, `NAME.acked`, with the last head that it has had.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::chain::{Head, LineHash};
use super::moments;
use super::segment::owners;

const EXTENSION: &str = "acked";

fn of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{EXTENSION}"))
}

/// What the position of a sink says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// This is the last line that it has had.
    Upto(Head),
    /// It is damaged, and at most the number of that line is legible.
    Damaged(Option<u64>),
}

/// How far a sink has come, if it was there before.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<Option<Had>> {
    match fs::read(of(dir, name)) {
        Ok(text) => Ok(Some(Had::of(&String::from_utf8_lossy(&text)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Had {
    fn of(text: &str) -> Self {
        let text = text.trim();
        // Without what follows it, a number may have lost digits.
        let seq = || text.split_once(':').and_then(|(seq, _)| seq.parse().ok());
        text.parse().map_or_else(|_| Had::Damaged(seq()), Had::Upto)
    }
}

pub(super) fn write(dir: &Path, name: &str, had: Head) -> io::Result<()> {
    write_whole(&of(dir, name), format!("{had}\n").as_bytes())
}

/// The positions of all current and former sinks, by their names. What cannot be read is skipped.
pub(super) fn all(dir: &Path) -> io::Result<Vec<(String, Head)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let (Some(name), Ok(text)) = (name, fs::read_to_string(&path))
            && let Ok(head) = text.trim().parse()
        {
            all.push((name, head));
        }
    }
    Ok(all)
}

/// A power loss may take lines that were written but not synced, although a sink has had them. Somebody may also cut
/// off the end. Other lines are written in their place; the sink gets those, and nothing before them again.
///
/// Call it when the loss has been recorded: otherwise a failed start would be the last to know of it.
pub(super) fn pull_back(dir: &Path, left: Head) -> io::Result<()> {
    for (name, had) in all(dir)?.into_iter().filter(|(_, had)| had.seq > left.seq) {
        let (sink, had, left_off) = (&*name, had.seq, left.seq);
        tracing::error!(
            sink,
            had,
            left_off,
            "lines that a sink already received are missing from the journal; the sink continues where the journal ends"
        );
        // At the next start, other lines stand there, and this one would be unknown.
        match left.hash == LineHash::NONE {
            true => fs::remove_file(of(dir, &name))?,
            false => write(dir, &name, left)?,
        }
    }
    Ok(())
}

/// How many lines that a sink has had are gone.
pub(super) fn missing(dir: &Path, left: Head) -> io::Result<u64> {
    Ok(all(dir)?.iter().map(|(_, had)| had.seq.saturating_sub(left.seq)).max().unwrap_or(0))
}

/// Writes a whole file, or nothing.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".tmp");
    let mut file = owners().truncate(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    moments::at("position-made");
    fs::rename(new, path)
}
