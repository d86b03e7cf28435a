//! Opens the stores, the audit trail and the content file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tollgate::audit::{Slack, TracingSink};
use tollgate::domain::event::{Event, What};
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::budget::BudgetStore;
use tollgate::store::event::EventSink;
use tollgate::store::journal::{Corrected, Events, Journal, Sealer};
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::store::sqlite::Sqlite;
use tollgate::store::watched::WatchedKeys;
use tollgate::upstream::HttpClient;
use tollgate::{AuditLayer, ContentLayer};

use crate::args::{Args, Content, Database, Trail};
use crate::peppers::Peppers;

/// Everything that the gateway stores.
pub(crate) struct Storage {
    pub(crate) stores: Stores,
    pub(crate) audit: AuditLayer,
    /// Takes the events. `None` without a journal.
    pub(crate) events: Option<Events>,
    /// Keeps the content of prompts and answers. `None` without `--content`.
    pub(crate) content: Option<ContentLayer>,
    pub(crate) peppers: Peppers,
    /// The directory of the journal, if there is one.
    pub(crate) journal: Option<PathBuf>,
    database: Option<Sqlite>,
    contents: Option<Sqlite>,
}

/// The stores that decide whether a call is admitted.
pub(crate) struct Stores {
    pub(crate) keys: Arc<dyn KeyRegistry>,
    pub(crate) limits: Arc<dyn RateLimitStore>,
    pub(crate) budgets: Arc<dyn BudgetStore>,
}

/// The audit trail, and what a journal adds to it.
struct Trails {
    audit: AuditLayer,
    journal: Option<PathBuf>,
    events: Option<Events>,
    sealer: Option<Sealer>,
}

impl Storage {
    pub(crate) async fn open(args: &Args) -> Result<Self, Box<dyn Error>> {
        let Args { database, trail, content, .. } = args;
        let Database::Sqlite(path) = database else {
            let budgets = Arc::new(MemoryBudgets::new());
            let trails = trails(trail, "log", TracingSink::new(), &budgets).await?;
            let peppers = Peppers::in_memory()?;
            let (keys, limits) = (Arc::new(MemoryKeys::new()), Arc::new(MemoryLimits::new()));
            return Self::with(trails, content, Stores { keys, limits, budgets }, peppers, None).await;
        };
        let database = Sqlite::open(path).await?;
        database.migrate().await?;
        let keys = database.keys();
        let (path, is_new) = (Path::new(path), keys.is_empty().await?);
        let peppers = Peppers::find(path, is_new)?;
        if !is_new {
            peppers.check().await?;
        }
        let budgets = Arc::new(database.budgets());
        let trails = trails(trail, "sqlite", database.audit(), &budgets).await?;
        let stores = Stores { keys: Arc::new(keys), limits: Arc::new(database.limits()), budgets };
        Self::with(trails, content, stores, peppers, Some(database)).await
    }

    async fn with(
        trails: Trails,
        content: &Option<Content>,
        stores: Stores,
        peppers: Peppers,
        database: Option<Sqlite>,
    ) -> Result<Self, Box<dyn Error>> {
        let Trails { audit, journal, events, sealer } = trails;
        let Stores { keys, limits, budgets } = stores;
        // Revoking a key through this registry sends an event.
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
        Ok(Storage { stores, audit, events, content, peppers, journal, database, contents })
    }

    /// Closes the databases. Call it after the last settlement and record.
    pub(crate) async fn close(&self) -> Result<(), Box<dyn Error>> {
        let mut closed = Ok(());
        for database in [&self.contents, &self.database].into_iter().flatten() {
            closed = closed.and(database.close().await);
        }
        Ok(closed?)
    }
}

fn kept(content: &Content, contents: &Sqlite, sealer: Option<Sealer>) -> ContentLayer {
    let mut layer = ContentLayer::new(contents.contents()).keep(content.keep);
    #[cfg(feature = "redact")]
    {
        layer = layer.redact_by(tollgate::content::Patterns::common());
    }
    if let Some(days) = content.days {
        layer = layer.retain(Duration::from_secs(days * 86_400));
    }
    if let Some(sealer) = sealer {
        layer = layer.sealed_by(sealer);
    }
    layer
}

/// Writes events to the log too.
struct ToLog;

#[async_trait]
impl EventSink for ToLog {
    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        match event.what {
            // The budget layer has logged this already.
            What::BudgetThreshold { .. } | What::BudgetExhausted { .. } => {}
            What::UpstreamDown { .. } | What::AuditDegraded { .. } => tracing::warn!("{event}"),
            _ => tracing::info!("{event}"),
        }
        Ok(())
    }
}

/// Sends records straight to the sink, or through a journal if there is a directory for one. Creates that directory if
/// it does not exist.
async fn trails(
    trail: &Trail,
    name: &str,
    sink: impl AuditSink,
    budgets: &impl BudgetStore,
) -> Result<Trails, Box<dyn Error>> {
    let Some(dir) = &trail.journal else {
        return Ok(Trails { audit: AuditLayer::new(sink), journal: None, events: None, sealer: None });
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
            "an earlier gateway process ended in the middle of calls; their budgets were corrected"
        );
    }
    let (events, sealer) = (journal.events(), journal.sealer());
    let mut journal = journal.ship(name, sink)?.notify("stderr", ToLog)?;
    if let Some(url) = &trail.notify {
        let slack = Slack::new(url, HttpClient::new()?).map_err(|error| format!("--notify: {error}"))?;
        journal = journal.notify("slack", slack)?;
    }
    let (audit, dir) = (AuditLayer::journaled(journal), Some(dir.clone()));
    Ok(Trails { audit, journal: dir, events: Some(events), sealer: Some(sealer) })
}
