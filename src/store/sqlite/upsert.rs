use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};

/// The number of powers of two, from one row up, that have a statement.
const POWERS: usize = 8;

/// Writes rows, many in one statement, since each statement goes to the connection's thread and back.
///
/// There is a prepared statement for each power of two, and a few of these write any number of rows. (Passing all rows
/// as one JSON argument took SQLite a third of a call's processor time to parse.)
pub(super) struct Upsert {
    sql: [String; POWERS],
}

/// A statement whose arguments are being bound.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

impl Upsert {
    /// `INSERT INTO … (…)` with this many columns, and what to do about existing rows.
    pub(super) fn new(insert: &str, columns: usize, on_conflict: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let values = |power: usize| vec![row.as_str(); 1 << power].join(", ");
        Upsert { sql: std::array::from_fn(|power| format!("{insert} VALUES {} {on_conflict}", values(power))) }
    }

    /// Writes `rows`; `bind` binds the columns of a row in order.
    pub(super) async fn run<T: Sync>(
        &'static self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl for<'q> Fn(Bound<'q>, &T) -> Bound<'q>,
    ) -> Result<(), sqlx::Error> {
        let mut rows = rows;
        while let Some(power) = rows.len().checked_ilog2() {
            let power = usize::try_from(power).unwrap_or(POWERS).min(POWERS - 1);
            let (some, rest) = rows.split_at(1 << power);
            let statement = some.iter().fold(sqlx::query(self.sql[power].as_str()), &bind);
            statement.execute(&mut *connection).await?;
            rows = rest;
        }
        Ok(())
    }
}
