use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use sqlx::Row;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::domain::usage::Usage;
use tollgate::store::audit::AuditSink;
use tollgate::{Body, CallLayer};
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use crate::{Dir, by_hand, money, open};

/// Returns the outcome of a call with an empty answer.
async fn outcome() -> Outcome {
    let closed = Arc::new(Mutex::new(None));
    let observer = closed.clone();
    let layer = CallLayer::new().on_close(move |outcome| *observer.lock().expect("whole") = Some(outcome.clone()));
    let service = layer
        .layer(service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))));
    let request = Request::post("/v1/messages").body(Body::empty()).expect("a request");
    drop(service.oneshot(request).await);
    let outcome = closed.lock().expect("whole").take();
    Arc::unwrap_or_clone(outcome.expect("it closed"))
}

#[tokio::test]
async fn a_record_waits_for_a_file_that_somebody_has_to_mend() {
    let dir = Dir::new("audit-mended");
    let sink = open(&dir.file()).await.audit();
    let record = [AuditRecord::new(&outcome().await)];
    let mut connection = by_hand(&dir.file()).await;
    let mut version = async |version: i64| {
        let set = sqlx::query("UPDATE tollgate_meta SET value = ?1 WHERE name = 'schema'").bind(version);
        set.execute(&mut connection).await.expect("set")
    };
    let known = 3;
    for other in [known + 1, known - 1] {
        version(other).await;
        let error = sink.write(&record).await.expect_err("of another version");
        assert!(error.is_unavailable() && !error.may_have_applied(), "it is tried again, and not given up: {error:?}");
    }
    version(known).await;
    sink.write(&record).await.expect("mended");
}

#[tokio::test]
async fn a_record_is_written_once_however_often_it_comes() {
    let dir = Dir::new("audit");
    let sink = open(&dir.file()).await.audit();
    let plain = outcome().await;
    let mut full = plain.clone();
    full.id = Uuid::now_v7();
    let mut principal = Principal::new("ada's").team("search");
    principal.key = Some(Uuid::now_v7());
    full.principal = Some(Arc::new(principal));
    full.model = Some("claude-haiku-5-5".into());
    full.usage = Some(Usage { input: 9, cache_read: u64::MAX, cache_write_1h: 2, output: 5, ..Usage::default() });
    (full.granted, full.charged, full.cost) = (Some(money(50)), Some(money(40)), Some(money(30)));
    full.took = Duration::from_millis(3);
    let key = full.principal.as_ref().and_then(|p| p.key).map(|id| id.as_bytes().to_vec());
    let records = [plain, full].map(|outcome| AuditRecord::new(&outcome));

    sink.write(&records[..1]).await.expect("written");
    for _ in 0..2 {
        sink.write(&records).await.expect("written");
    }
    sink.write(&[]).await.expect("nothing to write");

    let mut connection = by_hand(&dir.file()).await;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tollgate_audit").fetch_one(&mut connection).await.expect("n");
    assert_eq!(count, 2);
    type Facts = (Option<Vec<u8>>, String, String, String, i64, i64, i64, i64, i64, i64);
    let facts: Facts = sqlx::query_as(
        "SELECT key_id, key_name, model, end, status, input_tokens, cache_read_tokens, granted_nanos, charged_nanos, took_us \
         FROM tollgate_audit WHERE key_name IS NOT NULL",
    )
    .fetch_one(&mut connection)
    .await
    .expect("a row");
    assert_eq!(facts.0, key);
    assert_eq!((&*facts.1, &*facts.2, &*facts.3, facts.4), ("ada's", "claude-haiku-5-5", "complete", 200));
    assert_eq!((facts.5, facts.6, facts.7, facts.8, facts.9), (9, i64::MAX, 50, 40, 3_000));
    for record in &records {
        let json: String = sqlx::query_scalar("SELECT record FROM tollgate_audit WHERE id = ?1")
            .bind(record.id.as_bytes().to_vec())
            .fetch_one(&mut connection)
            .await
            .expect("a row");
        assert_eq!(json, serde_json::to_string(record).expect("JSON"));
    }
}

#[tokio::test]
async fn a_name_with_a_nul_is_kept_whole() {
    let dir = Dir::new("audit-nul");
    let sink = open(&dir.file()).await.audit();
    let mut outcome = outcome().await;
    outcome.model = Some("a\0b".into());
    outcome.principal = Some(Arc::new(Principal::new("ada\0").user("\0").team("search\0lab").org("")));
    let record = AuditRecord::new(&outcome);
    sink.write(std::slice::from_ref(&record)).await.expect("written");
    let mut connection = by_hand(&dir.file()).await;
    let row: [Option<String>; 5] = {
        let row = sqlx::query("SELECT model, key_name, user, team, org FROM tollgate_audit");
        let row = row.fetch_one(&mut connection).await.expect("a row");
        [0, 1, 2, 3, 4].map(|column| row.get(column))
    };
    assert_eq!(row.map(|text| text.expect("it is there")), ["a\0b", "ada\0", "\0", "search\0lab", ""]);
    let kind = "SELECT typeof(model) || typeof(org) || (model = 'a' || char(0) || 'b') FROM tollgate_audit";
    let kind: String = sqlx::query_scalar(kind).fetch_one(&mut connection).await.expect("a row");
    assert_eq!(kind, "texttext1");
}
