//! The rows of the meters: loaded for a batch, and written back, as [`rows`](super::rows) does for the ledger's.

use std::sync::LazyLock;

use foldhash::{HashSet, HashSetExt};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::limits::{Question, What};
use super::meters::{Change, Meter, Meters, Out};
use super::rows::{bytes, decode, hex, json, run, skip, text};
use super::upsert::Upsert;
use crate::domain::bucket::{Bucket, Mark};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::{Scope, ScopeKind};
use crate::store::rate_limit::Taken;

const SILENT: &str = "SELECT id FROM tollgate_permit_sessions WHERE alive_until < ?1";
const PERMITS: &str = "SELECT id, session, taken, freed_at, asks FROM tollgate_permits \
     WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const OF_SESSIONS: &str = "SELECT id, session, taken, freed_at, asks FROM tollgate_permits \
     WHERE session IN (SELECT unhex(value) FROM json_each(?1)) AND freed_at IS NULL";
/// Among those, the ones whose slots were freed.
const FREED: &str = "SELECT id, session, taken, freed_at, asks FROM tollgate_permits \
     WHERE session IN (SELECT unhex(value) FROM json_each(?1)) AND freed_at IS NOT NULL";
const ALIVE: &str = "SELECT id FROM tollgate_permit_sessions WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const METERS: &str = "SELECT asked.key AS asked, meter.full_at, meter.refunded, meter.taken FROM json_each(?1) AS asked \
     CROSS JOIN tollgate_meters AS meter ON meter.scope_kind = asked.value ->> 0 \
     AND meter.scope_id = CAST(unhex(asked.value ->> 1) AS TEXT) AND meter.measure = asked.value ->> 2";
static SAVE_METERS: LazyLock<Upsert> = LazyLock::new(|| {
    Upsert::new(
        "INSERT INTO tollgate_meters (scope_kind, scope_id, measure, full_at, refunded, taken)",
        6,
        "ON CONFLICT (scope_kind, scope_id, measure) DO UPDATE SET full_at = excluded.full_at, \
         refunded = excluded.refunded, taken = excluded.taken",
    )
});
static SAVE_PERMITS: LazyLock<Upsert> = LazyLock::new(|| {
    Upsert::new(
        "INSERT INTO tollgate_permits (id, session, taken, freed_at, asks)",
        5,
        "ON CONFLICT (id) DO UPDATE SET session = excluded.session, taken = excluded.taken, \
         freed_at = excluded.freed_at, asks = excluded.asks",
    )
});
const DELETE_PERMITS: &str = "DELETE FROM tollgate_permits WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const FORGET_SESSIONS: &str =
    "DELETE FROM tollgate_permit_sessions WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const HEAR_SESSIONS: &str = "INSERT INTO tollgate_permit_sessions (id, alive_until) \
     SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?1) WHERE true \
     ON CONFLICT (id) DO UPDATE SET alive_until = max(alive_until, excluded.alive_until)";

/// Loads everything that these questions are about, and returns which sessions have fallen silent.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    meters: &mut Meters,
    questions: &[&Question],
    may_be_silent: bool,
    has_freed: bool,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut silent: HashSet<Uuid> = HashSet::new();
    if may_be_silent {
        let found: Vec<Vec<u8>> = sqlx::query_scalar(SILENT).bind(meters.now).fetch_all(&mut *connection).await?;
        silent.extend(found.iter().filter_map(|id| Uuid::from_slice(id).ok()));
    }
    let mut ids = Vec::new();
    let mut asked: HashSet<(Scope, Measure)> = HashSet::new();
    for question in questions {
        let limits = match question {
            Question::Asked(What::Acquire { id, limits, .. } | What::Settle { id, limits, .. }, _) => {
                ids.push(hex(id));
                limits
            }
            Question::Asked(What::Standing(limits), _) => limits,
            Question::Asked(What::Beat(_), _) => continue,
            Question::Unheard(id) => {
                ids.push(hex(id));
                continue;
            }
        };
        asked.extend(limits.iter().map(|limit| (limit.scope.clone(), limit.measure)));
    }
    if !ids.is_empty() {
        load_permits(connection, meters, PERMITS, json(&ids)?).await?;
    }
    if !silent.is_empty() {
        let sessions: Vec<String> = silent.iter().map(hex).collect();
        load_permits(connection, meters, OF_SESSIONS, json(&sessions)?).await?;
    }
    if has_freed || !silent.is_empty() {
        meters.gone = gone(connection, questions, &silent).await?;
        if !meters.gone.is_empty() {
            let sessions: Vec<String> = meters.gone.iter().map(hex).collect();
            load_permits(connection, meters, FREED, json(&sessions)?).await?;
        }
    }
    let taken = meters.permits.values().flat_map(|out| &out.taken);
    asked.extend(taken.map(|taken| (taken.limit.scope.clone(), taken.limit.measure)));
    load_meters(connection, meters, asked.into_iter().collect()).await?;
    Ok(silent)
}

/// The sessions that were silent and are heard from again.
async fn gone(
    connection: &mut SqliteConnection,
    questions: &[&Question],
    silent: &HashSet<Uuid>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let said = |question: &&Question| match question {
        Question::Asked(What::Acquire { session, .. } | What::Beat(session), _) => Some(session.id),
        _ => None,
    };
    let mut gone: HashSet<Uuid> = questions.iter().filter_map(said).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    let asked = json(&gone.iter().map(hex).collect::<Vec<_>>())?;
    let alive: Vec<Vec<u8>> = sqlx::query_scalar(ALIVE).bind(asked).fetch_all(connection).await?;
    for id in alive.iter().filter_map(|id| Uuid::from_slice(id).ok()).filter(|id| !silent.contains(id)) {
        gone.remove(&id);
    }
    Ok(gone)
}

async fn load_permits(
    connection: &mut SqliteConnection,
    meters: &mut Meters,
    sql: &'static str,
    ids: String,
) -> Result<(), sqlx::Error> {
    for row in sqlx::query(sql).bind(ids).fetch_all(connection).await? {
        match read_out(&row) {
            Ok((id, out)) => drop(meters.permits.insert(id, out)),
            Err(error) if sql != PERMITS => skip(&row, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_out(row: &SqliteRow) -> Result<(Uuid, Out), sqlx::Error> {
    let id = Uuid::from_slice(row.try_get("id")?).map_err(decode)?;
    let taken: Vec<TakenRow> = serde_json::from_str(row.try_get("taken")?).map_err(decode)?;
    let out = Out {
        session: Uuid::from_slice(row.try_get("session")?).map_err(decode)?,
        taken: taken.into_iter().map(TakenRow::read).collect(),
        freed_at: row.try_get("freed_at")?,
        asks: row.try_get("asks")?,
        change: Change::None,
    };
    Ok((id, out))
}

async fn load_meters(
    connection: &mut SqliteConnection,
    meters: &mut Meters,
    keys: Vec<(Scope, Measure)>,
) -> Result<(), sqlx::Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let asked: Vec<_> = keys.iter().map(|(scope, measure)| (scope.kind.as_str(), text(&scope.id), *measure)).collect();
    let mut found = vec![Meter::new(meters.now); keys.len()];
    for row in sqlx::query(METERS).bind(json(&asked)?).fetch_all(connection).await? {
        let asked = usize::try_from(row.try_get::<i64, _>("asked")?).map_err(decode)?;
        if let Some(meter) = found.get_mut(asked) {
            meter.bucket = Bucket { full_at: row.try_get("full_at")?, refunded: row.try_get("refunded")? };
            meter.under_way = u64::try_from(row.try_get::<i64, _>("taken")?).unwrap_or_default();
        }
    }
    meters.meters.extend(keys.into_iter().zip(found));
    Ok(())
}

/// Writes back what changed.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    meters: &Meters,
    silent: &HashSet<Uuid>,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = meters.meters.iter().filter(|(_, meter)| meter.changed).collect();
    SAVE_METERS
        .run(connection, &changed, |row, ((scope, measure), Meter { bucket, under_way, .. })| {
            let row = row.bind(scope.kind.as_str()).bind(scope.id.clone()).bind(measure.as_str());
            let taken = i64::try_from(*under_way).unwrap_or(i64::MAX);
            row.bind(bucket.full_at).bind(bucket.refunded).bind(taken)
        })
        .await?;
    let with = |change| meters.permits.iter().filter(move |(_, out)| out.change == change);
    let mut permits = Vec::new();
    for (id, out) in with(Change::Write) {
        let taken: Vec<_> = out.taken.iter().map(TakenRow::of).collect();
        permits.push((id, out, json(&taken)?));
    }
    SAVE_PERMITS
        .run(connection, &permits, |row, (id, out, taken)| {
            let row = row.bind(bytes(id)).bind(bytes(&out.session)).bind(taken.clone());
            row.bind(out.freed_at).bind(out.asks)
        })
        .await?;
    let rows: Vec<_> = with(Change::Delete).map(|(id, _)| hex(id)).collect();
    run(connection, DELETE_PERMITS, &rows).await?;
    if !silent.is_empty() {
        let silent: Vec<_> = silent.iter().map(hex).collect();
        run(connection, FORGET_SESSIONS, &silent).await?;
    }
    let heard: Vec<_> = meters.heard.iter().map(|(id, until)| (hex(id), *until)).collect();
    run(connection, HEAR_SESSIONS, &heard).await
}

/// What was taken of a limit, in the `taken` of a row.
#[derive(Serialize, Deserialize)]
struct TakenRow(ScopeKind, String, Measure, u64, u64, i64, i64);

impl TakenRow {
    fn of(taken: &Taken) -> Self {
        let Taken { limit: Limit { scope, measure, most }, amount, mark } = taken;
        TakenRow(scope.kind, scope.id.to_string(), *measure, *most, *amount, mark.full_at, mark.refunded)
    }

    fn read(self) -> Taken {
        let TakenRow(kind, id, measure, most, amount, full_at, refunded) = self;
        let scope = Scope { kind, id: id.into() };
        Taken { limit: Limit { scope, measure, most }, amount, mark: Mark { full_at, refunded } }
    }
}
