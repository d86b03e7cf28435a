use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Executor};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate::domain::key::KeyDigest;
use tollgate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};
use tollgate::store::key::KeyStore;
use tollgate::store::sqlite::{Sqlite, SqliteBudgets, SqliteErrorKind};
use tollgate::store::{At, Session};
use uuid::Uuid;

use crate::{Dir, all_of, by_hand, cause, hold, money, open, pot, session, standing};

/// Makes this many requests at once, and returns what was granted.
async fn storm(stores: &[SqliteBudgets], asks: usize, limit: i64) -> Vec<Reservation> {
    let sessions: Vec<Session> = stores.iter().map(|_| session()).collect();
    let mut tasks = JoinSet::new();
    for index in 0..asks {
        let (store, session) = (stores[index % stores.len()].clone(), sessions[index % stores.len()]);
        tasks.spawn(async move {
            let budgets = pot(limit);
            let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
            store.reserve(&ask, At::Store).await.expect("it answers")
        });
    }
    let verdicts = tasks.join_all().await;
    let granted = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::Allow(grant) => Some(grant.reservation),
        Verdict::Deny(denial) => {
            assert!(denial.is_held && denial.standing.held == money(limit), "{denial:?}");
            None
        }
    });
    granted.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_over_two_handles_never_overspend() {
    let dir = Dir::new("storm");
    let handles = [open(&dir.file()).await.budgets(), open(&dir.file()).await.budgets()];
    let granted = storm(&handles, 1_000, 300).await;
    assert_eq!(granted.len(), 300);
    let mut tasks = JoinSet::new();
    for (index, reservation) in granted.into_iter().enumerate() {
        // About half are settled through the other handle, and some are settled twice.
        let stores = handles.clone();
        tasks.spawn(async move {
            for turn in 0..=index % 2 {
                let store = &stores[(index + turn) % 2];
                store.settle(&reservation, money(2), At::Store).await.expect("it settles");
            }
        });
    }
    tasks.join_all().await;
    let now = standing(&handles[0], &pot(300), At::Store).await;
    assert_eq!((now.spent, now.held), (money(600), money(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_ask_with_one_id_have_one_grant() {
    let dir = Dir::new("one-id");
    let handles = [open(&dir.file()).await.budgets(), open(&dir.file()).await.budgets()];
    let (id, session) = (Uuid::now_v7(), session());
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let store = handles[index % 2].clone();
        tasks.spawn(async move {
            let budgets = pot(100);
            let ask = Reserve::new(id, session, &budgets, all_of(10));
            store.reserve(&ask, At::Store).await.expect("it answers")
        });
    }
    let verdicts = tasks.join_all().await;
    assert!(matches!(&verdicts[0], Verdict::Allow(_)));
    assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
    assert_eq!(standing(&handles[1], &pot(100), At::Store).await.held, money(10));
}

#[tokio::test]
async fn an_ask_that_was_dropped_holds_nothing_and_disturbs_nobody() {
    let dir = Dir::new("dropped");
    let store = open(&dir.file()).await.budgets();
    let session = session();
    let budgets = pot(100);
    standing(&store, &budgets, At::Store).await;
    for wait in 0..40 {
        let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(10));
        {
            let mut asking = pin!(store.reserve(&ask, At::Store));
            // Drop the future before the writer takes the request, while it decides, or after it has answered.
            assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::time::sleep(Duration::from_micros(wait * 100)).await;
        }
        let next = store.reserve(&Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1)), At::Store).await;
        assert!(matches!(next, Ok(Verdict::Allow(_))));
    }
    assert_eq!(standing(&store, &budgets, At::Store).await.held, money(40));

    // A settlement takes effect even if its future is dropped.
    let held = hold(&store, session, &budgets, 10, At::Store).await;
    {
        let mut settling = pin!(store.settle(&held, money(7), At::Store));
        assert!(settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let now = standing(&store, &budgets, At::Store).await;
    assert_eq!((now.spent, now.held), (money(7), money(40)));
}

#[tokio::test]
async fn an_ask_that_was_dropped_and_asked_again_is_held() {
    let dir = Dir::new("again");
    let store = open(&dir.file()).await.budgets();
    let budgets = pot(100);
    standing(&store, &budgets, At::Store).await;
    for wait in 0..30 {
        let ask = Reserve::new(Uuid::now_v7(), session(), &budgets, all_of(3));
        {
            let mut asking = pin!(store.reserve(&ask, At::Store));
            assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::time::sleep(Duration::from_micros(wait * 100)).await;
        }
        let Ok(Verdict::Allow(grant)) = store.reserve(&ask, At::Store).await else { panic!("it is held") };
        // Look twice, in case the hold of the dropped request is taken back late.
        for _ in 0..2 {
            assert_eq!(standing(&store, &budgets, At::Store).await.held, money(3));
        }
        store.settle(&grant.reservation, money(1), At::Store).await.expect("it settles");
    }
    assert_eq!(standing(&store, &budgets, At::Store).await.spent, money(30));
}

#[test]
fn a_runtime_that_ends_takes_the_writer_along_and_the_next_one_starts_another() {
    let dir = Dir::new("runtimes");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let sqlite = first.block_on(open(&dir.file()));
    let (store, session) = (Arc::new(sqlite.budgets()), session());
    first.block_on(hold(&store, session, &pot(100), 1, At::Store));
    drop(first);
    for _ in 0..3 {
        let runtime = runtime();
        runtime.block_on(hold(&store, session, &pot(100), 1, At::Store));
        assert_eq!(runtime.block_on(sqlite.keys().find(&KeyDigest::from_bytes([0; 32]))).expect("it answers"), None);
    }
    assert_eq!(runtime().block_on(standing(&store, &pot(100), At::Store)).held, money(4));
    // Without a runtime, a request cannot wait.
    let budgets = pot(100);
    let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
    let mut asking = pin!(store.reserve(&ask, At::Store));
    let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, std::task::Poll::Ready(Err(error)) if error.is_unavailable()));
}

#[tokio::test]
async fn the_writer_lets_go_of_the_file_when_the_last_handle_is_dropped() {
    let dir = Dir::new("handles");
    let store = {
        let sqlite = open(&dir.file()).await;
        sqlite.budgets()
    };
    hold(&store, session(), &pot(100), 1, At::Store).await;
    drop(store);
    for _ in 0..100 {
        if dir.bytes().len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the log is still there");
}

#[tokio::test]
async fn one_bad_ask_does_not_fail_those_beside_it() {
    let dir = Dir::new("bad");
    let store = open(&dir.file()).await.budgets();
    let budgets = pot(100);
    let bad = hold(&store, session(), &budgets, 10, At::Store).await;
    let mut connection = by_hand(&dir.file()).await;
    connection.execute("UPDATE tollgate_reservations SET pots = 'no JSON'").await.expect("written");
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let (store, bad) = (store.clone(), bad.clone());
        tasks.spawn(async move {
            match index {
                7 => assert!(!store.settle(&bad, money(1), At::Store).await.expect_err("it is bad").is_unavailable()),
                _ => drop(hold(&store, session(), &pot(100), 1, At::Store).await),
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(standing(&store, &budgets, At::Store).await.held, money(29));
}

#[tokio::test]
async fn all_who_queued_while_one_waited_for_a_lock_in_vain_are_told_at_once() {
    let dir = Dir::new("queued");
    open(&dir.file()).await.close().await.expect("it closes");
    let sqlite = Sqlite::options().busy_timeout(Duration::from_secs(1)).open(dir.file()).await.expect("it opens");
    let mut other = by_hand(&dir.file()).await;
    other.execute("BEGIN IMMEDIATE").await.expect("locked");
    let (begun, session) = (Instant::now(), session());
    let mut tasks = JoinSet::new();
    // Six batches. Each would have waited a second.
    for _ in 0..3_000 {
        let store = sqlite.budgets();
        tasks.spawn(async move {
            let budgets = pot(1_000_000);
            let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
            store.reserve(&ask, At::Store).await.expect_err("it is locked")
        });
    }
    for error in tasks.join_all().await {
        assert_eq!((cause(&error), error.may_have_applied()), (SqliteErrorKind::Locked, false));
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    other.execute("ROLLBACK").await.expect("unlocked");
    assert_eq!(standing(&sqlite.budgets(), &pot(1_000_000), At::Store).await.held, money(0));
}

#[tokio::test]
async fn a_disk_that_hangs_fills_no_memory_with_those_who_come_again() {
    let dir = Dir::new("hangs");
    let sqlite = open(&dir.file()).await;
    let (store, session, budgets) = (sqlite.budgets(), session(), pot(100));
    let held = hold(&store, session, &budgets, 10, At::Store).await;
    let mut other = by_hand(&dir.file()).await;
    other.execute("BEGIN IMMEDIATE").await.expect("locked");
    // Each request is polled once and dropped.
    let refused = (0..20_000).find_map(|_| {
        let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
        match pin!(store.reserve(&ask, At::Store)).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(answer) => Some(answer.expect_err("nobody can have answered")),
            std::task::Poll::Pending => None,
        }
    });
    let refused = refused.expect("there is an end to it");
    assert_eq!((cause(&refused), refused.is_unavailable()), (SqliteErrorKind::Behind, true));
    assert!(!refused.may_have_applied(), "it never came to the queue");
    // Settlements are accepted all the same.
    let mut settling = pin!(store.settle(&held, money(7), At::Store));
    assert!(settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    other.execute("ROLLBACK").await.expect("unlocked");
    settling.await.expect("it settles");
    let now = standing(&store, &budgets, At::Store).await;
    assert_eq!((now.spent, now.held), (money(7), money(0)), "whoever gave up holds nothing, and there is room again");
}

#[tokio::test]
async fn holds_are_on_the_disk_a_moment_later() {
    let dir = Dir::new("moment");
    let sqlite = Sqlite::open(dir.file()).await.expect("it opens");
    sqlite.migrate().await.expect("it migrates");
    let store = sqlite.budgets();
    let mut connection = by_hand(&dir.file()).await;
    hold(&store, session(), &pot(100), 1, At::Store).await;
    assert_eq!(synced(&mut connection, 1).await, 1, "one commit for the hold, and no more while nothing is held anew");
}

/// Returns how often holds were synced to the disk. Waits until that is `want`, and then a while longer, in case it is
/// synced too often.
async fn synced(connection: &mut SqliteConnection, want: i64) -> i64 {
    let syncs = "SELECT coalesce(max(value), 0) FROM tollgate_meta WHERE name = 'syncs'";
    let begun = Instant::now();
    loop {
        let got: i64 = sqlx::query_scalar(syncs).fetch_one(&mut *connection).await.expect("a row");
        if got >= want {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{got} of {want} within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    sqlx::query_scalar(syncs).fetch_one(&mut *connection).await.expect("a row")
}

#[tokio::test]
async fn holds_of_a_process_that_died_are_on_the_disk_a_moment_after_another_has_opened_the_file() {
    let dir = Dir::new("died");
    open(&dir.file()).await.close().await.expect("it closes");
    let mut connection = by_hand(&dir.file()).await;
    let syncs = "SELECT coalesce(max(value), 0) FROM tollgate_meta WHERE name = 'syncs'";
    let sqlite = Sqlite::open(dir.file()).await.expect("it opens");
    let before: i64 = sqlx::query_scalar(syncs).fetch_one(&mut connection).await.expect("a row");
    // This only reads, and holds nothing itself.
    standing(&sqlite.budgets(), &pot(100), At::Store).await;
    assert_eq!(synced(&mut connection, before + 1).await, before + 1, "one commit for what may be in the log");
}

/// The maximum number of pages of the file, which stands in for a full disk.
static PAGES: AtomicU32 = AtomicU32::new(40);

#[tokio::test]
async fn a_full_disk_is_said_to_everyone_and_nothing_is_half_done() {
    let dir = Dir::new("full");
    open(&dir.file()).await.close().await.expect("it closes");
    let pool = SqlitePoolOptions::new().after_connect(|connection, _| {
        let sql = format!("PRAGMA max_page_count = {}", PAGES.load(Ordering::SeqCst));
        Box::pin(async move { connection.execute(AssertSqlSafe(sql)).await.map(drop) })
    });
    let pool = pool.connect_lazy(&dir.file().display().to_string()).expect("a pool");
    let store = Sqlite::with_pool(pool).budgets();
    let (session, budgets) = (session(), pot(1_000_000));
    let mut granted = 0;
    let error = loop {
        let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1));
        match store.reserve(&ask, At::Store).await {
            Ok(_) => granted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(cause(&error), SqliteErrorKind::Full);
    assert!(error.is_unavailable() && !error.may_have_applied());
    assert!(store.heartbeat(session, At::Store).await.is_ok(), "what needs no room is done");
    PAGES.store(10_000, Ordering::SeqCst);
    // The store drops the connection that failed, and the next one has room.
    let mut tries = 0;
    while store.reserve(&Reserve::new(Uuid::now_v7(), session, &budgets, all_of(1)), At::Store).await.is_err() {
        tries += 1;
        assert!(tries < 3, "the writer lives on");
    }
    assert_eq!(standing(&store, &budgets, At::Store).await.held, money(granted + 1));
}
