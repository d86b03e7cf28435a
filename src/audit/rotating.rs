use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file of lines that begins anew before it grows too large: what was there is kept under its name and the next number.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    /// As far as we wrote it ourselves: nobody else should.
    len: u64,
    most: u64,
}

impl Rotating {
    pub(super) fn open(path: &Path, most: u64) -> io::Result<Self> {
        let file = append(path)?;
        let len = file.metadata()?.len();
        Ok(Rotating { path: path.to_owned(), file, len, most })
    }

    /// The highest number is the newest. Nothing is ever removed: that is for whoever keeps the records.
    fn rotate(&mut self) -> io::Result<()> {
        let next = numbers(&self.path)?.max().unwrap_or(0).saturating_add(1);
        fs::rename(&self.path, numbered(&self.path, next))?;
        self.file = append(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// Those that are taken.
fn numbers(path: &Path) -> io::Result<impl Iterator<Item = u64>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    Ok(fs::read_dir(directory)?.filter_map(move |entry| {
        let entry = entry.ok()?.file_name();
        entry.to_str()?.strip_prefix(name.to_str()?)?.strip_prefix('.')?.parse().ok()
    }))
}

impl Write for Rotating {
    /// All of it, each line whole in one file: one that is longer than a file may be has a file of its own.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let len = line.len() as u64;
            if self.len > 0 && self.len.saturating_add(len) > self.most {
                self.rotate()?;
            }
            self.file.write_all(line)?;
            self.len += len;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_in_one_file_in_order_and_none_is_lost() {
        let directory = std::env::temp_dir().join(format!("tollgate-rotating-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("audit.jsonl");
        let lines: Vec<String> = (0..200).map(|n| format!("{n} {}\n", "x".repeat(n % 37))).collect();
        // Opened again now and then, as by a process that is started anew; and one line that is too long for any file.
        for part in lines.chunks(60) {
            let mut file = Rotating::open(&path, 100).expect("it opens");
            for batch in part.chunks(7) {
                file.write_all(batch.concat().as_bytes()).expect("there is room");
            }
            file.flush().expect("it is written");
        }
        let long = format!("{}\n", "y".repeat(1_000));
        Rotating::open(&path, 100).expect("it opens").write_all(long.as_bytes()).expect("there is room");

        let mut old: Vec<u64> = numbers(&path).expect("a directory").collect();
        old.sort_unstable();
        assert!(old.len() > 10 && old.iter().copied().eq(1..=old.len() as u64), "{old:?}");
        let files = old.iter().map(|number| numbered(&path, *number)).chain([path.clone()]);
        let texts: Vec<String> = files.map(|file| fs::read_to_string(file).expect("a file")).collect();
        assert_eq!(texts.concat(), lines.concat() + &long);
        assert!(texts.iter().all(|text| text.ends_with('\n') && (text.len() <= 100 || *text == long)));
        fs::remove_dir_all(&directory).expect("ours");
    }
}
