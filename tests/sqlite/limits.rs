use std::time::Duration;

use sqlx::Executor;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::scope::Scope;
use tollgate::store::rate_limit::{Acquire, Permit, RateLimitStore, Used, Verdict};
use tollgate::store::sqlite::SqliteLimits;
use tollgate::store::{At, Session};
use uuid::Uuid;

use crate::{Dir, at, by_hand, open, session};

const NINE: &str = "2026-11-24T09:00:00Z";

fn limit(measure: Measure, most: u64) -> [Limit; 1] {
    [Limit::new(Scope::user("ada"), measure, most)]
}

async fn acquire(store: &SqliteLimits, session: Session, limits: &[Limit], tokens: u64, at: At) -> Option<Permit> {
    let ask = Acquire::new(Uuid::now_v7(), session, limits).tokens(tokens);
    match store.acquire(&ask, at).await.expect("it answers") {
        Verdict::Allow(allowed) => Some(allowed.permit),
        Verdict::Deny(_) => None,
    }
}

#[tokio::test]
async fn a_minutes_worth_is_not_given_anew_by_a_restart() {
    let dir = Dir::new("minute");
    let sqlite = open(&dir.file()).await;
    let limits = limit(Measure::Requests, 3);
    for _ in 0..3 {
        assert!(acquire(&sqlite.limits(), session(), &limits, 0, at(NINE)).await.is_some());
    }
    sqlite.close().await.expect("it closes");
    let store = open(&dir.file()).await.limits();
    assert!(acquire(&store, session(), &limits, 0, at(NINE)).await.is_none());
    assert!(acquire(&store, session(), &limits, 0, at("2026-11-24T08:00:00Z")).await.is_none(), "time goes one way");
    assert!(acquire(&store, session(), &limits, 0, at("2026-11-24T09:00:20Z")).await.is_some());
}

#[tokio::test]
async fn tokens_that_were_not_used_come_back_once_after_a_restart_too() {
    let dir = Dir::new("tokens");
    let sqlite = open(&dir.file()).await;
    let limits = limit(Measure::Tokens, 100);
    let permit = acquire(&sqlite.limits(), session(), &limits, 80, at(NINE)).await.expect("there is room");
    sqlite.close().await.expect("it closes");
    let store = open(&dir.file()).await.limits();
    for _ in 0..2 {
        store.settle(&permit, Used::Tokens(30), at(NINE)).await.expect("it settles");
        let standing = store.standing(&limits, at(NINE)).await.expect("it answers");
        assert_eq!(standing[0].left, 70);
    }
}

#[tokio::test]
async fn slots_are_shared_by_two_handles_and_freed_by_a_lease_that_ends() {
    let dir = Dir::new("slots");
    let (here, there) = (open(&dir.file()).await.limits(), open(&dir.file()).await.limits());
    let limits = limit(Measure::Parallel, 2);
    let [dead, alive] = [(), ()].map(|()| Session::new(Duration::from_secs(8)));
    let lost = acquire(&here, dead, &limits, 0, at(NINE)).await.expect("a slot");
    let kept = acquire(&there, alive, &limits, 0, at(NINE)).await.expect("a slot");
    assert!(acquire(&there, alive, &limits, 0, at(NINE)).await.is_none());
    there.heartbeat(alive, at("2026-11-24T09:00:07Z")).await.expect("it answers");
    assert!(acquire(&here, alive, &limits, 0, at("2026-11-24T09:00:08Z")).await.is_none(), "not yet");
    let later = at("2026-11-24T09:00:08.000000001Z");
    assert_eq!(there.standing(&limits, later).await.expect("it answers")[0].left, 1);
    here.settle(&lost, Used::Nothing, later).await.expect("it settles");
    assert_eq!(there.standing(&limits, later).await.expect("it answers")[0].left, 1, "it was freed already");
    for _ in 0..2 {
        there.settle(&kept, Used::Nothing, later).await.expect("it settles");
        assert_eq!(here.standing(&limits, later).await.expect("it answers")[0].left, 2);
    }
}

#[tokio::test]
async fn a_permit_of_a_dead_session_that_cannot_be_read_stops_no_limit() {
    let dir = Dir::new("unreadable-permit");
    let store = open(&dir.file()).await.limits();
    let limits = limit(Measure::Parallel, 3);
    let [dead, alive] = [(), ()].map(|()| Session::new(Duration::from_secs(8)));
    let bad = acquire(&store, dead, &limits, 0, at(NINE)).await.expect("a slot");
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("UPDATE tollgate_permits SET taken = 'no JSON'").await.expect("written");
    acquire(&store, dead, &limits, 0, at(NINE)).await.expect("a slot");

    let later = at("2026-11-24T09:01:00Z");
    acquire(&store, alive, &limits, 0, later).await.expect("a slot");
    let standing = store.standing(&limits, later).await.expect("it answers");
    assert_eq!(standing[0].left, 1, "what can be read is freed");
    assert!(store.settle(&bad, Used::Nothing, later).await.is_err(), "who asks for it by its id is told");
}

#[tokio::test]
async fn a_permit_that_nobody_may_settle_any_more_goes_though_no_other_session_falls_silent() {
    let dir = Dir::new("freed");
    let store = open(&dir.file()).await.limits();
    let mut connection = by_hand(&dir.file()).await;
    let [dead, alive] = [8, 1 << 20].map(|seconds| Session::new(Duration::from_secs(seconds)));
    acquire(&store, dead, &limit(Measure::Parallel, 1), 0, at(NINE)).await.expect("a slot");
    for (time, rows) in [
        ("2026-11-24T09:00:09Z", 1_i64),
        ("2026-11-24T09:30:00Z", 1),
        ("2026-11-24T10:00:08Z", 1),
        ("2026-11-24T10:02:00Z", 0),
    ] {
        store.heartbeat(alive, at(time)).await.expect("it answers");
        let left = sqlx::query_scalar("SELECT count(*) FROM tollgate_permits").fetch_one(&mut connection).await;
        assert_eq!(left.ok(), Some(rows), "{time}");
    }
}

#[tokio::test]
async fn rows_of_limits_that_are_full_again_are_deleted_and_no_others() {
    let dir = Dir::new("idle-meters");
    let store = open(&dir.file()).await.limits();
    let mut connection = by_hand(&dir.file()).await;
    let session = session();
    let of = |name: &str| [Limit::new(Scope::user(name), Measure::Tokens, 100)];
    // Many tokens were given back to this limit before. One permit of it is out, and so are some unreadable permits.
    for _ in 0..60 {
        let permit = acquire(&store, session, &of("out"), 100, at(NINE)).await.expect("there is room");
        store.settle(&permit, Used::Nothing, at(NINE)).await.expect("it settles");
    }
    let out = acquire(&store, session, &of("out"), 100, at(NINE)).await.expect("there is room");
    let slot = acquire(&store, session, &limit(Measure::Parallel, 1), 0, at(NINE)).await.expect("a slot");
    let broken = "INSERT INTO tollgate_permits (id, session, taken, freed_at, asks) \
         VALUES (x'01', x'02', 'no JSON', NULL, 1), (x'03', x'04', '[5, \"five\"]', NULL, 1)";
    connection.execute(broken).await.expect("written");
    // Many earlier customers.
    let customers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
         INSERT INTO tollgate_meters SELECT 'user', 'customer ' || i, 'tokens', \
         (SELECT value FROM tollgate_meta WHERE name = 'limit_clock') - 1, 0, 0 FROM n";
    connection.execute(customers).await.expect("written");
    let later = "2026-11-24T09:10:00Z";
    let rows = "SELECT count(*) FROM tollgate_meters";
    for _ in 0..4 {
        for _ in 0..1_024 / 2 {
            let permit = acquire(&store, session, &of("busy"), 1, at(later)).await;
            let Some(permit) = permit else { break };
            store.settle(&permit, Used::Nothing, at(later)).await.expect("it settles");
        }
    }
    let left: i64 = sqlx::query_scalar(rows).fetch_one(&mut connection).await.expect("a number");
    assert!(left < 600, "{left} of nine thousand: fewer are not worth it");
    let again = acquire(&store, session, &of("out"), 60, at(later)).await.expect("it has drained");
    store.settle(&out, Used::Nothing, at(later)).await.expect("it settles");
    assert_eq!(store.standing(&of("out"), at(later)).await.expect("it answers")[0].left, 40, "it had drained");
    store.settle(&again, Used::Nothing, at(later)).await.expect("it settles");
    let slots = limit(Measure::Parallel, 1);
    assert_eq!(store.standing(&slots, at(later)).await.expect("it answers")[0].left, 0);
    store.settle(&slot, Used::Nothing, at(later)).await.expect("it settles");
    assert_eq!(store.standing(&slots, at(later)).await.expect("it answers")[0].left, 1);
}
