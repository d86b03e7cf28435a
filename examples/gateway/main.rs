//! A gateway to start with: `cargo run --release --example gateway --features sqlite,upstream,testing`
//!
//! It listens on 127.0.0.1:4000 and prints what to paste into clients.
//!
//! **Providers.** `ANTHROPIC_API_KEY` and `OPENAI_API_KEY` choose the providers that it calls. `ANTHROPIC_BASE_URL` and
//! `OPENAI_BASE_URL` change where they are called. A base URL without a key is a server of yours that needs no key. If
//! none of these is set, a simulated provider answers.
//!
//! **Minting keys.** `--mint name=alice,budget=5/day,rpm=10` mints a key and prints it. If a key of that name exists,
//! it gets a new secret instead:
//!
//! - A part that you do not name stays as it was.
//! - A part that you name replaces all of what was there: `budget=2/day` replaces all of the key's own budgets.
//! - `budget=none`, `rpm=none` and the like take a part away, as do `models=*` and `content=default`.
//! - A `team-budget` covers only the keys that name it: give it to every member. The log warns of a key that joins a team
//!   without one that another key of that team has.
//! - The log says what changed.
//! - A key that was revoked or has expired is left as it is.
//!
//! `mint name=alice,…` does the same beside a gateway that runs with the same `--database`. `keys` lists all keys, what
//! they may do, and what they have spent.
//!
//! **Changing keys.** `change name=alice,budget=10/day`, run beside the gateway with the same `--database`, changes
//! what the key may do, and leaves its secret and what it has spent as they are. Parts are named as for `--mint`. The
//! gateway knows of it within 5 seconds. If one of several keys cannot be changed, none is.
//!
//! **Revoking keys.** `revoke alice`, run beside the gateway with the same `--database`, revokes the key within 5
//! seconds. Answers that have begun go on to their end. `--revoke alice` revokes the key at a start, before anybody is
//! served. It also sends the event to `--notify`, which `revoke` does not.
//!
//! **Storage.** Keys, budgets, the use of limits and the audit trail are kept in `tollgate.db`. `--database` names
//! another place: `sqlite://FILE`, or `memory:`.
//!
//! **Pepper.** Keys are hashed with a pepper. It comes from `TOLLGATE_PEPPER`, or from a file beside the database. The
//! gateway refuses to start with a pepper under which no key in the database was minted. It can tell only if this
//! program minted the first of those keys. To change the pepper, put the old one into the file and the new one into
//! `TOLLGATE_PEPPER`. The gateway also refuses to start if the file with the pepper is there and the database is not:
//! without its keys it would be open to everybody.
//!
//! **Journal.** `--journal DIR` writes every call down before it is sent, so that a crash loses no record. The next
//! start corrects the budgets of calls that a crash cut off.
//!
//! - `audit verify DIR` proves that nothing in the journal is missing or was changed, even while it is being written.
//! - `audit export DIR` prints the journal, and `audit verify FILE` proves such an export.
//! - `--anchor SEQ:HASH` takes a `head` that `audit verify` printed earlier and that you kept elsewhere. It proves that
//!   nobody rewrote the lines up to that one (`proved_to`).
//! - The exit code is 1 if something is wrong. It is 2 if nothing is proved: the journal has no lines, or no anchor is
//!   confirmed because all of them are older than the lines that are kept.
//!
//! **Events.** With a journal, `--notify URL` posts events to a Slack webhook: a budget runs out, `--revoke` has
//! revoked a key, or a provider is down.
//!
//! **Content.** The content of prompts and answers is not kept unless `--content FILE` says where. How much is kept of
//! a call depends on its key (`content=full`, `redacted` or `hashed`), or else on `--keep`. `--keep-days` says for how
//! long. With a journal, `audit content FILE CALL DIR` prints what is kept of a call, and proves it. The exit code is 1
//! if the content or the journal was changed. It is 2 if content of the call is missing, or if the journal has no seal
//! of it.
//!
//! **Stopping.** On Ctrl-C or SIGTERM the gateway takes no new connections and gives streams 30 seconds to end. It then
//! takes up to 10 more seconds to write everything down. If a step does not finish in time, or the trail could not be
//! written or handed on completely, the last line of the log names it and the exit code is 1. One more Ctrl-C
//! cuts the streams, which tells their clients why, and leaves the rest three seconds.
#![expect(clippy::disallowed_methods, reason = "a program asks its own clock")]

#[path = "../support/serve.rs"]
mod serve;

mod args;
mod audit;
mod calls;
mod change;
mod ending;
mod help;
mod hurry;
mod keys;
mod local;
mod mint;
mod peppers;
mod powers;
mod providers;
mod storage;
mod teams;
mod welcome;

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tollgate::call::Settlements;
use tollgate::store::cached::CachedKeys;
use tollgate::store::journal::UpstreamWatch;
use tollgate::{AuditLayer, BudgetLayer, Gateway, GatewayLayer, KeyAuthLayer, RateLimitLayer};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Args, Command, Database};
use providers::{Answers, Providers};
use storage::Storage;
use welcome::say;

fn main() -> ExitCode {
    // `RUST_LOG=debug` logs every call. The default logs only calls that went wrong.
    let asked = std::env::var_os("RUST_LOG").filter(|level| !level.is_empty());
    let level = asked.as_ref().and_then(|level| level.to_str()?.parse().ok());
    let not_understood = asked.filter(|_| level.is_none());
    let level = level.unwrap_or(Level::INFO);
    // With `memory:`, audit records go to the log, and are shown at `debug` only.
    let audit = if level >= Level::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    // A separate thread writes the log. If nobody reads standard error any more, lines are lost but no call waits.
    let (log, _written) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(log))
        .with(Targets::new().with_default(level).with_target("tollgate::audit", audit))
        .init();
    if let Some(level) = not_understood {
        tracing::warn!("RUST_LOG={}: taken as info; give error, warn, info, debug or trace", level.display());
    }
    if let Ok(moment) = std::env::var("TOLLGATE_END_AT") {
        // For the tests of what a crash leaves behind.
        tollgate::testing::end_at(&moment);
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(run()).map_or_else(|error| failed(&*error), |()| ExitCode::SUCCESS);
    // A thread that is blocked on a disk may never return.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    tracing::error!("{}", chain(error));
    if error.is::<audit::Nothing>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The message of an error, followed by the messages of its causes.
fn chain(error: &dyn Error) -> String {
    let (mut said, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut args = match Command::parse(std::env::args_os())? {
        Command::Serve(args) => args,
        Command::Help => return Ok(say(format_args!("{}", help::USAGE.trim_end()))?),
        Command::Version => return Ok(say(format_args!("gateway {}", env!("CARGO_PKG_VERSION")))?),
        Command::Audit(audit) => return audit::run(audit).await,
        Command::Keys(keys) => return keys.run().await,
    };
    let (stop, hurry) = (serve::Stop::new()?, hurry::Hurry::new()?);
    if let Database::Sqlite(path) = &args.database {
        peppers::check_not_lost(Path::new(path))?;
    }
    // Without a database there are no keys: refuse before any file is created.
    if args.mint.is_empty() && !args.database.exists() {
        may_be_open(args.listen)?;
    }
    let storage = Storage::open(&args).await?;
    let (listen, mint) = (args.listen, std::mem::take(&mut args.mint));
    let has_keys = !mint.is_empty() || !storage.stores.keys.is_empty().await?;
    if !has_keys {
        may_be_open(listen)?;
    }
    for one in &mint {
        one.check("--mint", &*storage.stores.keys, storage.content.is_some()).await?;
    }
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    let address = listener.local_addr()?;
    mint::check_known(&*storage.stores.keys, "--revoke", &args.revoke).await?;
    for name in &args.revoke {
        mint::revoke(&*storage.stores.keys, "--revoke", name).await?;
    }

    let settlements = Settlements::new();
    let mut layer = GatewayLayer::new()
        .settlements(settlements.clone())
        .live_calls(stop.live.clone())
        .audit(&storage.audit)
        .on_close(|outcome| calls::log(outcome));
    // The next call of a client may come before its last one is settled, while that one's money is still held.
    let mut budgets = BudgetLayer::new(storage.stores.budgets.clone()).wait(Duration::from_millis(250));
    if let Some(events) = storage.events.clone() {
        let watch = UpstreamWatch::new(events.clone(), 5);
        let refusals = events.clone();
        budgets = budgets
            .on_threshold(move |crossing| events.crossing(crossing))
            .on_exhausted(move |standing| refusals.exhausted(standing));
        layer = layer.on_close(move |outcome| watch.see(outcome));
    }
    if has_keys {
        layer = layer
            .auth(KeyAuthLayer::new(CachedKeys::new(storage.stores.keys.clone()), storage.peppers.pepper.clone()))
            .rate_limit(RateLimitLayer::new(storage.stores.limits.clone()))
            .budget(budgets);
    } else {
        layer = layer.gate(local::Only);
    }
    if let Some(content) = &storage.content {
        layer = layer.content(content);
    }
    let Providers { gateway, answers } = providers::from_environment(Gateway::builder().layer(layer), address)?;
    let audit = storage.audit.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { ready(&audit) }))
        .fallback_service(gateway.build()?);

    // Mint or rotate secrets last, when nothing else can fail. A rotation invalidates the old secret, and the line
    // printed here is the only copy of the new one.
    say(format_args!("listening http://{address}"))
        .map_err(|error| format!("cannot write the address or keys to standard output: {error}"))?;
    let minted = mint.len();
    let first = mint::all("--mint", mint, &*storage.stores.keys, &storage.peppers).await?;
    // Everything essential has been printed. Whoever reads standard output may have stopped reading.
    if let Err(error) = welcome::print(address, &answers, has_keys, first.as_ref()) {
        tracing::warn!("cannot write the settings for clients to standard output: {error}");
    }
    drop(first);
    began(&args, address, minted, &answers).await;
    let (stop, is_urgent) = hurry::until(stop, hurry, listener, app).await?;
    ending::end(stop, is_urgent, &settlements, &storage).await?;
    match storage.audit.status().left_out {
        0 => tracing::info!("stopped: every call is settled and recorded"),
        left_out => tracing::info!(
            left_out,
            "stopped: every call is settled, and recorded unless it was refused without a good key when too many were"
        ),
    }
    Ok(())
}

/// Refuses to listen beyond loopback, for a gateway without keys.
fn may_be_open(listen: SocketAddr) -> Result<(), String> {
    match listen.ip().is_loopback() {
        true => Ok(()),
        false => Err(format!(
            "--listen {listen}: without virtual keys, anyone who can reach this port spends your money; make a key with --mint, or listen on a loopback address"
        )),
    }
}

/// Logs what is being served.
async fn began(args: &Args, address: SocketAddr, minted: usize, answers: &Answers) {
    let keys = match &args.database {
        // The count is only for the log: its failure must not end the gateway.
        Database::Sqlite(path) => peppers::count(Path::new(path)).await.ok(),
        Database::Memory => i64::try_from(minted).ok(),
    };
    let journal = args.trail.journal.as_ref().map(|path| path.display());
    let content = args.content.as_ref().map(|content| content.file.display());
    tracing::info!(
        keys,
        data = %args.database,
        journal = journal.map(display),
        content = content.map(display),
        "serving on http://{address}"
    );
    if answers.simulated {
        let empty = match answers.empty.len() {
            0 => String::new(),
            _ => format!(" ({}: set but empty)", answers.empty.join(", ")),
        };
        tracing::warn!(
            "no provider is configured{empty}: a simulated provider answers, and budgets are charged for its invented usage"
        );
    }
}

/// The gateway is not ready if no call can be recorded. Providers that are down and spent budgets do not count.
fn ready(audit: &AuditLayer) -> (StatusCode, &'static str) {
    match audit.status().is_refusing {
        false => (StatusCode::OK, "ready"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "calls cannot be recorded"),
    }
}
