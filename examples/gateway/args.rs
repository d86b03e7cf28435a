use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;

use lexopt::prelude::*;

use crate::mint::Mint;

/// The command line.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) database: Database,
    pub(crate) mint: Vec<Mint>,
}

/// Where keys, budgets and the audit trail are kept.
pub(crate) enum Database {
    /// Until the process ends.
    Memory,
    /// In one file of this path.
    Sqlite(String),
}

impl Args {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Box<dyn Error>> {
        let mut parser = lexopt::Parser::from_iter(args);
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 4000));
        let mut database = Database::Sqlite("tollgate.db".to_owned());
        let mut mint = Vec::new();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => {
                    let value = parser.value()?.string()?;
                    listen = value
                        .parse()
                        .map_err(|_| format!("--listen {value}: not an address, such as 127.0.0.1:4000"))?;
                }
                Long("database") => database = Database::parse(&parser.value()?.string()?)?,
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
        Ok(Args { listen, database, mint })
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
