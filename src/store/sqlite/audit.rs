use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use super::error::mendable;
use super::rows::{hex, run, text};
use super::time::nanos;
use super::writer::Question;
use crate::domain::audit::AuditRecord;
use crate::domain::money::Money;
use crate::store::StoreError;
use crate::store::audit::AuditSink;

/// Text from clients and operators is passed as hex, as in the other rows: SQLite's JSON ends a text at a NUL.
const INSERT: &str = "INSERT INTO tollgate_audit (id, opened_at, key_id, key_name, user, team, org, model, end, status, \
     input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, granted_nanos, charged_nanos, cost_nanos, took_us, \
     record) SELECT unhex(value ->> 'id'), value ->> 'opened_at', unhex(value ->> 'key_id'), \
     CAST(unhex(value ->> 'key_name') AS TEXT), CAST(unhex(value ->> 'user') AS TEXT), \
     CAST(unhex(value ->> 'team') AS TEXT), CAST(unhex(value ->> 'org') AS TEXT), \
     CAST(unhex(value ->> 'model') AS TEXT), value ->> 'end', value ->> 'status', value ->> 'input_tokens', \
     value ->> 'cache_read_tokens', value ->> 'cache_write_tokens', value ->> 'output_tokens', value ->> 'granted_nanos', \
     value ->> 'charged_nanos', value ->> 'cost_nanos', value ->> 'took_us', value ->> 'record' \
     FROM json_each(?1) WHERE true ON CONFLICT (id) DO NOTHING";

/// Audit records in the file, in the table `tollgate_audit`, one row per call. They are on the disk when `write`
/// returns. A record that comes again is not written again.
///
/// `record` holds the whole record as JSON. The other columns are for the most common queries: who called, which model,
/// how the call ended, tokens, and money in billionths of a dollar. Times are nanoseconds since 1970. What each team was
/// charged in each month:
///
/// ```sql
/// SELECT team, strftime('%Y-%m', opened_at / 1000000000, 'unixepoch') AS month, sum(charged_nanos) / 1e9 AS dollars
/// FROM tollgate_audit GROUP BY team, month;
/// ```
#[derive(Clone)]
pub struct SqliteAudit {
    sqlite: Sqlite,
}

impl SqliteAudit {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteAudit { sqlite }
    }
}

#[async_trait]
impl AuditSink for SqliteAudit {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let lines = records.iter().map(Line::of).collect::<Result<_, _>>().map_err(StoreError::broken)?;
        self.sqlite.ask(Question::Audit(lines)).await.map(drop).map_err(mendable)
    }
}

impl fmt::Debug for SqliteAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteAudit").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}

/// A row, built by the caller rather than by the one task that everyone waits for.
#[derive(Serialize)]
pub(super) struct Line {
    id: String,
    opened_at: i64,
    key_id: Option<String>,
    key_name: Option<String>,
    user: Option<String>,
    team: Option<String>,
    org: Option<String>,
    model: Option<String>,
    end: crate::domain::outcome::End,
    status: Option<u16>,
    input_tokens: Option<i64>,
    cache_read_tokens: Option<i64>,
    cache_write_tokens: Option<i64>,
    output_tokens: Option<i64>,
    granted_nanos: Option<i64>,
    charged_nanos: Option<i64>,
    cost_nanos: Option<i64>,
    took_us: i64,
    record: String,
}

impl Line {
    pub(super) fn of(record: &AuditRecord) -> Result<Self, serde_json::Error> {
        let usage = record.usage;
        Ok(Line {
            id: hex(&record.id),
            opened_at: nanos(record.opened_at),
            key_id: record.key_id.as_ref().map(hex),
            key_name: record.key_name.as_deref().map(text),
            user: record.user.as_deref().map(text),
            team: record.team.as_deref().map(text),
            org: record.org.as_deref().map(text),
            model: record.model.as_deref().map(text),
            end: record.end,
            status: record.status,
            input_tokens: usage.map(|u| whole(u.input)),
            cache_read_tokens: usage.map(|u| whole(u.cache_read)),
            cache_write_tokens: usage.map(|u| whole(u.cache_write_5m.saturating_add(u.cache_write_1h))),
            output_tokens: usage.map(|u| whole(u.output)),
            granted_nanos: record.granted.map(Money::nanos),
            charged_nanos: record.charged.map(Money::nanos),
            cost_nanos: record.cost.map(Money::nanos),
            took_us: whole(record.took_us),
            record: serde_json::to_string(record)?,
        })
    }
}

/// A figure that is too large is stored as the largest that the file can hold.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The id of the first record.
pub(super) fn about(lines: &[Line]) -> Option<Uuid> {
    lines.first().and_then(|line| Uuid::try_parse(&line.id).ok())
}

/// Whether both lists are of the same records.
pub(super) fn are_again(lines: &[Line], others: &[Line]) -> bool {
    lines.iter().map(|line| &line.id).eq(others.iter().map(|line| &line.id))
}

/// Inserts the rows in the writer's transaction.
pub(super) async fn insert(connection: &mut SqliteConnection, lines: &[&Line]) -> Result<(), sqlx::Error> {
    run(connection, INSERT, lines).await
}
