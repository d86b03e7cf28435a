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
