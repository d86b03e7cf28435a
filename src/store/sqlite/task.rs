//! The one task that writes.
//!
//! It takes whatever queued while the last batch was committing as the next batch. So a commit, which waits for the
//! disk, is shared by everyone who waited.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::error::{SqliteError, SqliteErrorKind};
use super::idle_meters::IdleMeters;
use super::open::Setup;
use super::schema::{self, Meta};
use super::time::nanos;
use super::writer::{Answer, Ask, Question, Reply};
use super::{admission, audit, budgets, contents, keys, limits};
use crate::store::StoreError;

/// The most questions in one commit, so that nobody waits for a batch that never ends.
const MOST: usize = 512;
/// How long holds may be in the log before they are synced.
const UNSYNCED: Duration = Duration::from_millis(250);
/// If more questions of one batch than this come upon damage, the others would too.
const FEW: usize = 8;
/// How long to leave a failed disk alone.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Task {
    setup: Arc<Setup>,
    open: Option<Open>,
    /// Since when there are holds that may not be on the disk.
    unsynced: Option<Instant>,
    idle_meters: IdleMeters,
    /// How many questions of the batch have come upon damage.
    damaged: usize,
    back: mpsc::WeakUnboundedSender<Ask>,
}

struct Open {
    connection: SqliteConnection,
    /// In another mode than WAL, `NORMAL` promises nothing.
    is_wal: bool,
    is_full: Option<bool>,
}

/// A batch that failed.
struct Failure {
    error: SqliteError,
    /// Whether it may have been applied all the same.
    uncertain: bool,
}

impl Failure {
    fn to_store_error(&self) -> StoreError {
        if self.uncertain { StoreError::uncertain(self.error.clone()) } else { self.error.clone().into() }
    }
}

impl Task {
    pub(super) fn new(setup: Arc<Setup>, back: mpsc::WeakUnboundedSender<Ask>) -> Self {
        Task { setup, open: None, unsynced: None, idle_meters: IdleMeters::default(), damaged: 0, back }
    }

    /// Runs until every handle is gone.
    pub(super) async fn run(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut batch = Vec::new();
        loop {
            let taken = match self.unsynced {
                Some(since) => timeout_at(since + UNSYNCED, asks.recv_many(&mut batch, MOST)).await,
                None => Ok(asks.recv_many(&mut batch, MOST).await),
            };
            self.damaged = 0;
            let failed = match taken {
                Ok(0) => break,
                Ok(_) => self.answer(std::mem::take(&mut batch)).await,
                Err(_) => self.sync().await,
            };
            if let Some(error) = failed {
                // What queued meanwhile has waited as long, and the next batch would use the same file.
                let queued = asks.len();
                self.refuse(std::iter::from_fn(|| asks.try_recv().ok()).take(queued), &error);
            }
        }
        self.let_go().await;
    }

    /// Answers a batch. Returns what is wrong with the file, if that is why it failed.
    async fn answer(&mut self, mut batch: Vec<Ask>) -> Option<SqliteError> {
        batch.retain(|ask| !ask.is_given_up());
        let closes = batch.iter().any(|ask| matches!(ask.question(), Question::Close));
        match self.attempt(&batch).await {
            Ok(answers) => {
                if closes {
                    self.let_go().await;
                }
                for (ask, answer) in batch.into_iter().zip(answers) {
                    ask.answer(answer, &self.back);
                }
                None
            }
            Err(failure) => {
                // Closing rolls back what was begun.
                self.open = None;
                if failure.uncertain {
                    // A caller that asks again may find it applied, but not on the disk.
                    self.unsynced = self.unsynced.or(Some(Instant::now()));
                }
                if batch.len() > 1 && !failure.uncertain && !failure.error.kind().is_of_the_file() {
                    // One question is at fault, or the damage that it came upon. Asking the halves separately shows
                    // which, and all but a few questions still share a commit.
                    let others = batch.split_off(batch.len() / 2);
                    if let Some(error) = Box::pin(self.answer(batch)).await {
                        self.refuse(others.into_iter(), &error);
                        return Some(error);
                    }
                    return Box::pin(self.answer(others)).await;
                }
                tracing::error!(
                    error = &failure.error as &dyn std::error::Error,
                    asks = batch.len(),
                    "a batch could not be written"
                );
                for ask in batch {
                    ask.answer(Err(failure.to_store_error()), &self.back);
                }
                let kind = failure.error.kind();
                self.damaged += usize::from(kind == SqliteErrorKind::Corrupt);
                (kind.is_of_the_file() || self.damaged > FEW).then_some(failure.error)
            }
        }
    }

    /// Refuses questions that were not tried.
    fn refuse(&self, asks: impl Iterator<Item = Ask>, error: &SqliteError) {
        for ask in asks {
            ask.answer(Err(error.clone().into()), &self.back);
        }
    }

    /// Runs the batch in one transaction.
    async fn attempt(&mut self, batch: &[Ask]) -> Result<Vec<Answer>, Failure> {
        let setup = self.setup.clone();
        let before = |error| Failure { error, uncertain: false };
        let due = self.unsynced.is_some_and(|since| since.elapsed() >= UNSYNCED);
        let durable = due || batch.is_empty() || batch.iter().any(|ask| ask.question().is_durable());
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let open = none.insert(Open::new(&setup).await.map_err(before)?);
                // A process that died may have left holds in the log that it did not live to sync.
                self.unsynced = self.unsynced.or(Some(Instant::now()));
                open
            }
        };
        let is_full = open.synchronous(durable, &setup).await.map_err(before)?;
        setup.until_free(&mut open.connection, "BEGIN IMMEDIATE").await.map_err(before)?;
        let failed = |error| before(SqliteError::of(setup.path(), error));
        let meta = Meta::load(&mut open.connection).await.map_err(failed)?;
        if let Some(kind) = schema::mismatch(meta.version()) {
            return Err(before(SqliteError::new(setup.path(), kind)));
        }
        let (connection, idle_meters) = (&mut open.connection, &mut self.idle_meters);
        let mut work = Work { connection, idle_meters, now: nanos(setup.clock().now()), meta };
        let answers = work.decide(batch).await.map_err(failed)?;
        if is_full && self.unsynced.is_some() {
            // A commit that changes nothing does not wait for the disk.
            schema::bump(&mut open.connection).await.map_err(failed)?;
        }
        setup.until_free(&mut open.connection, "COMMIT").await.map_err(|error| Failure {
            // A lock prevents the whole commit.
            uncertain: error.kind() != SqliteErrorKind::Locked,
            error,
        })?;
        let has_holds = batch.iter().any(|ask| ask.question().is_reserve());
        self.unsynced = match self.unsynced {
            _ if is_full => None,
            None if has_holds => Some(Instant::now()),
            unsynced => unsynced,
        };
        Ok(answers)
    }

    /// Commits only to sync the holds before.
    async fn sync(&mut self) -> Option<SqliteError> {
        let failure = self.attempt(&[]).await.err()?;
        self.open = None;
        // A failure loses nothing that is in the log. It is tried again, but not at once.
        self.unsynced = Some(Instant::now() + PAUSE);
        tracing::warn!(
            error = &failure.error as &dyn std::error::Error,
            "holds could not be synced to disk yet; trying again"
        );
        failure.error.kind().is_of_the_file().then_some(failure.error)
    }

    /// Moves everything from the log into the file itself, and closes the file.
    async fn let_go(&mut self) {
        if self.unsynced.is_some() {
            self.sync().await;
        }
        if let Some(mut open) = self.open.take() {
            if open.is_wal {
                let _ = open.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
            }
            let _ = open.connection.close().await;
        }
    }
}

/// A transaction, and what all decisions in it depend on.
struct Work<'a> {
    connection: &'a mut SqliteConnection,
    idle_meters: &'a mut IdleMeters,
    now: i64,
    meta: Meta,
}

impl Work<'_> {
    async fn decide(&mut self, batch: &[Ask]) -> Result<Vec<Answer>, sqlx::Error> {
        let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
        let (mut money, mut counts, mut both, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, ask) in batch.iter().enumerate() {
            match ask.question() {
                Question::Budget(question) => money.push((index, question)),
                Question::Limit(question) => counts.push((index, question)),
                Question::Admission(question) => both.push((index, &**question)),
                Question::Audit(more) => lines.extend(more),
                Question::Key(record) => answers[index] = Some(keys::put(self.connection, record).await?),
                Question::Content(question) => {
                    answers[index] = Some(contents::decide(self.connection, question).await?);
                }
                Question::Close => {}
            }
        }
        let mut of_money = self.meta.times(budgets::CLOCK, budgets::LEASE, self.now);
        let mut of_counts = self.meta.times(limits::CLOCK, limits::LEASE, self.now);
        let (at, questions): (Vec<_>, Vec<_>) = money.into_iter().unzip();
        put(&mut answers, at, budgets::decide(self.connection, &mut of_money, &questions).await?);
        let about_limits = counts.len() + both.len();
        let (at, questions): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
        put(&mut answers, at, limits::decide(self.connection, &mut of_counts, &questions).await?);
        // After the settlements before.
        let (at, questions): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        let times = (&mut of_money, &mut of_counts);
        put(&mut answers, at, admission::decide(self.connection, times, &questions).await?);
        self.idle_meters.step(self.connection, about_limits, &of_counts).await?;
        audit::insert(self.connection, &lines).await?;
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(Reply::Done))).collect())
    }
}

/// Puts answers at the places of their questions.
fn put(answers: &mut [Option<Answer>], at: Vec<usize>, decided: Vec<Answer>) {
    for (index, answer) in at.into_iter().zip(decided) {
        answers[index] = Some(answer);
    }
}

impl Open {
    async fn new(setup: &Setup) -> Result<Self, SqliteError> {
        let (connection, mode, _) = setup.connect().await?;
        Ok(Open { connection, is_wal: mode == "wal", is_full: None })
    }

    /// Sets how the next commit waits for the disk. It cannot be changed inside a transaction.
    async fn synchronous(&mut self, durable: bool, setup: &Setup) -> Result<bool, SqliteError> {
        let full = durable || !self.is_wal;
        if self.is_full != Some(full) {
            let sql = match (setup.is_durable(), full) {
                (false, _) => "PRAGMA synchronous = OFF",
                (true, true) if self.is_wal => "PRAGMA synchronous = FULL",
                // There, a transaction ends with the removal of the journal, which a directory can forget:
                // <https://www.sqlite.org/pragma.html#pragma_synchronous>
                (true, true) => "PRAGMA synchronous = EXTRA",
                (true, false) => "PRAGMA synchronous = NORMAL",
            };
            sqlx::query(sql)
                .execute(&mut self.connection)
                .await
                .map_err(|error| SqliteError::of(setup.path(), error))?;
            self.is_full = Some(full);
        }
        Ok(full)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;
    use crate::store::sqlite::Sqlite;

    async fn level(open: &mut Open, durable: bool, setup: &Setup) -> (bool, i64) {
        let full = open.synchronous(durable, setup).await.expect("it is set");
        let level = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut open.connection).await;
        (full, level.expect("a number"))
    }

    #[tokio::test]
    async fn outside_of_wal_mode_every_commit_waits_for_the_directory_too() {
        let path = std::env::temp_dir().join(format!("tollgate-synchronous-{}.db", std::process::id()));
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let pool = SqlitePoolOptions::new().connect(&url).await.expect("a pool");
        let setup = Sqlite::with_pool(pool.clone()).inner.setup.clone();
        let mut open = Open::new(&setup).await.expect("it opens");
        assert_eq!(level(&mut open, false, &setup).await, (true, 3), "EXTRA");
        open.connection.execute("PRAGMA journal_mode = WAL").await.expect("set");
        let mut open = Open::new(&setup).await.expect("it opens");
        assert_eq!(level(&mut open, false, &setup).await, (false, 1), "NORMAL");
        assert_eq!(level(&mut open, true, &setup).await, (true, 2), "FULL");
        drop(open);
        pool.close().await;
        for ending in ["db", "db-wal", "db-shm"] {
            let _ = std::fs::remove_file(path.with_extension(ending));
        }
    }
}
