//! The pepper that keys open under, and the proof that it is the one that they were minted under.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
}

impl Peppers {
    /// `TOLLGATE_PEPPER`, else what the file beside the database holds; it is made, for nobody else to read, when there are
    /// no keys that an older one would have to open. Where there are both, keys from the file's time open what they did.
    pub(crate) fn find(database: &Path, is_new: bool) -> Result<Self, Box<dyn Error>> {
        let path = database.with_extension("pepper");
        let why = |error: &dyn Error| format!("{}: {error}", path.display());
        if let Some(text) = said("TOLLGATE_PEPPER")? {
            let mut found = Self::of(&text).map_err(|error| format!("TOLLGATE_PEPPER: {error}"))?;
            return match std::fs::read_to_string(&path) {
                Ok(before) => {
                    let before = Self::of(&before).map_err(|error| why(&*error))?;
                    found.marks.extend(before.marks);
                    Ok(Peppers { pepper: found.pepper.and_before(before.pepper), marks: found.marks })
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(found),
                Err(error) => Err(why(&error).into()),
            };
        }
        if is_new && !path.exists() {
            make(&path).map_err(|error| why(&error))?;
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}; the keys in {} open under it only", why(&error), database.display()))?;
        Self::of(&text).map_err(|error| why(&*error).into())
    }

    fn of(text: &str) -> Result<Self, Box<dyn Error>> {
        let text = text.trim().as_bytes();
        // No key is such a text, so of no key this is what is stored of it.
        let mut mark = Hmac::<Sha256>::new_from_slice(text)?;
        mark.update(b"the pepper of the example gateway");
        Ok(Peppers { pepper: Pepper::new(text)?, marks: vec![mark.finalize().into_bytes().to_vec()] })
    }

    /// Refuses a pepper under which no key of this file opens: everybody would be locked out, and nobody told why. The file knows
    /// every pepper that keys were minted under since its first key; one whose keys are older than that knows none, and any will do.
    pub(crate) async fn check(&self, database: &Path, is_new: bool, mints: bool) -> Result<(), Box<dyn Error>> {
        let mut file = connect(database).await?;
        if is_new {
            // What an earlier start knew it by that minted nothing is of no use.
            let made =
                "CREATE TABLE IF NOT EXISTS gateway_peppers (mark BLOB PRIMARY KEY); DELETE FROM gateway_peppers";
            sqlx::raw_sql(made).execute(&mut file).await?;
        }
        let there = "SELECT count(*) FROM sqlite_schema WHERE name = 'gateway_peppers'";
        let is_known = sqlx::query_scalar::<_, i64>(there).fetch_one(&mut file).await? > 0;
        if is_known {
            let marks: Vec<Vec<u8>> =
                sqlx::query_scalar("SELECT mark FROM gateway_peppers").fetch_all(&mut file).await?;
            if !is_new && !marks.is_empty() && !self.marks.iter().any(|mark| marks.contains(mark)) {
                let what = "this is not the pepper that the keys were minted under, and none of them would open anything; \
                     start with that one, in TOLLGATE_PEPPER or in the file beside the database; if it is lost, \
                     `DELETE FROM gateway_peppers` there, and mint every key again";
                return Err(format!("{}: {what}", database.display()).into());
            }
            if (is_new || mints) && !marks.contains(&self.marks[0]) {
                let known = sqlx::query("INSERT OR IGNORE INTO gateway_peppers VALUES (?1)").bind(&self.marks[0]);
                known.execute(&mut file).await?;
            }
        }
        file.close().await?;
        Ok(())
    }
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
