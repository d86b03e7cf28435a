//! Checks the integrity of money and keys when a file is opened, rather than when somebody first pays.

use sqlx::SqliteConnection;

/// Every page of the small tables, whatever the file's age: they have one row for each key, pot and limit, and for each
/// process and call in flight.
const WHOLE: &str = "SELECT found.quick_check FROM sqlite_schema AS ours, pragma_quick_check(ours.name) AS found \
     WHERE ours.type = 'table' AND ours.name IN ('tollgate_meta', 'tollgate_keys', 'tollgate_pots', 'tollgate_sessions', \
     'tollgate_meters', 'tollgate_permit_sessions', 'tollgate_permits') AND found.quick_check <> 'ok' LIMIT 1";
/// Parts of the tables that grow with every call, which would take minutes to read in full: everything that is held,
/// and the paths to the first and the last row.
const ENDS: [&str; 4] = [
    "SELECT count(granted) FROM tollgate_reservations WHERE state = 'live'",
    "SELECT min(id) FROM tollgate_reservations UNION ALL SELECT max(id) FROM tollgate_reservations",
    "SELECT min(id) FROM tollgate_audit UNION ALL SELECT max(id) FROM tollgate_audit \
     UNION ALL SELECT min(opened_at) FROM tollgate_audit UNION ALL SELECT max(opened_at) FROM tollgate_audit",
    "SELECT min(rowid) FROM tollgate_content UNION ALL SELECT max(rowid) FROM tollgate_content",
];

/// What is wrong with the file, in SQLite's words, if anything is. Reads only.
pub(super) async fn damage(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    for ends in ENDS {
        sqlx::query(ends).fetch_all(&mut *connection).await?;
    }
    sqlx::query_scalar(WHOLE).fetch_optional(connection).await
}
