//! Content in the file.

use sqlx::{Connection, Executor};
use tollgate::store::content::ContentSink;
use uuid::Uuid;

use crate::{Dir, by_hand, open};

const BODIES: u64 = 48;

#[tokio::test]
async fn large_bodies_are_deleted_in_slices_that_keep_nobody_waiting_and_need_little_room() {
    let dir = Dir::new("slices");
    let sqlite = open(&dir.file()).await;
    let mut connection = by_hand(&dir.file()).await;
    let (key, call) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 48) INSERT INTO tollgate_content \
         (call, side, at, key_id, user, keep, is_whole, bytes, body) SELECT CASE i WHEN 1 THEN ?2 ELSE randomblob(16) END, \
         'request', 0, iif(i % 3 = 0, ?1, NULL), iif(i % 3 = 1, 'ada', NULL), 'full', 1, 1048576, randomblob(1048576) FROM n";
    let rows = sqlx::query(rows).bind(key.as_bytes().to_vec()).bind(call.as_bytes().to_vec());
    rows.execute(&mut connection).await.expect("written");
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("moved");
    connection.close().await.expect("closed");

    let contents = sqlite.contents();
    assert_eq!(contents.delete_call(call).await.expect("deleted"), 1);
    assert_eq!(contents.delete_key(key).await.expect("deleted"), BODIES / 3);
    assert_eq!(contents.delete_user("ada").await.expect("deleted"), BODIES / 3 - 1);
    let (mut deleted, end) = (0, "2026-11-24T09:00:00Z".parse().expect("a time"));
    loop {
        match contents.delete_before(end).await.expect("deleted") {
            0 => break,
            slice => {
                assert!(slice <= 5, "{slice} MiB at once");
                deleted += slice;
            }
        }
    }
    assert_eq!(deleted, BODIES / 3);
    let log = std::fs::metadata(dir.0.join("tollgate.db-wal")).expect("a log").len();
    assert!(log < 16 << 20, "{log} bytes of log");
    sqlite.close().await.expect("it closes");
}
