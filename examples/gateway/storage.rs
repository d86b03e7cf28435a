use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollgate::audit::{Slack, TracingSink};
use tollgate::domain::key::Pepper;
use tollgate::store::audit::AuditSink;
use tollgate::store::budget::BudgetStore;
use tollgate::store::journal::{Corrected, Events, Journal, Sealer};
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::store::sqlite::Sqlite;
use tollgate::store::watched::WatchedKeys;
use tollgate::upstream::HttpClient;
use tollgate::{AuditLayer, ContentLayer};
use uuid::Uuid;

use crate::args::{Args, Content, Database, Trail};
use crate::mint;
use crate::providers::said;

/// All that the gateway keeps.
pub(crate) struct Storage {
    pub(crate) stores: Stores,
    pub(crate) audit: AuditLayer,
    /// Where it is said what somebody should hear of, if there is a journal that keeps it.
    pub(crate) events: Option<Events>,
    /// What prompts and answers hold, if any of it is kept.
    pub(crate) content: Option<ContentLayer>,
    pub(crate) pepper: Pepper,
    database: Option<Sqlite>,
    contents: Option<Sqlite>,
}

/// What calls are let through by.
pub(crate) struct Stores {
    pub(crate) keys: Arc<dyn KeyRegistry>,
    pub(crate) limits: Arc<dyn RateLimitStore>,
    pub(crate) budgets: Arc<dyn BudgetStore>,
}

/// What is there of calls besides their ledger.
struct Trails {
    audit: AuditLayer,
    events: Option<Events>,
    sealer: Option<Sealer>,
}

impl Storage {
    pub(crate) async fn open(args: &Args) -> Result<Self, Box<dyn Error>> {
        let Args { database, trail, content, .. } = args;
        let Database::Sqlite(path) = database else {
            let budgets = Arc::new(MemoryBudgets::new());
            let trails = trails(trail, "log", TracingSink::new(), &budgets).await?;
            let pepper = Pepper::new(Pepper::mint_text()?.as_bytes())?;
            let (keys, limits) = (Arc::new(MemoryKeys::new()), Arc::new(MemoryLimits::new()));
            return Self::with(trails, content, Stores { keys, limits, budgets }, pepper, None).await;
        };
        let database = Sqlite::open(path).await?;
        database.migrate().await?;
        let keys = database.keys();
        let pepper = pepper(Path::new(path), keys.is_empty().await?)?;
        let budgets = Arc::new(database.budgets());
        let trails = trails(trail, "sqlite", database.audit(), &budgets).await?;
        let stores = Stores { keys: Arc::new(keys), limits: Arc::new(database.limits()), budgets };
        Self::with(trails, content, stores, pepper, Some(database)).await
    }

    async fn with(
        trails: Trails,
        content: &Option<Content>,
        stores: Stores,
        pepper: Pepper,
        database: Option<Sqlite>,
    ) -> Result<Self, Box<dyn Error>> {
        let Trails { audit, events, sealer } = trails;
        let Stores { keys, limits, budgets } = stores;
        // Whoever revokes one of them tells.
        let keys = match events.clone() {
            Some(events) => Arc::new(WatchedKeys::new(keys, events)),
            None => keys,
        };
        let stores = Stores { keys, limits, budgets };
        let (content, contents) = match content {
            Some(content) => {
                let contents = Sqlite::open(&content.file).await?;
                contents.migrate().await?;
                (Some(kept(content, &contents, sealer)), Some(contents))
            }
            None => (None, None),
        };
        Ok(Storage { stores, audit, events, content, pepper, database, contents })
    }

    /// After the last settlement and record.
    pub(crate) async fn close(&self) -> Result<(), Box<dyn Error>> {
        for database in [&self.contents, &self.database].into_iter().flatten() {
            database.close().await?;
        }
        Ok(())
    }
}

/// Revokes these keys of the file, beside the gateway that serves them: nothing else is read or made, and no lock is in the way.
pub(crate) async fn revoke(file: &str, names: &[String]) -> Result<(), Box<dyn Error>> {
    // To open one that is not there would make it.
    if !Path::new(file).exists() {
        return Err(format!("revoke: there is no file {file}").into());
    }
    let database = Sqlite::open(file).await?;
    for name in names {
        mint::revoke(&database.keys(), "revoke", name).await?;
        println!("revoked {name}");
    }
    database.close().await?;
    Ok(())
}

fn kept(content: &Content, contents: &Sqlite, sealer: Option<Sealer>) -> ContentLayer {
    let mut layer = ContentLayer::new(contents.contents()).keep(content.keep);
    #[cfg(feature = "redact")]
    {
        layer = layer.redact_by(tollgate::content::Patterns::common());
    }
    if let Some(days) = content.days {
        layer = layer.retain(Duration::from_secs(u64::from(days) * 86_400));
    }
    if let Some(sealer) = sealer {
        layer = layer.sealed_by(sealer);
    }
    layer
}

/// Straight into the sink, or by way of a journal in this directory, which is made if it is not there.
async fn trails(
    trail: &Trail,
    name: &str,
    sink: impl AuditSink,
    budgets: &impl BudgetStore,
) -> Result<Trails, Box<dyn Error>> {
    let Some(dir) = &trail.journal else {
        return Ok(Trails { audit: AuditLayer::new(sink), events: None, sealer: None });
    };
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(format!("--journal {}: {error}", dir.display()).into());
        }
        _ => {}
    }
    let mut journal = Journal::at(dir).open()?;
    let corrected = journal.settle_lost(budgets).await?;
    if corrected != Corrected::default() {
        let Corrected { lost, told_again, too_old, .. } = corrected;
        tracing::warn!(
            lost,
            told_again,
            too_old,
            "a gateway before this one ended in the middle of calls; their budgets are corrected"
        );
    }
    let (events, sealer, mut journal) = (journal.events(), journal.sealer(), journal.ship(name, sink)?);
    if let Some(url) = &trail.notify {
        let slack = Slack::new(url, HttpClient::new()?).map_err(|error| format!("--notify: {error}"))?;
        journal = journal.notify("slack", slack)?;
    }
    Ok(Trails { audit: AuditLayer::journaled(journal), events: Some(events), sealer: Some(sealer) })
}

/// `TOLLGATE_PEPPER`, else what the file beside the database holds; it is made, for nobody else to read, when there are
/// no keys that an older one would have to open. Where there are both, keys from the file's time open what they did.
fn pepper(database: &Path, is_new: bool) -> Result<Pepper, Box<dyn Error>> {
    let path = database.with_extension("pepper");
    let why = |error: &dyn Error| format!("{}: {error}", path.display());
    if let Some(text) = said("TOLLGATE_PEPPER")? {
        let pepper = Pepper::new(text.trim().as_bytes()).map_err(|error| format!("TOLLGATE_PEPPER: {error}"))?;
        return match std::fs::read_to_string(&path) {
            Ok(before) => Ok(pepper.and_before(Pepper::new(before.trim().as_bytes()).map_err(|error| why(&error))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(pepper),
            Err(error) => Err(why(&error).into()),
        };
    }
    if is_new && !path.exists() {
        make(&path).map_err(|error| why(&error))?;
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}; the keys in {} open under it only", why(&error), database.display()))?;
    Pepper::new(text.trim().as_bytes()).map_err(|error| why(&error).into())
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
