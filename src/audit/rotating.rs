use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::store::{is_removed, sync_dir};

/// A file of lines that starts anew before it grows too large. The old file keeps its name plus the next number. After
/// a torn line, the next write starts a new line. A file that somebody moves or removes is followed by a new one.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    /// Counts only our own writes: nobody else should write to the file.
    len: u64,
    most: u64,
    /// The last number that was used.
    last: u64,
    /// The last line is torn: the next write must start a new line.
    is_torn: bool,
}

impl Rotating {
    pub(super) fn open(path: &Path, most: u64) -> io::Result<Self> {
        let file = append(path)?;
        let metadata = file.metadata()?;
        // The previous process may have ended in the middle of a line.
        let is_torn = metadata.is_file() && !ends_with_a_line(path).unwrap_or(true);
        // It may be new, and a later sync does not reach its entry in the directory.
        if metadata.is_file()
            && metadata.len() == 0
            && let Err(error) = sync_dir(parent(path))
        {
            tracing::warn!(%error, path = %path.display(), "the directory of a new file cannot be synced; a power loss may take the file");
        }
        Ok(Rotating { path: path.to_owned(), file, len: metadata.len(), most, last: 0, is_torn })
    }

    /// Renames the file and opens a new one. Nothing is removed or overwritten; that is up to the operator.
    fn rotate(&mut self) -> io::Result<()> {
        let mut number = self.last.max(highest(&self.path)?);
        let kept = loop {
            number = number.checked_add(1).ok_or_else(|| io::Error::other("no file number is left"))?;
            let kept = numbered(&self.path, number);
            if !kept.try_exists()? {
                break kept;
            }
        };
        // A later sync only reaches the new file.
        if self.file.metadata()?.is_file() {
            self.file.sync_data()?;
        }
        fs::rename(&self.path, kept)?;
        self.last = number;
        self.file = append(&self.path)?;
        // So that both names are on the disk too.
        sync_dir(parent(&self.path))
    }

    /// Goes on in the file that has the name now: nobody would look for a line in one that was moved or removed.
    fn follow(&mut self) -> io::Result<()> {
        if is_removed(&self.file, &self.path) {
            *self = Rotating { last: self.last, ..Self::open(&self.path, self.most)? };
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.is_torn) {
            self.file.write_all(b"\n").inspect_err(|_| self.is_torn = true)?;
        }
        self.file.write_all(line).inspect_err(|_| self.is_torn = true)?;
        self.len += line.len() as u64;
        Ok(())
    }
}

fn ends_with_a_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Opens for appending. Records are for their owner only; an existing file keeps its mode.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The highest number in use, by a file that may have been compressed since.
fn highest(path: &Path) -> io::Result<u64> {
    let directory = parent(path);
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let number = |entry: fs::DirEntry| {
        let entry = entry.file_name();
        let rest = entry.as_encoded_bytes().strip_prefix(name)?.strip_prefix(b".")?;
        let digits = rest.split(|byte| *byte == b'.').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let mut highest = 0;
    for entry in fs::read_dir(directory)? {
        highest = highest.max(number(entry?).unwrap_or(0));
    }
    Ok(highest)
}

impl Write for Rotating {
    /// Writes all lines, each into one file. A line longer than the maximum gets a file of its own.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.follow()?;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.len > 0 && self.len.saturating_add(line.len() as u64) > self.most {
                // A file that is too large is better than a lost record. Rotation is tried again after another `most`
                // bytes.
                if let Err(error) = self.rotate() {
                    tracing::warn!(path = %self.path.display(), %error, "a file of records could not be rotated; writing continues in the same file");
                }
                self.len = 0;
            }
            self.line(line)?;
        }
        Ok(lines.len())
    }

    /// Syncs a regular file to disk, since a journal does not repeat what a sink has taken.
    ///
    /// # Errors
    /// Also if the file was moved or removed since the write: its lines may be gone with it.
    fn flush(&mut self) -> io::Result<()> {
        if self.file.metadata()?.is_file() { self.file.sync_data() } else { self.file.flush() }?;
        match is_removed(&self.file, &self.path) {
            true => Err(io::Error::other("the file was moved or removed while it was written to")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for one test.
    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("tollgate-rotating-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        directory
    }

    fn write(file: &mut Rotating, lines: &str) {
        file.write_all(lines.as_bytes()).and_then(|()| file.flush()).expect("it is written");
    }

    #[test]
    fn every_line_is_in_one_file_in_order_and_none_is_lost() {
        let directory = directory("order");
        let path = directory.join("audit.jsonl");
        let lines: Vec<String> = (0..200).map(|n| format!("{n} {}\n", "x".repeat(n % 37))).collect();
        // Reopened now and then, as after a restart; and one line that is too long for any file.
        for part in lines.chunks(60) {
            let mut file = Rotating::open(&path, 100).expect("it opens");
            part.chunks(7).for_each(|batch| write(&mut file, &batch.concat()));
        }
        let long = format!("{}\n", "y".repeat(1_000));
        write(&mut Rotating::open(&path, 100).expect("it opens"), &long);

        let last = highest(&path).expect("a directory");
        assert!(last > 10, "{last}");
        let files = (1..=last).map(|number| numbered(&path, number)).chain([path.clone()]);
        let texts: Vec<String> = files.map(|file| fs::read_to_string(file).expect("a file")).collect();
        assert_eq!(texts.concat(), lines.concat() + &long);
        assert!(texts.iter().all(|text| text.ends_with('\n') && (text.len() <= 100 || *text == long)));
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_for_its_owner_and_one_that_was_there_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let directory = directory("mode");
        let path = directory.join("audit.jsonl");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let mut file = Rotating::open(&path, 10).expect("it opens");
        write(&mut file, "1234567\n1234567\n");
        assert_eq!((mode(&path), mode(&numbered(&path, 1))), (0o600, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        write(&mut Rotating::open(&path, 1_000).expect("it opens"), "1234567\n");
        assert_eq!(mode(&path), 0o640);
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn whatever_is_done_to_its_files_it_goes_on_and_writes_over_none() {
        let directory = directory("moved");
        let path = directory.join("audit.jsonl");
        let mut file = Rotating::open(&path, 10).expect("it opens");
        write(&mut file, "1234567\n1234567\n");
        assert_eq!(highest(&path).expect("a directory"), 1);
        // Compressed, and moved away while being written.
        fs::rename(numbered(&path, 1), directory.join("audit.jsonl.7.gz")).expect("renamed");
        fs::remove_file(&path).expect("removed");
        write(&mut file, "abcdefg\nabcdefh\n");
        let last = highest(&path).expect("a directory");
        assert!(last > 7, "{last}");
        assert_eq!(fs::read_to_string(numbered(&path, last)).expect("behind the highest"), "abcdefg\n");
        assert_eq!(fs::read_to_string(&path).expect("anew"), "abcdefh\n");
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_taken_is_in_the_file_of_that_name_whoever_moves_or_removes_the_one_before() {
        let directory = directory("followed");
        let path = directory.join("audit.jsonl");
        let (moved, read) = (directory.join("moved"), |path: &Path| fs::read_to_string(path).expect("a file"));
        for most in [20, u64::MAX] {
            let mut file = Rotating::open(&path, most).expect("it opens");
            write(&mut file, "first\n");
            // As logrotate does, with the beginning of a line that somebody else has left there.
            fs::rename(&path, &moved).expect("renamed");
            fs::write(&path, "half").expect("writable");
            write(&mut file, "second\n");
            assert_eq!((read(&moved), read(&path)), ("first\n".into(), "half\nsecond\n".into()));
            fs::rename(&path, &moved).expect("renamed");
            write(&mut file, "third\n");
            fs::remove_file(&path).expect("removed");
            write(&mut file, "fourth\n");
            assert_eq!((read(&moved), read(&path)), ("half\nsecond\n".into(), "fourth\n".into()));
            // Between a write and its end.
            file.write_all(b"fifth\n").expect("it is written");
            fs::remove_file(&path).expect("removed");
            file.flush().expect_err("it is gone");
            write(&mut file, "fifth\n");
            assert_eq!(read(&path), "fifth\n");
            // With its directory, nothing is taken until that is back.
            fs::remove_dir_all(&directory).expect("ours");
            file.write_all(b"sixth\n").expect_err("there is no place for it");
            fs::create_dir_all(&directory).expect("a directory");
            write(&mut file, "sixth\n");
            assert_eq!(read(&path), "sixth\n");
            fs::remove_file(&path).expect("it is there");
        }
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn what_comes_behind_a_line_that_broke_off_begins_a_new_one() {
        let directory = directory("torn");
        let path = directory.join("audit.jsonl");
        let mut file = Rotating::open(&path, 1_000).expect("it opens");
        write(&mut file, "half a li");
        // Nothing can be written, for example because the disk is full.
        let good = std::mem::replace(&mut file.file, File::open(&path).expect("to be read"));
        assert!(file.write_all(b"ne\n").is_err());
        file.file = good;
        write(&mut file, "whole\nand more\n");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "half a li\nwhole\nand more\n");
        // The process ended in the middle of a line.
        write(&mut file, "another ha");
        write(&mut Rotating::open(&path, u64::MAX).expect("it opens"), "whole\n");
        write(&mut Rotating::open(&path, u64::MAX).expect("it opens"), "again\n");
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.ends_with("and more\nanother ha\nwhole\nagain\n"), "{text}");
        fs::remove_dir_all(&directory).expect("ours");
    }
}
