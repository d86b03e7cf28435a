//! The rows of the ledger: loaded for a batch, and written back, with a few statements per table whatever the size of
//! the batch.
//!
//! Rows are written by an [`Upsert`]. Queries pass one JSON argument to SQLite; ids and names in it are hex, since
//! SQLite's JSON ends a text at a NUL.

use std::sync::LazyLock;

use foldhash::{HashSet, HashSetExt};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::budgets::{Question, What};
use super::ledger::{Hold, Kept, Ledger, State};
use super::time::{nanos, timestamp};
use super::upsert::Upsert;
use crate::domain::budget::{Pot, Window};
use crate::domain::ledger::Account;
use crate::domain::money::Money;
use crate::domain::scope::{Scope, ScopeKind};
use crate::store::budget::Pinned;

const SILENT: &str = "SELECT id FROM tollgate_sessions WHERE alive_until < ?1";
const HOLDS: &str = "SELECT id, session, state, granted, actual, at, pots, asks FROM tollgate_reservations \
     WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const LIVE: &str = "SELECT id, session, state, granted, actual, at, pots, asks FROM tollgate_reservations \
     WHERE state = 'live' AND session IN (SELECT unhex(value) FROM json_each(?1))";
const POTS: &str = "SELECT asked.key AS asked, pot.window_start, pot.spent, pot.held, pot.told, pot.slices FROM json_each(?1) AS asked \
     CROSS JOIN tollgate_pots AS pot ON pot.scope_kind = asked.value ->> 0 \
     AND pot.scope_id = CAST(unhex(asked.value ->> 1) AS TEXT) AND pot.window = asked.value ->> 2";
static SAVE_POTS: LazyLock<Upsert> = LazyLock::new(|| {
    Upsert::new(
        "INSERT INTO tollgate_pots (scope_kind, scope_id, window, window_start, spent, held, told, slices)",
        8,
        "ON CONFLICT (scope_kind, scope_id, window) DO UPDATE SET window_start = excluded.window_start, \
         spent = excluded.spent, held = excluded.held, told = excluded.told, slices = excluded.slices",
    )
});
static SAVE_HOLDS: LazyLock<Upsert> = LazyLock::new(|| {
    Upsert::new(
        "INSERT INTO tollgate_reservations (id, session, state, granted, actual, at, pots, asks)",
        8,
        "ON CONFLICT (id) DO UPDATE SET session = excluded.session, state = excluded.state, granted = excluded.granted, \
         actual = excluded.actual, at = excluded.at, pots = excluded.pots, asks = excluded.asks",
    )
});
const DELETE_HOLDS: &str = "DELETE FROM tollgate_reservations WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const FORGET_SESSIONS: &str = "DELETE FROM tollgate_sessions WHERE id IN (SELECT unhex(value) FROM json_each(?1))";
const HEAR_SESSIONS: &str = "INSERT INTO tollgate_sessions (id, alive_until) \
     SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?1) WHERE true \
     ON CONFLICT (id) DO UPDATE SET alive_until = max(alive_until, excluded.alive_until)";

/// Loads everything that these questions are about, and returns which sessions have fallen silent.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    ledger: &mut Ledger,
    questions: &[&Question],
    may_be_silent: bool,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut silent = HashSet::new();
    let mut ids = Vec::new();
    let mut pots: HashSet<Pot> = HashSet::new();
    if may_be_silent {
        let found: Vec<Vec<u8>> = sqlx::query_scalar(SILENT).bind(ledger.now).fetch_all(&mut *connection).await?;
        silent.extend(found.iter().filter_map(|id| Uuid::from_slice(id).ok()));
    }
    for question in questions {
        match question {
            Question::Asked(What::Reserve(asking) | What::Extend(asking), _) => {
                ids.push(hex(&asking.id));
                pots.extend(asking.budgets.iter().map(|budget| budget.pot.clone()));
            }
            Question::Asked(What::Settle(reservation, _), _) => {
                ids.push(hex(&reservation.id));
                pots.extend(reservation.pots.iter().map(|pinned| pinned.pot.clone()));
            }
            Question::Asked(What::Standing(budgets), _) => pots.extend(budgets.iter().map(|budget| budget.pot.clone())),
            Question::Asked(What::Beat(_), _) => {}
            Question::Unheard(id) => ids.push(hex(id)),
        }
    }
    if !ids.is_empty() {
        load_holds(connection, ledger, HOLDS, json(&ids)?).await?;
    }
    pots.extend(ledger.holds.values().flat_map(|hold| hold.pots.iter().map(|pinned| pinned.pot.clone())));
    let mut unasked: HashSet<Pot> = HashSet::new();
    if !silent.is_empty() {
        let sessions: Vec<String> = silent.iter().map(hex).collect();
        load_holds(connection, ledger, LIVE, json(&sessions)?).await?;
        let of_holds = ledger.holds.values().flat_map(|hold| &hold.pots).map(|pinned| &pinned.pot);
        unasked.extend(of_holds.filter(|pot| !pots.contains(*pot)).cloned());
    }
    load_pots(connection, ledger, pots.into_iter().collect(), unasked.into_iter().collect()).await?;
    Ok(silent)
}

async fn load_holds(
    connection: &mut SqliteConnection,
    ledger: &mut Ledger,
    sql: &'static str,
    ids: String,
) -> Result<(), sqlx::Error> {
    for row in sqlx::query(sql).bind(ids).fetch_all(connection).await? {
        match read_hold(&row) {
            Ok((id, hold)) => drop(ledger.holds.insert(id, hold)),
            Err(error) if sql == LIVE => skip(&row, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_hold(row: &SqliteRow) -> Result<(Uuid, Hold), sqlx::Error> {
    let id = Uuid::from_slice(row.try_get("id")?).map_err(decode)?;
    let session: Option<&[u8]> = row.try_get("session")?;
    let state = match row.try_get("state")? {
        "live" => State::Live,
        "forfeited" => State::Forfeited,
        _ => State::Settled,
    };
    let pots: Vec<PinnedRow> = serde_json::from_str(row.try_get("pots")?).map_err(decode)?;
    let hold = Hold {
        session: session.map(Uuid::from_slice).transpose().map_err(decode)?,
        state,
        granted: Money::from_nanos(row.try_get("granted")?),
        actual: row.try_get::<Option<i64>, _>("actual")?.map(Money::from_nanos),
        at: row.try_get("at")?,
        pots: pots.into_iter().map(PinnedRow::read).collect(),
        asks: row.try_get("asks")?,
        changed: false,
    };
    Ok((id, hold))
}

/// An unreadable row of a silent session. It must not keep anybody from an answer, since nobody asked for it. What it
/// holds stays held.
pub(super) fn skip(row: &SqliteRow, error: &sqlx::Error) {
    let id: String =
        row.try_get("id").map(|id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect()).unwrap_or_default();
    tracing::error!(
        id,
        error = error as &dyn std::error::Error,
        "a row cannot be read; the money or the slots that it holds stay held"
    );
}

/// Loads the pots that somebody asks about, and those of which only silent sessions hold something. One of the latter
/// that cannot be read must not keep anybody from an answer: what is held of it stays held.
async fn load_pots(
    connection: &mut SqliteConnection,
    ledger: &mut Ledger,
    mut pots: Vec<Pot>,
    unasked: Vec<Pot>,
) -> Result<(), sqlx::Error> {
    let many_asked = pots.len();
    pots.extend(unasked);
    if pots.is_empty() {
        return Ok(());
    }
    let asked: Vec<_> = pots.iter().map(|pot| (pot.scope.kind.as_str(), text(&pot.scope.id), pot.window)).collect();
    let mut accounts = vec![Some(Account::default()); pots.len()];
    for row in sqlx::query(POTS).bind(json(&asked)?).fetch_all(connection).await? {
        let asked = usize::try_from(row.try_get::<i64, _>("asked")?).map_err(decode)?;
        let read = match read_account(&row) {
            Err(error) if asked < many_asked => return Err(error),
            read => read.inspect_err(|error| unreadable(pots.get(asked), error)).ok(),
        };
        if let Some(account) = accounts.get_mut(asked) {
            *account = read;
        }
    }
    for (pot, account) in pots.into_iter().zip(accounts) {
        match account {
            Some(account) => {
                let kept = Kept::rolled(account, pot.window, ledger.now);
                ledger.pots.insert(pot, kept);
            }
            None => ledger.holds.retain(|_, hold| hold.pots.iter().all(|pinned| pinned.pot != pot)),
        }
    }
    Ok(())
}

fn read_account(row: &SqliteRow) -> Result<Account, sqlx::Error> {
    Ok(Account {
        window_start: timestamp(row.try_get("window_start")?),
        spent: Money::from_nanos(row.try_get("spent")?),
        held: Money::from_nanos(row.try_get("held")?),
        told: row.try_get("told")?,
        slices: read_slices(row.try_get("slices")?)?,
    })
}

fn unreadable(pot: Option<&Pot>, error: &sqlx::Error) {
    let error = error as &dyn std::error::Error;
    tracing::error!(?pot, error, "a pot cannot be read; what silent sessions hold of it stays held");
}

/// Only as many slices as count: anybody may have written the row.
fn read_slices(json: Option<&str>) -> Result<Vec<Money>, sqlx::Error> {
    const COUNTED: usize = Window::SLICES as usize + 1;
    let nanos: Vec<i64> = json.map(serde_json::from_str).transpose().map_err(decode)?.unwrap_or_default();
    Ok(nanos.into_iter().take(COUNTED).map(Money::from_nanos).collect())
}

fn write_slices(slices: &[Money]) -> Result<Option<String>, sqlx::Error> {
    let nanos: Vec<i64> = slices.iter().map(|spent| spent.nanos()).collect();
    (!nanos.is_empty()).then(|| json(&nanos)).transpose()
}

/// Writes back what changed.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    ledger: &Ledger,
    silent: &HashSet<Uuid>,
) -> Result<(), sqlx::Error> {
    let mut pots = Vec::new();
    for (pot, Kept { account, .. }) in ledger.pots.iter().filter(|(_, kept)| kept.changed) {
        pots.push((pot, account, write_slices(&account.slices)?));
    }
    SAVE_POTS
        .run(connection, &pots, |row, (Pot { scope, window }, account, slices)| {
            let row = row.bind(scope.kind.as_str()).bind(scope.id.clone()).bind(window.to_string());
            let row = row.bind(nanos(account.window_start)).bind(account.spent.nanos()).bind(account.held.nanos());
            row.bind(account.told).bind(slices.clone())
        })
        .await?;
    let changed = || ledger.holds.iter().filter(|(_, hold)| hold.changed);
    let mut holds = Vec::new();
    for (id, hold) in changed().filter(|(_, hold)| hold.state != State::Void) {
        let pots: Vec<_> = hold.pots.iter().map(PinnedRow::of).collect();
        holds.push((id, hold, json(&pots)?));
    }
    SAVE_HOLDS
        .run(connection, &holds, |row, (id, hold, pots)| {
            let row = row.bind(bytes(id)).bind(hold.session.as_ref().map(bytes)).bind(hold.state.as_str());
            let row = row.bind(hold.granted.nanos()).bind(hold.actual.map(Money::nanos)).bind(hold.at);
            row.bind(pots.clone()).bind(hold.asks)
        })
        .await?;
    let void: Vec<_> = changed().filter(|(_, hold)| hold.state == State::Void).map(|(id, _)| hex(id)).collect();
    run(connection, DELETE_HOLDS, &void).await?;
    let silent: Vec<_> = silent.iter().map(hex).collect();
    run(connection, FORGET_SESSIONS, &silent).await?;
    let heard: Vec<_> = ledger.heard.iter().map(|(id, until)| (hex(id), *until)).collect();
    run(connection, HEAR_SESSIONS, &heard).await
}

/// Runs a statement over a list; does nothing for an empty one.
pub(super) async fn run<T: Serialize>(
    connection: &mut SqliteConnection,
    sql: &'static str,
    list: &[T],
) -> Result<(), sqlx::Error> {
    if list.is_empty() {
        return Ok(());
    }
    sqlx::query(sql).bind(json(list)?).execute(connection).await.map(drop)
}

/// A pot, its window and its limit in the `pots` of a row. Before version 2 there was no limit.
#[derive(Serialize, Deserialize)]
struct PinnedRow(ScopeKind, String, Window, i64, #[serde(default = "unknown")] i64);

fn unknown() -> i64 {
    i64::MAX
}

impl PinnedRow {
    fn of(pinned: &Pinned) -> Self {
        let Pinned { pot: Pot { scope, window }, window_start, limit } = pinned;
        PinnedRow(scope.kind, scope.id.to_string(), *window, nanos(*window_start), limit.nanos())
    }

    fn read(self) -> Pinned {
        let PinnedRow(kind, id, window, start, limit) = self;
        let pot = Pot { scope: Scope { kind, id: id.into() }, window };
        Pinned { pot, window_start: timestamp(start), limit: Money::from_nanos(limit) }
    }
}

pub(super) fn json<T: Serialize + ?Sized>(list: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

pub(super) fn decode(error: impl Into<crate::body::BoxError>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

pub(super) fn bytes(id: &Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

pub(super) fn hex(id: &Uuid) -> String {
    id.simple().to_string()
}

pub(super) fn text(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.bytes().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_slices_of_a_row_as_many_are_read_as_count() {
        let row = |count: usize| json(&vec![7; count]).expect("JSON");
        for (stored, read) in [(0, 0), (1, 1), (25, 25), (26, 25), (4_000, 25)] {
            assert_eq!(read_slices(Some(&row(stored))).expect("they are numbers").len(), read);
        }
        assert!(read_slices(None).expect("there are none").is_empty() && read_slices(Some("{}")).is_err());
    }
}
