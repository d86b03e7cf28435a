//! Measures budgets in a SQLite file: calls per second, latency of holds and of settlements, and CPU time per call.
//!
//! `cargo bench --bench sqlite --features sqlite`. Pass `-- SECONDS` for longer cases. The file lies under
//! `target/tmp`, so the figures are those of that disk. A call is one `reserve` over four pots and one `settle`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::task::JoinSet;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::money::Money;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
use tollgate::store::sqlite::Sqlite;
use tollgate::store::{At, Session};
use uuid::Uuid;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(3);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-sqlite-{}", std::process::id()));
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "calls at once", "calls/s", "hold p50 us", "hold p99 us", "settle p50", "settle p99", "CPU us/call"
    );
    for (name, durable) in [("", true), (", no fsync", false)] {
        for at_once in [1, 8, 64, 256, 1_024] {
            std::fs::create_dir_all(&directory).expect("a directory");
            let options = if durable { Sqlite::options() } else { Sqlite::options().without_fsync() };
            let sqlite = options.open(directory.join("bench.db")).await.expect("it opens");
            sqlite.migrate().await.expect("it migrates");
            case(&format!("{at_once}{name}"), &sqlite, at_once, Duration::from_secs(seconds)).await;
            sqlite.close().await.expect("it closes");
            std::fs::remove_dir_all(&directory).expect("ours");
        }
    }
}

async fn case(name: &str, sqlite: &Sqlite, at_once: usize, time: Duration) {
    let session = Session::new(Duration::from_secs(300));
    let (cpu, start) = (cpu(), Instant::now());
    let mut tasks = JoinSet::new();
    for task in 0..at_once {
        let store = sqlite.budgets();
        // One team of ten users.
        let scopes = [Scope::user(format!("user {}", task % 10)), Scope::team("search")];
        let windows = [Window::Day, Window::Month];
        let budgets: Vec<_> = scopes
            .iter()
            .flat_map(|scope| windows.map(|window| Budget::new(scope.clone(), window, Money::MAX)))
            .collect();
        tasks.spawn(async move {
            let wish = Wish { min: Money::from_nanos(1), want: Money::from_nanos(1_000), share: 4 };
            let (mut holds, mut settlements) = (Vec::new(), Vec::new());
            while start.elapsed() < time {
                let began = Instant::now();
                let ask = Reserve::new(Uuid::now_v7(), session, &budgets, wish);
                let Ok(Verdict::Allow(grant)) = store.reserve(&ask, At::Store).await else { panic!("there is enough") };
                holds.push(began.elapsed());
                let began = Instant::now();
                store.settle(&grant.reservation, Money::from_nanos(700), At::Store).await.expect("it settles");
                settlements.push(began.elapsed());
            }
            (holds, settlements)
        });
    }
    let (holds, settlements): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    let (mut holds, mut settlements) = (holds.concat(), settlements.concat());
    let calls = holds.len().max(1) as u128;
    let a_second = calls * 1_000 / start.elapsed().as_millis().max(1);
    let a_call = (self::cpu() - cpu).as_micros() / calls;
    let [hold, late_hold] = quantiles(&mut holds);
    let [settle, late_settle] = quantiles(&mut settlements);
    println!("{name:<24} {a_second:>12} {hold:>12} {late_hold:>12} {settle:>12} {late_settle:>12} {a_call:>12}");
}

/// The median and the 99th percentile, in microseconds.
fn quantiles(times: &mut [Duration]) -> [u128; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| times[(times.len() * percent / 100).min(times.len() - 1)].as_micros())
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it is ours");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}
