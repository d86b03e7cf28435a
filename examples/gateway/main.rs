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
//! - The log says what changed.
//! - A key that was revoked or has expired is left as it is.
//!
//! `mint name=alice,…` does the same beside a gateway that runs with the same `--database`. `keys` lists all keys, what
//! they may do, and what they have spent.
//!
//! **Revoking keys.** `revoke alice`, run beside the gateway with the same `--database`, revokes the key within 5
//! seconds. Answers that have begun go on to their end. `--revoke alice` revokes the key at a start, before anybody is
//! served. It also sends the event to `--notify`, which `revoke` does not.
//!
//! **Storage.** Keys, budgets, the use of limits and the audit trail are kept in `tollgate.db`. `--database` names
//! another place: `sqlite://FILE`, or `memory:`.
//!
//! **Pepper.** Keys open under a pepper. It comes from `TOLLGATE_PEPPER`, or from a file beside the database. A start
//! under a pepper that no key there was minted under is refused, if this program minted the first of those keys. To
//! change the pepper, put the old one into the file and the new one into `TOLLGATE_PEPPER`.
//!
//! **Journal.** `--journal DIR` writes every call down before it is sent, so that a crash loses no record. The next
//! start corrects the budgets of calls that a crash cut off.
//!
//! - `audit verify DIR` proves that nothing in the journal is missing or was changed, even while it is being written.
//! - `audit export DIR` prints the journal, and `audit verify FILE` proves such an export.
//! - `--anchor SEQ:HASH` takes a `head` that `audit verify` printed earlier and that you kept elsewhere. It proves that
//!   nobody rewrote the lines up to that one (`proved_to`).
//! - The exit code is 1 if something is wrong. It is 2 if nothing is proved: there is no line of a journal, or none of
//!   the anchors is confirmed, since they are older than what is kept.
//!
//! **Events.** With a journal, `--notify URL` posts events to a Slack webhook: a budget runs out, `--revoke` has
//! revoked a key, or a provider is down.
//!
//! **Content.** The content of prompts and answers is not kept unless `--content FILE` says where. How much is kept of
//! a call depends on its key (`content=full`, `redacted` or `hashed`), or else on `--keep`. `--keep-days` says for how
//! long. With a journal, `audit content FILE CALL DIR` prints what is kept of a call, and proves it. The exit code is 1
//! if the content or the journal was changed. It is 2 if something of the call is not there, or the journal says
//! nothing of it.
//!
//! **Stopping.** On Ctrl-C or SIGTERM the gateway takes no new connections, gives streams 30 seconds, and then gives
//! everything that is to be written down 10 more. The log names what has not ended by then, and the exit code is 1. One
//! more Ctrl-C cuts the streams, and leaves the rest one second.
#![expect(clippy::disallowed_methods, reason = "a program asks its own clock")]

#[path = "../support/serve.rs"]
mod serve;

mod args;
mod audit;
mod calls;
mod ending;
mod help;
mod keys;
mod local;
mod mint;
mod peppers;
mod powers;
mod providers;
mod storage;
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
    // `RUST_LOG=debug` shows every call; otherwise only those that went wrong.
    let level = std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    // Without a database the log is the audit trail, for those who want to see it.
    let audit = if level >= Level::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    // By a thread of its own: a log that nobody reads any more loses lines, and holds up no call.
    let (log, _written) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(log))
        .with(Targets::new().with_default(level).with_target("tollgate::audit", audit))
        .init();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(run()).map_or_else(|error| failed(&*error), |()| ExitCode::SUCCESS);
    // A thread of it that waits for a disk may do so for ever.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    tracing::error!("{}", chain(error));
    if error.is::<audit::Nothing>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// What it says, and all that caused it.
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
    let stop = serve::Stop::new()?;
    // Before anything is made, where it is known by then.
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
    for name in &args.revoke {
        mint::revoke(&*storage.stores.keys, "--revoke", name).await?;
    }

    let settlements = Settlements::new();
    let mut layer = GatewayLayer::new()
        .settlements(settlements.clone())
        .live_calls(stop.live.clone())
        .audit(&storage.audit)
        .on_close(calls::log);
    // One that asks on at once finds what its last call held still held, until that is settled.
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
        .fallback_service(gateway.try_build()?);

    // Only now that nothing else can fail is a secret made, or rotated: the one before opens nothing any more, and of the new
    // one there is no other copy than the line that is printed as soon as it counts.
    say(format_args!("listening http://{address}"))
        .map_err(|error| format!("nobody can be told where it listens, nor any key; standard output: {error}"))?;
    let minted = mint.len();
    let first = mint::all("--mint", mint, &*storage.stores.keys, &storage.peppers).await?;
    // All that counts is said by now, and those who wanted no more may have stopped reading.
    if let Err(error) = welcome::print(address, &answers, has_keys, first.as_ref()) {
        tracing::warn!("what to paste into clients could not be printed; standard output: {error}");
    }
    drop(first);
    began(&args, address, minted, &answers).await;
    let (stop, is_urgent) = serve::until(stop, listener, app).await?;
    ending::end(stop, is_urgent, &settlements, &storage).await?;
    tracing::info!("stopped: every call is settled and written down");
    Ok(())
}

/// Without keys it serves this machine alone.
fn may_be_open(listen: SocketAddr) -> Result<(), String> {
    match listen.ip().is_loopback() {
        true => Ok(()),
        false => Err(format!(
            "--listen {listen}: without virtual keys whoever reaches this port spends your money; --mint one, or listen on loopback"
        )),
    }
}

/// Says in the log what began.
async fn began(args: &Args, address: SocketAddr, minted: usize, answers: &Answers) {
    let keys = match &args.database {
        // Nothing that a line of the log is worth ending for.
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
            _ => format!(" ({}: set, and empty)", answers.empty.join(", ")),
        };
        tracing::warn!(
            "no provider is configured{empty}: a simulated one answers, and budgets are charged for what it makes up"
        );
    }
}

/// That a provider is down does not make it less ready, nor that a budget is; that no call can be recorded does.
fn ready(audit: &AuditLayer) -> (StatusCode, &'static str) {
    match audit.status().is_refusing {
        false => (StatusCode::OK, "ready"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "no call can be recorded"),
    }
}
