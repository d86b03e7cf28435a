//! Whether a file holds together where money and keys are, found out when it is opened and not by the first who pays.

use sqlx::SqliteConnection;

/// Each page of what is small, whatever the file's age: a row for each key, pot and limit, and for each process and call that is
/// under way.
const WHOLE: &str = "SELECT found.quick_check FROM sqlite_schema AS ours, pragma_quick_check(ours.name) AS found \
     WHERE ours.type = 'table' AND ours.name IN ('tollgate_meta', 'tollgate_keys', 'tollgate_pots', 'tollgate_sessions', \
     'tollgate_meters', 'tollgate_permit_sessions', 'tollgate_permits') AND found.quick_check <> 'ok' LIMIT 1";
/// Of what grows with every call, where to read all of it would take minutes: all that is held, and the way to the first row and
/// the last.
const ENDS: [&str; 4] = [
    "SELECT count(granted) FROM tollgate_reservations WHERE state = 'live'",
    "SELECT min(id) FROM tollgate_reservations UNION ALL SELECT max(id) FROM tollgate_reservations",
    "SELECT min(id) FROM tollgate_audit UNION ALL SELECT max(id) FROM tollgate_audit \
     UNION ALL SELECT min(opened_at) FROM tollgate_audit UNION ALL SELECT max(opened_at) FROM tollgate_audit",
    "SELECT min(rowid) FROM tollgate_content UNION ALL SELECT max(rowid) FROM tollgate_content",
];

/// What is wrong with it, as SQLite says it, if anything is. Reads only.
pub(super) async fn damage(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    for ends in ENDS {
        sqlx::query(ends).fetch_all(&mut *connection).await?;
    }
    sqlx::query_scalar(WHOLE).fetch_optional(connection).await
}
