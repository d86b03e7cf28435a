use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::time::{nanos, timestamp};
use super::writer::{Question, Reply};
use super::{Sqlite, unexpected};
use crate::domain::key::{KeyDigest, KeyRecord};
use crate::domain::principal::Principal;
use crate::store::StoreError;
use crate::store::key::{self, KeyRegistry, KeyStore, Put};

const BY_DIGEST: &str = "SELECT id, digest, last4, version, created_at, expires_at, disabled, policy \
     FROM tollgate_keys WHERE digest = ?1";
const BY_NAME: &str = "SELECT id, digest, last4, version, created_at, expires_at, disabled, policy \
     FROM tollgate_keys WHERE name = ?1";
const BY_ID: &str = "SELECT id, digest, last4, version, created_at, expires_at, disabled, policy \
     FROM tollgate_keys WHERE id = ?1";
/// By the unique index of names, whose order is that of their bytes.
const ALL: &str = "SELECT id, digest, last4, version, created_at, expires_at, disabled, policy \
     FROM tollgate_keys WHERE name >= ?1 ORDER BY name LIMIT ?2";
const AFTER: &str = "SELECT id, digest, last4, version, created_at, expires_at, disabled, policy \
     FROM tollgate_keys WHERE name > ?1 ORDER BY name LIMIT ?2";
const NONE: &str = "SELECT NOT EXISTS (SELECT 1 FROM tollgate_keys)";
/// What is stored already: the earlier version of the record, and other keys that have its name or its digest.
const BEFORE: &str = "SELECT \
     (SELECT version FROM tollgate_keys WHERE id = ?1), \
     (SELECT count(*) FROM tollgate_keys WHERE id <> ?1 AND (name = ?2 OR digest = ?3))";
const PUT: &str = "INSERT INTO tollgate_keys \
     (id, name, digest, last4, version, created_at, expires_at, disabled, user, team, org, policy) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, digest = excluded.digest, last4 = excluded.last4, \
     version = excluded.version, created_at = excluded.created_at, expires_at = excluded.expires_at, \
     disabled = excluded.disabled, user = excluded.user, team = excluded.team, org = excluded.org, policy = excluded.policy";

/// Keys in the file, one row per key, with the principal as JSON in `policy`. A key is on the disk when `put` returns.
///
/// A lookup reads the file; put [`CachedKeys`](crate::store::cached::CachedKeys) around it.
#[derive(Clone)]
pub struct SqliteKeys {
    sqlite: Sqlite,
}

impl SqliteKeys {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteKeys { sqlite }
    }

    async fn one(&self, query: Lookup<'_>) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let readers = self.sqlite.readers().await?;
        match query.fetch_optional(readers).await.map_err(|error| self.sqlite.error(error))? {
            Some(row) => read(&row).map(Arc::new).map(Some),
            None => Ok(None),
        }
    }
}

type Lookup<'a> = sqlx::query::Query<'a, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

#[async_trait]
impl KeyStore for SqliteKeys {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.one(sqlx::query(BY_DIGEST).bind(digest.as_bytes().to_vec())).await
    }
}

#[async_trait]
impl KeyRegistry for SqliteKeys {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.one(sqlx::query(BY_NAME).bind(name.to_owned())).await
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.one(sqlx::query(BY_ID).bind(id.as_bytes().to_vec())).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        let readers = self.sqlite.readers().await?;
        sqlx::query_scalar(NONE).fetch_one(readers).await.map_err(|error| self.sqlite.error(error))
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let readers = self.sqlite.readers().await?;
        let query = sqlx::query(if after.is_some() { AFTER } else { ALL }).bind(after.unwrap_or_default().to_owned());
        let rows = query.bind(i64::try_from(most).unwrap_or(i64::MAX)).fetch_all(readers).await;
        rows.map_err(|error| self.sqlite.error(error))?.iter().map(|row| read(row).map(Arc::new)).collect()
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        key::check(record)?;
        match self.sqlite.ask(Question::Key(Box::new(record.clone()))).await? {
            Reply::Key(put) => Ok(put),
            _ => Err(unexpected()),
        }
    }
}

fn read(row: &SqliteRow) -> Result<KeyRecord, StoreError> {
    let record = (|| -> Result<KeyRecord, crate::body::BoxError> {
        let digest: &[u8] = row.try_get("digest")?;
        let policy: Principal = serde_json::from_str(row.try_get("policy")?)?;
        let id = Uuid::from_slice(row.try_get("id")?)?;
        let created_at = timestamp(row.try_get("created_at")?);
        let digest = KeyDigest::from_bytes(digest.try_into()?);
        let mut record = KeyRecord::stored(id, digest, row.try_get("last4")?, created_at, policy);
        record.version = u64::try_from(row.try_get::<i64, _>("version")?)?;
        record.expires_at = row.try_get::<Option<i64>, _>("expires_at")?.map(timestamp);
        record.disabled = row.try_get::<i64, _>("disabled")? != 0;
        Ok(record)
    })();
    record.map_err(|error| {
        let id = row.try_get("id").ok().and_then(|id| Uuid::from_slice(id).ok()).unwrap_or_default();
        StoreError::broken(format!("the record of the key with the id {id} cannot be read: {error}"))
    })
}

/// Writes a key in the writer's transaction.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    record: &KeyRecord,
) -> Result<Result<Reply, StoreError>, sqlx::Error> {
    let principal = &*record.principal;
    let (id, name) = (record.id.as_bytes().to_vec(), principal.name.to_string());
    let digest = record.digest.as_bytes().to_vec();
    let before = sqlx::query_as(BEFORE).bind(id.clone()).bind(name.clone()).bind(digest.clone());
    let (version, others): (Option<i64>, i64) = before.fetch_one(&mut *connection).await?;
    let next = version.unwrap_or_default().checked_add(1);
    if next.and_then(|next| u64::try_from(next).ok()) != Some(record.version) {
        return Ok(Ok(Reply::Key(Put::Outdated)));
    }
    if others > 0 {
        return Ok(Ok(Reply::Key(Put::Taken)));
    }
    let policy = match serde_json::to_string(principal) {
        Ok(policy) => policy,
        Err(error) => return Ok(Err(StoreError::broken(error))),
    };
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let put = sqlx::query(PUT).bind(id).bind(name).bind(digest).bind(record.last4.to_string()).bind(next);
    let put = put.bind(nanos(record.created_at)).bind(record.expires_at.map(nanos)).bind(record.disabled);
    let put = put.bind(text(&principal.user)).bind(text(&principal.team)).bind(text(&principal.org)).bind(policy);
    put.execute(connection).await?;
    Ok(Ok(Reply::Key(Put::Written)))
}

impl fmt::Debug for SqliteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteKeys").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}
