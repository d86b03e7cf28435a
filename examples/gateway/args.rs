//! Parses the command line.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;
use tollgate::domain::content::Keep;
use tollgate::store::journal::Head;
use uuid::Uuid;

use crate::keys::Keys;
use crate::mint::{self, Mint};

/// The most days for which content is kept, apart from for ever: a hundred years. After 0 days it would be gone at once.
const MOST_DAYS: u64 = 36_500;

/// What the command line asks for.
pub(crate) enum Command {
    Help,
    Version,
    Serve(Args),
    /// `audit verify PATH`, `audit export DIRECTORY`, `audit content FILE CALL [JOURNAL]`.
    Audit(Audit),
    /// `mint KEY …`, `change KEY …`, `revoke NAME …`, `keys`: the keys of a file, beside the gateway that serves them.
    Keys(Keys),
}

/// An operation on a journal, or on content that was kept.
pub(crate) enum Audit {
    Verify { path: PathBuf, anchors: Vec<Head> },
    Export { directory: PathBuf },
    Content { file: PathBuf, call: Uuid, journal: Option<PathBuf> },
}

/// The options for serving.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) database: Database,
    pub(crate) trail: Trail,
    pub(crate) content: Option<Content>,
    pub(crate) mint: Vec<Mint>,
    /// Names of the keys to revoke.
    pub(crate) revoke: Vec<String>,
}

/// Where records and events go besides the database.
pub(crate) struct Trail {
    /// The directory of the journal, in which every call is written down before it is sent.
    pub(crate) journal: Option<PathBuf>,
    /// The URL of a Slack webhook that receives events.
    pub(crate) notify: Option<String>,
}

/// How the content of prompts and answers is kept.
pub(crate) struct Content {
    /// The SQLite file for the content, apart from the database.
    pub(crate) file: PathBuf,
    /// How much is kept of a call whose key sets nothing else.
    pub(crate) keep: Keep,
    pub(crate) days: Option<u64>,
}

/// Where keys, budgets and the audit trail are kept.
pub(crate) enum Database {
    /// In memory, until the process ends.
    Memory,
    /// In the SQLite file at this path.
    Sqlite(String),
}

impl Command {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Box<dyn Error>> {
        let mut parser = lexopt::Parser::from_iter(args);
        let first = parser.try_raw_args().and_then(|args| args.peek().map(OsStr::to_os_string));
        let command = match first.as_deref().and_then(OsStr::to_str) {
            Some("audit") => Audit::parse(&mut parser),
            Some("mint" | "change" | "revoke" | "keys") => Keys::parse(&mut parser),
            _ => Args::parse(&mut parser),
        };
        command.map_err(|error| match error.is::<lexopt::Error>() {
            true => format!("{error}; see --help").into(),
            false => error,
        })
    }
}

impl Audit {
    fn parse(parser: &mut lexopt::Parser) -> Result<Command, Box<dyn Error>> {
        let (mut words, mut anchors) = (Vec::new(), Vec::new());
        while let Some(arg) = parser.next()? {
            match arg {
                Long("help") | Short('h') => return Ok(Command::Help),
                Long("anchor") => {
                    let value = parser.value()?.string()?;
                    anchors.push(value.parse().map_err(|error| format!("--anchor {value}: {error}"))?);
                }
                Value(word) => words.push(word),
                other => return Err(other.unexpected().into()),
            }
        }
        let words: Vec<_> = words.iter().skip(1).collect();
        let audit = match words[..] {
            [verb, path] if verb == "verify" => Audit::Verify { path: path.into(), anchors },
            [verb, directory] if verb == "export" && anchors.is_empty() => {
                Audit::Export { directory: directory.into() }
            }
            [verb, file, call, ref journal @ ..] if verb == "content" && anchors.is_empty() && journal.len() < 2 => {
                let call = call.to_str().and_then(|call| call.parse().ok()).ok_or("CALL is not a call id (a UUID)")?;
                Audit::Content { file: file.into(), call, journal: journal.first().map(PathBuf::from) }
            }
            _ => return Err("usage: audit verify DIRECTORY-OR-EXPORT [--anchor SEQ:HASH], audit export DIRECTORY, or audit content FILE CALL [DIRECTORY-OR-EXPORT]".into()),
        };
        Ok(Command::Audit(audit))
    }
}

impl Args {
    fn parse(parser: &mut lexopt::Parser) -> Result<Command, Box<dyn Error>> {
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 4000));
        let mut database = Database::default();
        let (mut journal, mut notify, mut mint, mut revoke) = (None, None, Vec::new(), Vec::new());
        let (mut content, mut keep, mut days) = (None, None, None);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("help") | Short('h') => return Ok(Command::Help),
                Long("version") | Short('V') => return Ok(Command::Version),
                Long("listen") => {
                    let value = parser.value()?.string()?;
                    listen = value
                        .parse()
                        .map_err(|_| format!("--listen {value}: not an address, such as 127.0.0.1:4000"))?;
                }
                Long("database") => database = Database::parse(&parser.value()?.string()?)?,
                Long("journal") => journal = Some(parser.value()?.into()),
                Long("notify") => notify = Some(parser.value()?.string()?),
                Long("revoke") => revoke.push(parser.value()?.string()?),
                Long("content") => content = Some(parser.value()?.into()),
                Long("keep") => {
                    keep = Some(kept(&parser.value()?.string()?).map_err(|error| format!("--keep: {error}"))?);
                }
                Long("keep-days") => {
                    let value = parser.value()?.string()?;
                    days = Some(whole(&value, 1, MOST_DAYS).map_err(|error| format!("--keep-days {value}: {error}"))?);
                }
                Long("mint") => {
                    let value = parser.value()?.string()?;
                    mint.push(value);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        let mint = mint::several("--mint", mint)?;
        if notify.is_some() && journal.is_none() {
            return Err("--notify needs a journal: add --journal DIR".into());
        }
        let content = match content {
            Some(file) => Some(Content { file, keep: keep.unwrap_or_default(), days }),
            None if keep.is_some() || days.is_some() => {
                return Err("--keep and --keep-days need --content FILE".into());
            }
            None if mint.iter().any(Mint::keeps_content) => {
                return Err("--mint: `content` needs a file to keep content in: add --content FILE".into());
            }
            None => None,
        };
        if let (Database::Sqlite(path), Some(Content { file, .. })) = (&database, &content)
            && is_same(Path::new(path), file)
        {
            let why = "this is the file of --database; content is kept in a file of its own, so name another one";
            return Err(format!("--content {}: {why}", file.display()).into());
        }
        Ok(Command::Serve(Args { listen, database, trail: Trail { journal, notify }, content, mint, revoke }))
    }
}

/// Parses a number of at least `least` and at most `most`.
pub(crate) fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let range = || format!("give a whole number from {least} to {most}");
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(number),
        None if is_number => Err(format!("out of range; {}", range())),
        None => Err(format!("not a whole number; {}", range())),
    }
}

/// Parses how much content to keep.
pub(crate) fn kept(text: &str) -> Result<Keep, String> {
    match text.parse() {
        Ok(Keep::Redacted) if !cfg!(feature = "redact") => {
            Err("redacted: build the example with the feature `redact` too".to_owned())
        }
        Ok(keep) => Ok(keep),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

/// Whether both paths lead to one file, which need not be there yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| {
        path.canonicalize().ok().or_else(|| {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(directory.canonicalize().ok()?.join(path.file_name()?))
        })
    };
    let inode = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let is_same_path = resolved(one).is_some_and(|one| resolved(other).is_some_and(|other| one == other));
    // A hard link has a path of its own.
    is_same_path || inode(one).is_some_and(|one| inode(other) == Some(one))
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Memory => f.write_str("in memory only"),
            Database::Sqlite(path) => f.write_str(path),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Database::Sqlite("tollgate.db".to_owned())
    }
}

impl Database {
    /// Whether the database file exists.
    pub(crate) fn exists(&self) -> bool {
        matches!(self, Database::Sqlite(path) if Path::new(path).exists())
    }

    pub(crate) fn parse(url: &str) -> Result<Self, Box<dyn Error>> {
        match url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            None if url == "memory:" => Ok(Database::Memory),
            // Options such as `?mode=rwc` would become part of the file name.
            Some(path) if !path.is_empty() && !path.contains('?') => Ok(Database::Sqlite(path.to_owned())),
            _ => Err(format!("--database {url}: neither sqlite://FILE nor memory:").into()),
        }
    }
}
