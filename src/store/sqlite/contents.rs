use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NotAWord, StrDeserializer};
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Row, SqliteConnection};
use uuid::Uuid;

use super::rows::{bytes, run};
use super::time::{nanos, timestamp};
use super::writer::{self, Answer, Reply};
use super::{Sqlite, unexpected};
use crate::body::BoxError;
use crate::domain::content::{Content, Seal};
use crate::store::StoreError;
use crate::store::content::ContentSink;

const INSERT: &str = "INSERT INTO tollgate_content \
     (call, side, at, key_id, user, keep, left_out, is_whole, bytes, media_type, coding, salt, hash, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (call, side) DO NOTHING";
const OF_CALL: &str = "SELECT call, side, at, key_id, user, keep, left_out, is_whole, bytes, media_type, coding, salt, hash, body \
     FROM tollgate_content WHERE call = ?1 ORDER BY side DESC";
/// The rows of a slice, and the lengths of their bodies, for which SQLite does not read these.
const BEFORE: &str = "SELECT rowid, coalesce(length(body), 0) FROM tollgate_content WHERE at < ?1 LIMIT 64";
const CALL: &str = "SELECT rowid, coalesce(length(body), 0) FROM tollgate_content WHERE call = ?1";
const KEY: &str = "SELECT rowid, coalesce(length(body), 0) FROM tollgate_content WHERE key_id = ?1 LIMIT 64";
const USER: &str = "SELECT rowid, coalesce(length(body), 0) FROM tollgate_content WHERE user = ?1 LIMIT 64";
const DELETE: &str = "DELETE FROM tollgate_content WHERE rowid IN (SELECT value FROM json_each(?1))";
/// How many bytes to delete in one slice, without its last body. Deleted bodies are overwritten, so one large `DELETE`
/// would keep everyone waiting, and need as much room in the log.
const SLICE: i64 = 4 << 20;

/// The prompts and answers that are kept, in the table `tollgate_content` of the file, one row per body. They are on
/// the disk when `write` returns. A body that comes again is not written again.
///
/// Use a separate file, beside that of the ledger: bodies are large, and settlements would have to wait for them.
///
/// Before you delete what a running gateway has kept, [flush](crate::ContentLayer::flush) its layer. If it has a
/// journal, record the deletion there ([`Sealer::deleted`](crate::store::journal::Sealer::deleted)).
///
/// Deleted bodies are overwritten in the file. They are gone from its log once the log has been reused, at the latest
/// when the file is closed. Copies of the file still have them.
#[derive(Clone)]
pub struct SqliteContents {
    sqlite: Sqlite,
}

impl SqliteContents {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteContents { sqlite }
    }

    /// Returns what is kept of a call, the request first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn find(&self, call: Uuid) -> Result<Vec<Content>, StoreError> {
        let readers = self.sqlite.readers().await?;
        let rows = sqlx::query(OF_CALL).bind(bytes(&call)).fetch_all(readers).await;
        let rows = rows.map_err(|error| self.sqlite.error(error))?;
        rows.iter().map(|row| read(row).map_err(StoreError::broken)).collect()
    }

    /// Deletes what is kept of a call, and returns the number of bodies.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn delete_call(&self, call: Uuid) -> Result<u64, StoreError> {
        self.delete_all(Which::Call(call)).await
    }

    /// Deletes what is kept of the calls of a key, and returns the number of bodies.
    ///
    /// # Errors
    /// When the file cannot be written. What was deleted by then stays deleted.
    pub async fn delete_key(&self, key: Uuid) -> Result<u64, StoreError> {
        self.delete_all(Which::Key(key)).await
    }

    /// Deletes what is kept of the calls of a user, whichever keys they used, and returns the number of bodies.
    ///
    /// # Errors
    /// When the file cannot be written. What was deleted by then stays deleted.
    pub async fn delete_user(&self, user: impl Into<Arc<str>>) -> Result<u64, StoreError> {
        self.delete_all(Which::User(user.into())).await
    }

    async fn delete_all(&self, which: Which) -> Result<u64, StoreError> {
        let mut all = 0;
        loop {
            match self.delete(which.clone()).await? {
                0 => return Ok(all),
                some => all += some,
            }
        }
    }

    async fn delete(&self, which: Which) -> Result<u64, StoreError> {
        match self.sqlite.ask(writer::Question::Content(Question::Delete(which))).await? {
            Reply::Deleted(rows) => Ok(rows),
            _ => Err(unexpected()),
        }
    }
}

#[async_trait]
impl ContentSink for SqliteContents {
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
        if contents.is_empty() {
            return Ok(());
        }
        self.sqlite.ask(writer::Question::Content(Question::Write(contents.to_vec()))).await.map(drop)
    }

    async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError> {
        self.delete(Which::Before(nanos(end))).await
    }
}

impl fmt::Debug for SqliteContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteContents").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}

pub(super) enum Question {
    Write(Vec<Content>),
    Delete(Which),
}

impl Question {
    /// The call of the first body, if bodies are to be written.
    pub(super) fn about(&self) -> Option<Uuid> {
        match self {
            Question::Write(contents) => contents.first().map(|content| content.call),
            Question::Delete(_) => None,
        }
    }

    pub(super) fn is_again(&self, other: &Question) -> bool {
        matches!((self, other), (Question::Write(contents), Question::Write(others)) if contents == others)
    }
}

/// Which bodies to delete: whose, or how old ones.
#[derive(Clone)]
pub(super) enum Which {
    Before(i64),
    Call(Uuid),
    Key(Uuid),
    User(Arc<str>),
}

/// Answers a question in the writer's transaction.
pub(super) async fn decide(connection: &mut SqliteConnection, question: &Question) -> Result<Answer, sqlx::Error> {
    // Without it, SQLite leaves the old bytes in the page when a row is deleted or moved, so it stays on:
    // <https://www.sqlite.org/pragma.html#pragma_secure_delete>
    connection.execute("PRAGMA secure_delete = ON").await?;
    match question {
        Question::Write(contents) => {
            for content in contents {
                insert(connection, content).await?;
            }
            Ok(Ok(Reply::Done))
        }
        Question::Delete(which) => {
            let query = match which {
                Which::Before(end) => sqlx::query_as(BEFORE).bind(*end),
                Which::Call(call) => sqlx::query_as(CALL).bind(bytes(call)),
                Which::Key(key) => sqlx::query_as(KEY).bind(bytes(key)),
                Which::User(user) => sqlx::query_as(USER).bind(user.to_string()),
            };
            let found: Vec<(i64, i64)> = query.fetch_all(&mut *connection).await?;
            let mut slice = Vec::with_capacity(found.len());
            let mut left = SLICE;
            for (row, long) in found {
                if left <= 0 {
                    break;
                }
                slice.push(row);
                left = left.saturating_sub(long);
            }
            run(connection, DELETE, &slice).await?;
            Ok(Ok(Reply::Deleted(slice.len() as u64)))
        }
    }
}

async fn insert(connection: &mut SqliteConnection, content: &Content) -> Result<(), sqlx::Error> {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let seal = content.seal.as_ref();
    let row = sqlx::query(INSERT).bind(bytes(&content.call)).bind(content.side.as_str()).bind(nanos(content.at));
    let row = row.bind(content.key_id.as_ref().map(bytes)).bind(text(&content.user)).bind(content.keep.as_str());
    let row = row.bind(content.left_out.map(|why| why.as_str())).bind(content.is_whole);
    let row = row.bind(i64::try_from(content.bytes).unwrap_or(i64::MAX));
    let row = row.bind(text(&content.media_type)).bind(text(&content.coding));
    let row = row.bind(seal.map(|seal| seal.salt().to_vec())).bind(seal.map(|seal| seal.hash().to_vec()));
    row.bind(content.body.as_ref().map(|body| body.to_vec())).execute(connection).await.map(drop)
}

fn read(row: &SqliteRow) -> Result<Content, BoxError> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name).map(|text| text.map(Arc::from));
    let (salt, hash): (Option<&[u8]>, Option<&[u8]>) = (row.try_get("salt")?, row.try_get("hash")?);
    let seal = match (salt, hash) {
        (Some(salt), Some(hash)) => Some(Seal::from_parts(salt.try_into()?, hash.try_into()?)),
        _ => None,
    };
    Ok(Content {
        call: Uuid::from_slice(row.try_get("call")?)?,
        side: word(row.try_get("side")?)?,
        at: timestamp(row.try_get("at")?),
        key_id: row.try_get::<Option<&[u8]>, _>("key_id")?.map(Uuid::from_slice).transpose()?,
        user: text("user")?,
        keep: word(row.try_get("keep")?)?,
        left_out: row.try_get::<Option<&str>, _>("left_out")?.map(word).transpose()?,
        is_whole: row.try_get("is_whole")?,
        bytes: u64::try_from(row.try_get::<i64, _>("bytes")?)?,
        media_type: text("media_type")?,
        coding: text("coding")?,
        body: row.try_get::<Option<Vec<u8>>, _>("body")?.map(Bytes::from),
        seal,
    })
}

/// Parses one of the words of an enum.
fn word<'a, T: Deserialize<'a>>(word: &'a str) -> Result<T, NotAWord> {
    let word: StrDeserializer<'a, NotAWord> = word.into_deserializer();
    T::deserialize(word)
}
