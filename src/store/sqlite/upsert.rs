use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};

/// One more than the greatest power of two of rows that one statement has.
const POWERS: usize = 8;

/// Writes rows, many in one statement: each statement goes to the thread that has the connection and back.
///
/// There is one for every power of two, which stays prepared, and any number of rows is a few of these. (Given as one
/// argument of JSON, SQLite spent a third of a call's processor time on taking it apart.)
pub(super) struct Upsert {
    sql: [String; POWERS],
}

/// A statement whose arguments are being bound.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

impl Upsert {
    /// `INSERT INTO … (…)` with so many columns, and what becomes of rows that are there.
    pub(super) fn new(insert: &str, columns: usize, on_conflict: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let values = |power: usize| vec![row.as_str(); 1 << power].join(", ");
        Upsert { sql: std::array::from_fn(|power| format!("{insert} VALUES {} {on_conflict}", values(power))) }
    }

    /// Writes `rows`, each of whose columns `bind` binds in their order.
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
