//! Measures the gateway on the wire: CPU time per request, compared with a bare proxy (`examples/bare_proxy.rs`).
//!
//! ```text
//! cargo build --release --examples --features sqlite,upstream,testing
//! cargo bench --bench e2e --features upstream,testing       # or: -- --quick, --rounds 5, --seconds 10, --only stream, --rate 3000
//! ```
//!
//! Each program under test is a separate process. It gets requests at a fixed rate, in rounds in which the programs
//! take turns. The kernel reports the CPU time of each (`/proc/PID/task/*/schedstat`, so Linux only). This process
//! sends the load and is the simulated provider, and its own CPU time does not count. The subjects:
//!
//! - the bare proxy;
//! - the bare proxy with `--buffer`, the minimum for anything that reads request bodies;
//! - the example gateway, open;
//! - the example gateway, governed: with a key, limits, budgets and the audit trail in memory;
//! - the layers alone, served the same way, without the log line that the example writes for each call;
//! - the layers, translating, in front of a provider that speaks Chat Completions, whose events are more than twice as
//!   long.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "../../examples/support/serve.rs"]
mod serve;

mod layers;
mod load;
mod report;
mod subject;

use std::error::Error;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tollgate::testing::Simulated;

use load::{Load, SHAPES, Shape};
use report::Report;
use serve::Stop;
use subject::Subject;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (mut rounds, mut seconds, mut only, mut rate) = (3, 5, None, None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg}: a value is missing"));
        match arg.as_str() {
            // `cargo bench` passes this.
            "--bench" => {}
            "--quick" => (rounds, seconds) = (3, 1),
            "--rounds" => rounds = value()?.parse()?,
            "--seconds" => seconds = value()?.parse()?,
            "--only" => only = Some(value()?),
            "--rate" => rate = Some(value()?.parse()?),
            // This program was started again, as one of its own subjects.
            layers::ROLE | layers::TRANSLATING => return layers::serve(&arg, &value()?),
            other => return Err(format!("{other}: no such argument").into()),
        }
    }
    let mut shapes = SHAPES;
    for shape in &mut shapes {
        shape.rate = rate.unwrap_or(shape.rate);
    }
    let shapes = shapes.iter().filter(|shape| only.as_ref().is_none_or(|only| shape.name.contains(only.as_str())));
    measure(shapes, rounds, Duration::from_secs(seconds))
}

fn measure<'a>(shapes: impl Iterator<Item = &'a Shape>, rounds: usize, round: Duration) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let upstream = runtime.block_on(provider(&runtime))?;
    let subjects = [
        Subject::bare_proxy(&upstream)?,
        Subject::buffering_proxy(&upstream)?,
        Subject::gateway(&upstream)?,
        Subject::governed(&upstream)?,
        Subject::layers("layers, no log", layers::ROLE, &upstream)?,
        Subject::layers("translating", layers::TRANSLATING, &upstream)?,
    ];
    for shape in shapes {
        println!("{}: {} requests a second, {rounds} rounds of {round:?}", shape.name, shape.rate);
        let loads: Vec<Load> = subjects.iter().map(|subject| Load::new(shape, &subject.url, &subject.key)).collect();
        for load in &loads {
            runtime.block_on(load.drive(Duration::from_secs(1)))?;
        }
        let mut report = Report::new(subjects.iter().map(|subject| subject.name));
        for _ in 0..rounds {
            for (subject, load) in subjects.iter().zip(&loads) {
                let before = subject.spent()?;
                let sent = runtime.block_on(load.drive(round))?;
                report.add(subject.name, subject.spent()? - before, &sent);
            }
        }
        report.print(shape.events);
    }
    Ok(())
}

/// Serves the simulated provider from this process and returns its URL.
async fn provider(runtime: &Runtime) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    runtime.spawn(serve::until(Stop::new()?, listener, Router::new().fallback_service(Simulated::new())));
    Ok(url)
}
