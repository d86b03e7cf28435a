//! Finds the pepper that keys are hashed with, and checks that keys were minted under it.

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

/// The pepper, and the marks that identify it and the previous one.
pub(crate) struct Peppers {
    pub(crate) pepper: Pepper,
    /// The mark of the pepper for new keys comes first.
    marks: Vec<Vec<u8>>,
    /// The file of the keys. `None` if the keys are in memory.
    database: Option<PathBuf>,
}

impl Peppers {
    /// Takes the pepper from `TOLLGATE_PEPPER`, or else from the file beside the database.
    ///
    /// If there are no keys yet, the file is created, readable by its owner alone. If both are there, new keys use
    /// `TOLLGATE_PEPPER`, and keys that were minted under the file's pepper stay valid.
    pub(crate) fn find(database: &Path, is_new: bool) -> Result<Self, Box<dyn Error>> {
        Self::of_file(database, is_new).map(|found| Peppers { database: Some(database.to_owned()), ..found })
    }

    /// Makes a random pepper, for keys that live only as long as the process.
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
                "{}; the keys in {} only work with this pepper: put the file back, or set the pepper in TOLLGATE_PEPPER; if \
                 it is lost, set a new one there, run `DELETE FROM gateway_peppers` in that database, and mint every key \
                 again",
                why(&error),
                database.display()
            )
        })?;
        Self::of(&text).map_err(|error| why(&*error).into())
    }

    fn of(text: &str) -> Result<Self, Box<dyn Error>> {
        let text = text.trim().as_bytes();
        // This text is not a valid key, so the mark is never the stored hash of a key.
        let mut mark = Hmac::<Sha256>::new_from_slice(text)?;
        mark.update(b"the pepper of the example gateway");
        Ok(Peppers { pepper: Pepper::new(text)?, marks: vec![mark.finalize().into_bytes().to_vec()], database: None })
    }

    /// Refuses a pepper under which no key of this file was minted: it would lock everybody out without saying why.
    ///
    /// The file records a mark of each pepper that keys were minted under, from its first key on. If another program
    /// minted the first key, the file has no marks, and any pepper is accepted.
    pub(crate) async fn check(&self) -> Result<(), Box<dyn Error>> {
        let Some(database) = &self.database else { return Ok(()) };
        let known = known(database).await?;
        if known.is_empty() || self.marks.iter().any(|mark| known.contains(mark)) {
            return Ok(());
        }
        let what = "this is not the pepper that the keys were minted with, so none of them would work: start with that \
                    pepper, in TOLLGATE_PEPPER or in the file beside the database; to change the pepper, keep the old one \
                    in the file and put the new one into TOLLGATE_PEPPER; if the old one is lost, run `DELETE FROM \
                    gateway_peppers` in this database, and mint every key again";
        Err(format!("{}: {what}", database.display()).into())
    }

    /// Refuses to mint beside a gateway with a pepper that no key was minted under yet: the gateway may have another one,
    /// and would refuse the new secret, as it would the one before.
    pub(crate) async fn check_shared(&self) -> Result<(), Box<dyn Error>> {
        self.check().await?;
        let Some(database) = &self.database else { return Ok(()) };
        let known = known(database).await?;
        if known.is_empty() || known.contains(&self.marks[0]) {
            return Ok(());
        }
        let what = "no key was minted with this pepper yet, and a gateway that is running may have another one: use the \
                    TOLLGATE_PEPPER that the gateway has; to change the pepper, restart the gateway with it and --mint";
        Err(format!("{}: {what}", database.display()).into())
    }

    /// Records the mark of the pepper before a key is minted under it.
    ///
    /// The first key (`is_first`) starts the list of marks. A file that has keys but no list gets none.
    pub(crate) async fn note(&self, is_first: bool) -> Result<(), Box<dyn Error>> {
        let Some(database) = &self.database else { return Ok(()) };
        let mut file = connect(database).await?;
        if is_first {
            // Without keys, older marks belong to no key.
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

/// Refuses a database that is missing while its pepper is there, as where a file was lost or a volume is not mounted.
/// The gateway would begin anew without keys, and let everybody in.
pub(crate) fn check_not_lost(database: &Path) -> Result<(), String> {
    let pepper = database.with_extension("pepper");
    match pepper.exists() && !database.exists() {
        true => Err(format!(
            "{} is there but {} is not: restore the file, or remove the pepper to begin anew",
            pepper.display(),
            database.display()
        )),
        false => Ok(()),
    }
}

/// The marks of the peppers that keys of this file were minted under, if they are kept.
async fn known(database: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut file = connect(database).await?;
    let known = match is_kept(&mut file).await? {
        true => sqlx::query_scalar("SELECT mark FROM gateway_peppers").fetch_all(&mut file).await?,
        false => Vec::new(),
    };
    file.close().await?;
    Ok(known)
}

async fn is_kept(file: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let there = "SELECT count(*) FROM sqlite_schema WHERE name = 'gateway_peppers'";
    Ok(sqlx::query_scalar::<_, i64>(there).fetch_one(file).await? > 0)
}

/// Counts the keys of this file that are not revoked.
pub(crate) async fn count(database: &Path) -> Result<i64, Box<dyn Error>> {
    let mut file = connect(database).await?;
    let keys = sqlx::query_scalar("SELECT count(*) FROM tollgate_keys WHERE disabled = 0").fetch_one(&mut file).await?;
    file.close().await?;
    Ok(keys)
}

async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new().filename(database).disable_statement_logging().connect().await
}

/// Creates the file, whole or not at all. If two gateways start at once, both use the file of the first.
fn make(path: &Path) -> std::io::Result<()> {
    let text = Pepper::mint_text().map_err(std::io::Error::other)?;
    // A random name. A process id would not do: in a container it is the same at each start, and the file that a killed
    // process left behind would block all later starts.
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
