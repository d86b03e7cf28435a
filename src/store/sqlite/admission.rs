use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};

use super::schema::{self, Times};
use super::writer::{Answer, Question as Asked, Reply};
use super::{Sqlite, SqliteBudgets, SqliteLimits, budgets, ledger, limits, meter_rows, meters, rows, unexpected};
use crate::store::admission::{AdmissionStore, Admit, Admitted, Denial, PresentedKey, Verdict};
use crate::store::forward::by_parts;
use crate::store::{At, StoreError, budget};

const GOOD: &str = "SELECT asked.key AS asked FROM json_each(?1) AS asked CROSS JOIN tollgate_keys AS kept \
     ON kept.id = unhex(asked.value ->> 0) AND kept.digest = unhex(asked.value ->> 1) \
     AND kept.disabled = 0 AND (kept.expires_at IS NULL OR kept.expires_at > ?2)";

/// The keys, limits and budgets of the file, asked in one step: in one transaction of the writer.
#[derive(Clone)]
pub struct SqliteAdmission {
    sqlite: Sqlite,
    limits: SqliteLimits,
    budgets: SqliteBudgets,
}

impl SqliteAdmission {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteAdmission { limits: sqlite.limits(), budgets: sqlite.budgets(), sqlite }
    }
}

#[async_trait]
impl AdmissionStore for SqliteAdmission {
    async fn admit(&self, ask: &Admit<'_>, at: At) -> Result<Verdict, StoreError> {
        let limits = ask.limits.as_ref().map(|ask| limits::Question::Asked(limits::What::acquire(ask), at));
        let budgets = ask.budgets.as_ref().map(|ask| budgets::Question::Asked(budgets::What::reserve(ask), at));
        let question = Question { key: ask.key, limits, budgets, at };
        match self.sqlite.ask(Asked::Admission(Box::new(question))).await? {
            Reply::Admission(verdict) => Ok(verdict),
            _ => Err(unexpected()),
        }
    }
}

/// The question of one call.
pub(super) struct Question {
    key: Option<PresentedKey>,
    limits: Option<limits::Question>,
    budgets: Option<budgets::Question>,
    at: At,
}

impl Question {
    pub(super) fn is_reserve(&self) -> bool {
        self.budgets.is_some()
    }
}

/// Answers the questions in order, in the writer's transaction.
pub(super) async fn decide(
    connection: &mut SqliteConnection,
    (money, counts): (&mut Times, &mut Times),
    questions: &[&Question],
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut answers = Vec::with_capacity(questions.len());
    for same in questions.chunk_by(|one, other| one.at == other.at) {
        let (now, may_be_silent) = counts.step(same[0].at);
        let mut meters = meters::Meters::new(now);
        let asked: Vec<_> = same.iter().filter_map(|question| question.limits.as_ref()).collect();
        let slots = meter_rows::load(connection, &mut meters, &asked, may_be_silent, counts.has_freed).await?;
        counts.has_freed |= !slots.is_empty();
        meters.free(&slots);
        let good = good(connection, same, now).await?;

        let (now, may_be_silent) = money.step(same[0].at);
        let mut ledger = ledger::Ledger::new(now);
        let asked: Vec<_> = same.iter().filter_map(|question| question.budgets.as_ref()).collect();
        let holds = rows::load(connection, &mut ledger, &asked, may_be_silent).await?;
        ledger.forfeit(&holds);

        for (index, question) in same.iter().enumerate() {
            let verdict = match question.key {
                Some(_) if !good.contains(&index) => Ok(Verdict::Deny(Denial::Key)),
                _ => admit(&mut meters, &mut ledger, question),
            };
            answers.push(verdict.map(Reply::Admission));
        }
        meter_rows::save(connection, &meters, &slots).await?;
        rows::save(connection, &ledger, &holds).await?;
    }
    schema::set_later(connection, limits::CLOCK, counts).await?;
    schema::set_later(connection, budgets::CLOCK, money).await?;
    Ok(answers)
}

fn admit(meters: &mut meters::Meters, ledger: &mut ledger::Ledger, question: &Question) -> Result<Verdict, StoreError> {
    let limits = match &question.limits {
        Some(limits::Question::Asked(what, _)) => what.asked(),
        _ => None,
    };
    let taken = match limits.as_ref().map(|ask| meters.check(ask)).transpose() {
        Ok(taken) => taken,
        Err(denial) => return Ok(Verdict::Deny(Denial::Limit(denial))),
    };
    let budgets = match &question.budgets {
        Some(budgets::Question::Asked(what, _)) => what.asked(),
        _ => None,
    };
    let grant = match budgets.map(|ask| ledger.reserve(&ask)).transpose()? {
        Some(budget::Verdict::Deny(denial)) => {
            let limits = limits.map(|ask| meters.standings(ask.limits)).unwrap_or_default();
            return Ok(Verdict::Deny(Denial::Budget { denial, limits }));
        }
        Some(budget::Verdict::Allow(grant)) => Some(grant),
        None => None,
    };
    let allowed = limits.as_ref().zip(taken).map(|(ask, taken)| meters.take(ask, taken));
    Ok(Verdict::Allow(Admitted { allowed, grant }))
}

/// Which of the questions present a key that is good.
async fn good(connection: &mut SqliteConnection, asked: &[&Question], now: i64) -> Result<HashSet<usize>, sqlx::Error> {
    let keys: Vec<_> =
        asked.iter().map(|question| question.key.map(|key| (rows::hex(&key.id), digest(&key)))).collect();
    if keys.iter().all(Option::is_none) {
        return Ok(HashSet::new());
    }
    let found = sqlx::query(GOOD).bind(rows::json(&keys)?).bind(now).fetch_all(connection).await?;
    let index = |row| usize::try_from(sqlx::sqlite::SqliteRow::try_get::<i64, _>(row, "asked")?).map_err(rows::decode);
    found.iter().map(index).collect()
}

fn digest(key: &PresentedKey) -> String {
    key.digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

by_parts!(SqliteAdmission);

impl fmt::Debug for SqliteAdmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteAdmission").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}
