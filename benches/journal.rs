//! Measures the cost of the journal: CPU time on the path of a call, latency, calls per second, and bytes per record.
//!
//! `cargo bench --bench journal --features memory,testing,upstream`. Pass `-- SECONDS` for longer cases, and
//! `-- WORDS` to run only the cases whose name contains the words. The journal lies under `target/tmp`. A call goes
//! through the whole gateway, is charged to one budget in memory, and is answered at once.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Request;
use http_body_util::BodyExt;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::task::LocalSet;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::journal::{Journal, export, verify};
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{AuditLayer, Body, BudgetLayer, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

/// A sink that accepts records at once, or never.
struct Sink {
    is_stalled: bool,
}

#[async_trait]
impl AuditSink for Sink {
    async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
        if self.is_stalled { std::future::pending().await } else { Ok(()) }
    }
}

fn main() {
    let arguments = || std::env::args().skip(1);
    let seconds = arguments().find_map(|arg| arg.parse().ok()).unwrap_or(3);
    let words = arguments().find(|arg| !arg.starts_with("--") && arg.parse::<u64>().is_err()).unwrap_or_default();
    // This thread runs only the path of the calls, and the part of shipping to sinks that has no thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!(
        "{:<32} {:>10} {:>10} {:>10} {:>12} {:>12} {:>10}",
        "calls at once", "calls/s", "p50 us", "p99 us", "thread us", "process us", "B/record"
    );
    for at_once in [1, 64, 1_024] {
        for way in ["no audit", "memory", "journal", "journal and sink", "stalled sink"] {
            let name = format!("{at_once}, {way}");
            if name.contains(&words) {
                LocalSet::new().block_on(&runtime, case(&name, way, at_once, Duration::from_secs(seconds)));
            }
        }
    }
}

async fn case(name: &str, way: &str, at_once: usize, time: Duration) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-journal-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory");
    let (gateway, audit) = gateway(way, &dir);
    let principal = principal();
    let (thread, process, start) = (cpu(UsageWho::RUSAGE_THREAD), cpu(UsageWho::RUSAGE_SELF), Instant::now());
    let mut tasks = Vec::new();
    for _ in 0..at_once {
        let (gateway, principal) = (gateway.clone(), principal.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let mut waits = Vec::new();
            while start.elapsed() < time {
                let began = Instant::now();
                let answer = Gateway::clone(&gateway).oneshot(request(&principal)).await.expect("infallible");
                assert_eq!(answer.status(), 200);
                let _ = answer.into_body().collect().await.expect("whole");
                waits.push(began.elapsed());
                tokio::task::yield_now().await;
            }
            waits
        }));
    }
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("it ran"));
    }
    let calls = waits.len().max(1) as u128;
    let [thread, process] = [(UsageWho::RUSAGE_THREAD, thread), (UsageWho::RUSAGE_SELF, process)]
        .map(|(who, before)| ((cpu(who) - before).as_nanos() / calls).to_string())
        .map(|nanos| format!("{:0>4}", nanos))
        .map(|nanos| format!("{}.{}", &nanos[..nanos.len() - 3], &nanos[nanos.len() - 3..nanos.len() - 2]));
    let a_second = calls * 1_000 / start.elapsed().as_millis().max(1);
    waits.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| waits[(waits.len() * percent / 100).min(waits.len() - 1)].as_micros());
    if let Some(audit) = &audit {
        audit.flush().await;
    }
    let bytes = a_record(&dir).map_or("-".to_owned(), |bytes| bytes.to_string());
    println!("{name:<32} {a_second:>10} {p50:>10} {p99:>10} {thread:>12} {process:>12} {bytes:>10}");
    drop((gateway, audit));
    std::fs::remove_dir_all(&dir).expect("ours");
}

fn gateway(way: &str, dir: &PathBuf) -> (Rc<Gateway>, Option<AuditLayer>) {
    let journal = || Journal::at(dir).open().expect("a journal");
    let ship = |is_stalled| journal().ship("sink", Sink { is_stalled }).expect("a name");
    let audit = match way {
        "no audit" => None,
        "memory" => Some(AuditLayer::new(Sink { is_stalled: false })),
        "journal" => Some(AuditLayer::journaled(journal())),
        "journal and sink" => Some(AuditLayer::journaled(ship(false))),
        _ => Some(AuditLayer::journaled(ship(true))),
    };
    let mut layer = GatewayLayer::new().budget(BudgetLayer::new(MemoryBudgets::new()));
    if let Some(audit) = &audit {
        layer = layer.audit(audit);
    }
    let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, upstream.expect("a URL")).layer(layer);
    (Rc::new(gateway.build().expect("a gateway")), audit)
}

fn principal() -> Arc<Principal> {
    let plenty = "1000000".parse().expect("an amount");
    let mut principal = Principal::new("ada").user("ada").team("search");
    principal.budgets = vec![Budget::new(Scope::team("search"), Window::Month, plenty)];
    Arc::new(principal)
}

fn request(principal: &Arc<Principal>) -> Request<Body> {
    const BODY: &str = r#"{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}"#;
    let mut request = Request::post("/v1/messages").body(Body::from(BODY)).expect("a request");
    request.extensions_mut().insert(principal.clone());
    request
}

/// The mean size of a line of the journal.
fn a_record(dir: &Path) -> Option<u64> {
    let lines = verify(dir, &[]).ok().filter(|report| report.broken.is_none())?.lines;
    let mut text = Vec::new();
    export(dir, &mut text).ok()?;
    (text.len() as u64).checked_div(lines)
}

/// The CPU time of this thread, or of this process.
fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).expect("it is ours");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}
