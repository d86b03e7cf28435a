use std::collections::HashMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate::store::At;
use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
use uuid::Uuid;

use crate::{Dir, all_of, by_hand, hold, money, open, pot, session, standing};

const FILE: &str = "TOLLGATE_TEST_SQLITE_FILE";
const TOLD: &str = "TOLLGATE_TEST_SQLITE_TOLD";

/// Starts a child process that runs one test of this binary.
fn child(test: &str, file: &Path, told: &Path) -> Child {
    Command::new(env::current_exe().expect("this binary"))
        .args([test, "--exact", "--quiet"])
        .env(FILE, file)
        .env(TOLD, told)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Returns the files that a child process works on. `None` if this is not a child process.
fn told() -> Option<(PathBuf, PathBuf)> {
    Some((env::var_os(FILE)?.into(), env::var_os(TOLD)?.into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_spends() {
    let Some((file, told)) = told() else { return };
    let sqlite = open(&file).await;
    let (store, session) = (sqlite.budgets(), session());
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, told) = (store.clone(), told.clone());
        tasks.spawn(async move {
            let mut out = OpenOptions::new().create(true).append(true).open(told).expect("writable");
            loop {
                let budgets = pot(1_000_000);
                let ask = Reserve::new(Uuid::now_v7(), session, &budgets, all_of(100));
                let Verdict::Allow(grant) = store.reserve(&ask, At::Store).await.expect("it answers") else { return };
                store.settle(&grant.reservation, money(101), At::Store).await.expect("it settles");
                // One write per line, so that a kill leaves a line whole or not at all.
                out.write_all(format!("{}\n", ask.id.simple()).as_bytes()).expect("written");
            }
        });
    }
    tasks.join_all().await;
}

/// Returns the ids whose settlement was answered.
fn answered(told: &Path) -> Vec<String> {
    fs::read_to_string(told).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Reads the ledger directly: the state and the amount of every id.
async fn rows(file: &Path) -> HashMap<String, (String, Option<i64>)> {
    let mut connection = by_hand(file).await;
    let check: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.expect("a word");
    assert_eq!(check, "ok");
    let rows: Vec<(String, String, Option<i64>)> =
        sqlx::query_as("SELECT lower(hex(id)), state, actual FROM tollgate_reservations")
            .fetch_all(&mut connection)
            .await
            .expect("rows");
    rows.into_iter().map(|(id, state, actual)| (id, (state, actual))).collect()
}

#[tokio::test]
async fn two_processes_never_overspend_one_budget() {
    let dir = Dir::new("two-processes");
    open(&dir.file()).await.close().await.expect("it closes");
    let told = ["here", "there"].map(|name| dir.0.join(name));
    let mut children = [0, 1].map(|index| child("processes::child_that_spends", &dir.file(), &told[index]));
    for child in &mut children {
        assert!(child.wait().expect("it ends").success());
    }
    let [here, there] = [0, 1].map(|index| answered(&told[index]).len());
    let now = standing(&open(&dir.file()).await.budgets(), &pot(1_000_000), At::Store).await;
    // Each call costs a little more than was held, so the last ones may exceed the limit. Then no call is admitted.
    let calls = i64::try_from(here + there).expect("a count");
    assert_eq!((now.spent, now.held), (money(101 * calls), money(0)));
    assert!((9_901..=9_916).contains(&calls), "{calls} calls");
    assert!(here > 0 && there > 0, "both had a share: {here} and {there}");
    assert_eq!(rows(&dir.file()).await.len(), here + there);
}

#[tokio::test]
async fn what_was_answered_before_a_kill_is_in_the_file() {
    for round in 0..5 {
        let dir = Dir::new(&format!("killed-{round}"));
        open(&dir.file()).await.close().await.expect("it closes");
        let told = dir.0.join("told");
        let mut child = child("processes::child_that_spends", &dir.file(), &told);
        while answered(&told).len() < 50 {
            assert!(child.try_wait().expect("it is ours").is_none(), "it ended by itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        child.kill().expect("it is ours");
        child.wait().expect("it ends");

        let store = open(&dir.file()).await.budgets();
        let (rows, answered) = (rows(&dir.file()).await, answered(&told));
        for id in &answered {
            assert_eq!(rows.get(id), Some(&("settled".into(), Some(101))), "round {round}: {id}");
        }
        let (mut spent, mut held) = (0, 0);
        for (state, actual) in rows.values() {
            match &**state {
                "live" => held += 100,
                _ => spent += actual.expect("it counts"),
            }
        }
        let now = standing(&store, &pot(1_000_000), At::Store).await;
        assert_eq!((now.spent, now.held), (money(spent), money(held)), "the pot is what its rows sum to");
        assert!(held <= 800, "{held} held by 8 tasks");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_comes_and_goes() {
    let Some((file, told)) = told() else { return };
    let mut out = OpenOptions::new().create(true).append(true).open(told).expect("writable");
    for _ in 0..100 {
        let sqlite = open(&file).await;
        let store = sqlite.budgets();
        let held = hold(&store, session(), &pot(1_000_000), 1, At::Store).await;
        store.settle(&held, money(1), At::Store).await.expect("it settles");
        sqlite.close().await.expect("it closes");
        out.write_all(format!("{}\n", held.id.simple()).as_bytes()).expect("written");
    }
}

#[tokio::test]
async fn processes_that_open_and_close_one_file_at_once_do_not_disturb_each_other() {
    let dir = Dir::new("come-and-go");
    let told = dir.0.join("told");
    let mut children = [(); 3].map(|()| child("processes::child_that_comes_and_goes", &dir.file(), &told));
    for child in &mut children {
        assert!(child.wait().expect("it ends").success());
    }
    let now = standing(&open(&dir.file()).await.budgets(), &pot(1_000_000), At::Store).await;
    assert_eq!((now.spent, now.held), (money(300), money(0)));
    assert_eq!(answered(&told).len(), 300);
}
