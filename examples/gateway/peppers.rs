//! The pepper that keys are hashed with, and the check that it is the one that they were minted under.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tollgate::domain::key::Pepper;
use uuid::Uuid;

use crate::providers::said;

/// The pepper, and what it and the one before it are known by.
pub(crate) struct Peppers {
    pub(crate) pepper: Pepper,
    /// That of new keys first.
    marks: Vec<Vec<u8>>,
    /// Where the keys are, unless they are in memory.
    database: Option<PathBuf>,
}

impl Peppers {
    /// `TOLLGATE_PEPPER`, else what the file beside the database holds; it is made, for nobody else to read, when there are
    /// no keys that an older one would have to open. Where there are both, keys from the file's time open what they did.
    pub(crate) fn find(database: &Path, is_new: bool) -> Result<Self, Box<dyn Error>> {
        Self::of_file(database, is_new).map(|found| Peppers { database: Some(database.to_owned()), ..found })
    }

    /// For keys that are gone when the process is.
    pub(crate) fn in_memory() -> Result<Self, Box<dyn Error>> {
        Self::of(&Pepper::mint_text()?)
    }

    fn of_file(database: &Path, is_new: bool) -> Result<Self, Box<dyn Error>> {
        let path = database.with_extension("pepper");
        let why = |error: &dyn Error| format!("{}: {error}", path.display());
        if let Some(text) = said("TOLLGATE_PEPPER")? {
            let mut found = Self::of(&text).map_err(|error| format!("TOLLGATE_PEPPER: {error}"))?;
            return match std::fs::read_to_string(&path) {
                Ok(before) => {
                    let before = Self::of(&before).map_err(|error| why(&*error))?;
                    found.marks.extend(before.marks);
                    Ok(Peppers { pepper: found.pepper.and_before(before.pepper), ..found })
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(found),
                Err(error) => Err(why(&error).into()),
            };
        }
        if is_new && !path.exists() {
            make(&path).map_err(|error| why(&error))?;
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| {
            format!(
                "{}; the keys in {} open under it only: put it back, or in TOLLGATE_PEPPER; if it is lost, set another there, \
                 `DELETE FROM gateway_peppers` in that file, and mint every key again",
                why(&error),
                database.display()
            )
        })?;
        Self::of(&text).map_err(|error| why(&*error).into())
    }

    fn of(text: &str) -> Result<Self, Box<dyn Error>> {
        let text = text.trim().as_bytes();
        // No key is such a text, so of no key this is what is stored of it.
        let mut mark = Hmac::<Sha256>::new_from_slice(text)?;
        mark.update(b"the pepper of the example gateway");
        Ok(Peppers { pepper: Pepper::new(text)?, marks: vec![mark.finalize().into_bytes().to_vec()], database: None })
    }

    /// Refuses a pepper under which no key of this file opens: everybody would be locked out, and nobody told why. The file knows
    /// every pepper that keys were minted under since its first key; one whose first keys are older than this knows none, and any
    /// will do.
    pub(crate) async fn check(&self) -> Result<(), Box<dyn Error>> {
        let Some(database) = &self.database else { return Ok(()) };
        let mut file = connect(database).await?;
        let known: Vec<Vec<u8>> = match is_kept(&mut file).await? {
            true => sqlx::query_scalar("SELECT mark FROM gateway_peppers").fetch_all(&mut file).await?,
            false => Vec::new(),
        };
        file.close().await?;
        if known.is_empty() || self.marks.iter().any(|mark| known.contains(mark)) {
            return Ok(());
        }
        let what = "this is not the pepper that the keys were minted under, and none of them would open anything: start with that \
             one, in TOLLGATE_PEPPER or in the file beside the database; to change it, put that one into the file and the new one \
             into TOLLGATE_PEPPER; if it is lost, `DELETE FROM gateway_peppers` there, and mint every key again";
        Err(format!("{}: {what}", database.display()).into())
    }

    /// Writes down that a key is about to be minted under it: the first one of all (`is_first`), or one more where all are known.
    pub(crate) async fn note(&self, is_first: bool) -> Result<(), Box<dyn Error>> {
        let Some(database) = &self.database else { return Ok(()) };
        let mut file = connect(database).await?;
        if is_first {
            // What was known before there was a key is of none.
            let made =
                "CREATE TABLE IF NOT EXISTS gateway_peppers (mark BLOB PRIMARY KEY); DELETE FROM gateway_peppers";
            sqlx::raw_sql(made).execute(&mut file).await?;
        }
        if is_kept(&mut file).await? {
            let known = sqlx::query("INSERT OR IGNORE INTO gateway_peppers VALUES (?1)").bind(&self.marks[0]);
            known.execute(&mut file).await?;
        }
        file.close().await?;
        Ok(())
    }
}

async fn is_kept(file: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let there = "SELECT count(*) FROM sqlite_schema WHERE name = 'gateway_peppers'";
    Ok(sqlx::query_scalar::<_, i64>(there).fetch_one(file).await? > 0)
}

/// How many keys of this file may call, as far as nobody has revoked them.
pub(crate) async fn count(database: &Path) -> Result<i64, Box<dyn Error>> {
    let mut file = connect(database).await?;
    let keys = sqlx::query_scalar("SELECT count(*) FROM tollgate_keys WHERE disabled = 0").fetch_one(&mut file).await?;
    file.close().await?;
    Ok(keys)
}

async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new().filename(database).disable_statement_logging().connect().await
}

/// Whole, or not at all; and of two gateways that start at once, both have the first one's.
fn make(path: &Path) -> std::io::Result<()> {
    let text = Pepper::mint_text().map_err(std::io::Error::other)?;
    // Of a name that nobody else has: in a container every process is the first, and what one of them left that was killed here
    // would be in the way of all that come after.
    let new = path.with_extension(format!("pepper-{}", Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let linked =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&new, path));
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
