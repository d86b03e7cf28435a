use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use lexopt::prelude::*;
use tollgate::store::journal::Head;

use crate::mint::Mint;

/// What the command line asks for.
pub(crate) enum Command {
    Serve(Args),
    /// `audit verify PATH`, `audit export DIRECTORY`.
    Audit(Audit),
}

/// What is to be done with a journal.
pub(crate) enum Audit {
    Verify { path: PathBuf, anchors: Vec<Head> },
    Export { directory: PathBuf },
}

/// How to serve.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) database: Database,
    pub(crate) trail: Trail,
    pub(crate) mint: Vec<Mint>,
}

/// What becomes of records and events on their way.
pub(crate) struct Trail {
    /// Where calls are written down before they are sent, if they are.
    pub(crate) journal: Option<PathBuf>,
    /// Who is told of what somebody should hear of: a webhook as Slack has them.
    pub(crate) notify: Option<String>,
}

/// Where keys, budgets and the audit trail are kept.
pub(crate) enum Database {
    /// Until the process ends.
    Memory,
    /// In one file of this path.
    Sqlite(String),
}

impl Command {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Box<dyn Error>> {
        let mut parser = lexopt::Parser::from_iter(args);
        match parser.try_raw_args().and_then(|args| args.peek().map(|first| first == "audit")) {
            Some(true) => Audit::parse(&mut parser).map(Command::Audit),
            _ => Args::parse(&mut parser).map(Command::Serve),
        }
    }
}

impl Audit {
    fn parse(parser: &mut lexopt::Parser) -> Result<Self, Box<dyn Error>> {
        let (mut words, mut anchors) = (Vec::new(), Vec::new());
        while let Some(arg) = parser.next()? {
            match arg {
                Long("anchor") => {
                    let value = parser.value()?.string()?;
                    anchors.push(value.parse().map_err(|error| format!("--anchor {value}: {error}"))?);
                }
                Value(word) => words.push(word),
                other => return Err(other.unexpected().into()),
            }
        }
        let words: Vec<_> = words.iter().skip(1).collect();
        match words[..] {
            [verb, path] if verb == "verify" => Ok(Audit::Verify { path: path.into(), anchors }),
            [verb, directory] if verb == "export" && anchors.is_empty() => {
                Ok(Audit::Export { directory: directory.into() })
            }
            _ => Err("audit verify DIRECTORY-OR-EXPORT [--anchor SEQ:HASH], or audit export DIRECTORY".into()),
        }
    }
}

impl Args {
    fn parse(parser: &mut lexopt::Parser) -> Result<Self, Box<dyn Error>> {
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 4000));
        let mut database = Database::Sqlite("tollgate.db".to_owned());
        let (mut journal, mut notify, mut mint) = (None, None, Vec::new());
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => {
                    let value = parser.value()?.string()?;
                    listen = value
                        .parse()
                        .map_err(|_| format!("--listen {value}: not an address, such as 127.0.0.1:4000"))?;
                }
                Long("database") => database = Database::parse(&parser.value()?.string()?)?,
                Long("journal") => journal = Some(parser.value()?.into()),
                Long("notify") => notify = Some(parser.value()?.string()?),
                Long("mint") => {
                    let value = parser.value()?.string()?;
                    mint.push(Mint::parse(&value).map_err(|error| format!("--mint {value}: {error}"))?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        for (at, one) in mint.iter().enumerate() {
            if mint[..at].iter().any(|other: &Mint| other.name() == one.name()) {
                return Err(format!("--mint: {} is named twice", one.name()).into());
            }
        }
        if notify.is_some() && journal.is_none() {
            return Err("--notify: events go by way of a journal; say where with --journal DIR".into());
        }
        Ok(Args { listen, database, trail: Trail { journal, notify }, mint })
    }
}

impl Database {
    fn parse(url: &str) -> Result<Self, Box<dyn Error>> {
        match url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            None if url == "memory:" => Ok(Database::Memory),
            // `?mode=rwc` and the like would be part of the name.
            Some(path) if !path.is_empty() && !path.contains('?') => Ok(Database::Sqlite(path.to_owned())),
            _ => Err(format!("--database {url}: neither sqlite://FILE nor memory:").into()),
        }
    }
}
