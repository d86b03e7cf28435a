//! The keys of a file, beside the gateway that serves them: `mint`, `change`, `revoke` and `keys` open it, do one
//! thing, and end.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use lexopt::prelude::*;
use tollgate::domain::key::KeyRecord;
use tollgate::domain::money::Money;
use tollgate::store::At;
use tollgate::store::budget::{BudgetStore, Standing};
use tollgate::store::key::KeyRegistry;
use tollgate::store::sqlite::Sqlite;

use crate::args::{Command, Database};
use crate::change;
use crate::mint::{self, Mint};
use crate::peppers::Peppers;
use crate::powers;
use crate::welcome::say;

/// Keys read at a time.
pub(crate) const PAGE: usize = 100;

pub(crate) struct Keys {
    file: String,
    what: What,
}

enum What {
    /// `mint KEY …`
    Mint(Vec<Mint>),
    /// `change KEY …`
    Change(Vec<Mint>),
    /// `revoke NAME …`
    Revoke(Vec<String>),
    /// `keys`
    List,
}

impl Keys {
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Command, Box<dyn Error>> {
        let (mut database, mut words) = (Database::default(), Vec::new());
        while let Some(arg) = parser.next()? {
            match arg {
                Long("help") | Short('h') => return Ok(Command::Help),
                Long("database") => database = Database::parse(&parser.value()?.string()?)?,
                Value(word) => words.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let mut words = words.into_iter();
        let verb = words.next().unwrap_or_default();
        let what = match (&*verb, words.len()) {
            ("keys", 0) => What::List,
            ("revoke", 1..) => What::Revoke(words.collect()),
            ("mint", 1..) => What::Mint(mint::several("mint", words)?),
            ("change", 1..) => What::Change(mint::several("change", words)?),
            _ => {
                let usage = "usage: mint KEY [KEY …], change KEY [KEY …], revoke NAME [NAME …] or keys, each with \
                             [--database sqlite://FILE]";
                return Err(usage.into());
            }
        };
        match database {
            Database::Memory => Err(format!("{verb}: keys held in memory can only be changed by the gateway that holds them; use --database sqlite://FILE").into()),
            // Opening a file that is not there would create it.
            Database::Sqlite(file) if !Path::new(&file).exists() => {
                Err(format!("{verb}: there is no file {file}").into())
            }
            Database::Sqlite(file) => Ok(Command::Keys(Keys { file, what })),
        }
    }

    pub(crate) async fn run(self) -> Result<(), Box<dyn Error>> {
        let database = Sqlite::open(&self.file).await?;
        let keys = database.keys();
        match self.what {
            What::Mint(new) => {
                let is_first = keys.is_empty().await?;
                let peppers = Peppers::find(Path::new(&self.file), is_first)?;
                if is_first {
                    tracing::warn!(
                        "this is the first key of {}: a gateway that is already running does not ask for keys until it restarts",
                        self.file
                    );
                } else {
                    peppers.check_shared().await?;
                }
                // None is minted where one of them cannot be.
                for one in &new {
                    one.check("mint", &keys, true).await?;
                    if keys.named(one.name()).await?.is_some_and(|key| mint::is_over(&key)) {
                        let why = "was revoked or has expired, and stays so: mint a key of another name";
                        return Err(format!("mint: the key {} {why}", one.name()).into());
                    }
                }
                mint::all("mint", new, &keys, &peppers).await?;
            }
            What::Change(changes) => change::all(&changes, &keys).await?,
            What::Revoke(names) => {
                // None is revoked where one of them is misspelt.
                mint::check_known(&keys, "revoke", &names).await?;
                let mut heard = Ok(());
                for name in names {
                    mint::revoke(&keys, "revoke", &name).await?;
                    // That nobody reads this must not leave the other keys good.
                    heard = heard.and(say(format_args!("revoked {name}")));
                }
                heard.map_err(|error| format!("every key is revoked, but that could not be printed: {error}"))?;
            }
            What::List => list(&keys, &database.budgets()).await?,
        }
        database.close().await?;
        Ok(())
    }
}

/// Prints a line per key: its state, what it may do, and what is spent and held of its budgets.
async fn list(keys: &impl KeyRegistry, budgets: &impl BudgetStore) -> Result<(), Box<dyn Error>> {
    let mut last = None;
    loop {
        let page = keys.list(last.as_deref(), PAGE).await?;
        for key in &page {
            let standings = budgets.standing(&key.principal.budgets, At::Store).await?;
            match say(format_args!("{}", line(key, &standings))) {
                // Whoever reads the list has seen enough: `keys | head`.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                said => said?,
            }
        }
        match page.last() {
            Some(key) if page.len() == PAGE => last = Some(key.principal.name.clone()),
            _ => return Ok(()),
        }
    }
}

fn line(key: &KeyRecord, standings: &[Standing]) -> String {
    let state = match key.expires_at {
        _ if key.disabled => "revoked".to_owned(),
        Some(at) if mint::is_over(key) => format!("expired at {at}"),
        Some(at) => format!("expires at {at}"),
        None => "good".to_owned(),
    };
    let mut line = format!("{}: {state}; {}", shown(&key.principal.name), powers::said(&key.principal));
    for Standing { budget, spent, held, .. } in
        standings.iter().filter(|standing| standing.spent > Money::ZERO || standing.held > Money::ZERO)
    {
        let _ = write!(line, "; {spent} spent and {held} held of {}", powers::amount(budget));
    }
    printable(&line)
}

/// Replaces what would end a line, or change what a terminal shows.
pub(crate) fn printable(line: &str) -> String {
    line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A name may have any letters. One that could be taken for the rest of a line, or for another, is quoted.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    match name.contains([':', ';', '"', '\n']) {
        true => format!("{name:?}").into(),
        false => name.into(),
    }
}
