//! Deletes meters that stand as new ones would, some at a time: otherwise a host with a scope for each customer would
//! keep a row for every customer it ever had. Deletes also permits of silent sessions that can no longer be settled.

use sqlx::SqliteConnection;

use super::schema::Times;

/// How many questions about limits to wait before a look, and how many rows to look at: a question adds a few rows at
/// most.
const EVERY: usize = 1_024;
const ROWS: i64 = 4_096;
/// With fewer rows than this, none is deleted: they cost little, and may be needed again soon.
const FEW: i64 = 512;

/// How long the permit of a silent session can still be settled. By then, its tokens have long drained from the bucket.
const SETTLEABLE: i64 = 60 * MINUTE;
/// How often to look for permits that can no longer be settled.
const MINUTE: i64 = 60 * 1_000_000_000;
const FORGET_PERMITS: &str = "DELETE FROM tollgate_permits WHERE freed_at IS NOT NULL AND freed_at < ?1";

/// A row by its key.
type Key = (String, String, String);

const LAST: &str = "SELECT scope_kind, scope_id, measure FROM tollgate_meters \
     WHERE (scope_kind, scope_id, measure) > (?1, ?2, ?3) ORDER BY scope_kind, scope_id, measure LIMIT 1 OFFSET ?4";
/// What an outstanding permit would give back depends on what its bucket has given back before, so its meter stays.
/// That test does not find a name with a NUL, since JSON ends there.
macro_rules! idle {
    () => {
        "FROM tollgate_meters WHERE (scope_kind, scope_id, measure) > (?1, ?2, ?3) \
         AND (scope_kind, scope_id, measure) <= (?4, ?5, ?6) AND full_at <= ?7 AND taken = 0 \
         AND instr(CAST(scope_id AS BLOB), x'00') = 0"
    };
}
const COUNT: &str = concat!("SELECT count(*) ", idle!());
const DELETE: &str = concat!(
    "DELETE ",
    idle!(),
    " AND (scope_kind, scope_id, measure) NOT IN (SELECT took.value ->> 0, took.value ->> 1, took.value ->> 2 \
     FROM tollgate_permits AS permit, json_each(iif(json_valid(permit.taken), permit.taken, '[]')) AS took \
     WHERE took.type = 'array')"
);

/// How far a writer has come, round and round.
#[derive(Default)]
pub(super) struct IdleMeters {
    questions: usize,
    from: Key,
    /// When permits were last looked for.
    looked_at: Option<i64>,
}

impl IdleMeters {
    /// Counts answered questions about limits, and deletes when it is time. In the writer's transaction.
    pub(super) async fn step(
        &mut self,
        connection: &mut SqliteConnection,
        questions: usize,
        times: &Times,
    ) -> Result<(), sqlx::Error> {
        let now = times.latest();
        // Not only when another session falls silent, which may never happen.
        let is_time = self.looked_at.is_none_or(|at| now.saturating_sub(at) >= MINUTE);
        if times.has_freed && questions > 0 && is_time {
            self.looked_at = Some(now);
            let long_ago = now.saturating_sub(SETTLEABLE);
            sqlx::query(FORGET_PERMITS).bind(long_ago).execute(&mut *connection).await?;
        }
        self.questions += questions;
        if self.questions < EVERY {
            return Ok(());
        }
        self.questions = 0;
        let (kind, id, measure) = std::mem::take(&mut self.from);
        let last = sqlx::query_as(LAST).bind(kind.clone()).bind(id.clone()).bind(measure.clone()).bind(ROWS - 1);
        let last: Option<Key> = last.fetch_optional(&mut *connection).await?;
        // After every kind of scope.
        let to = last.clone().unwrap_or_else(|| ("~".into(), String::new(), String::new()));
        let count = sqlx::query_scalar::<_, i64>(COUNT).bind(kind.clone()).bind(id.clone()).bind(measure.clone());
        let count = count.bind(to.0.clone()).bind(to.1.clone()).bind(to.2.clone()).bind(now);
        if count.fetch_one(&mut *connection).await? >= FEW {
            let delete = sqlx::query(DELETE).bind(kind).bind(id).bind(measure);
            delete.bind(to.0).bind(to.1).bind(to.2).bind(now).execute(connection).await?;
        }
        self.from = last.unwrap_or_default();
        Ok(())
    }
}
