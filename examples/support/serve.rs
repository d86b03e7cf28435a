//! Serves an app on a listener, for the examples that use axum. It uses plain hyper, so that a shutdown can close the
//! connections that remain.

#[path = "again.rs"]
mod again;

use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate::call::LiveCalls;

use again::Again;

/// How long calls in flight may take to finish after a stop signal. Also the timeout for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to read the error of a call that was cut, and how long closing the connections may take.
const MOMENT: Duration = Duration::from_secs(1);
/// When the process exits whatever hangs: this long after the first stop signal, or after the second.
const END: Duration = Duration::from_secs(45);
const END_AGAIN: Duration = Duration::from_secs(5);

/// The minimum time between two warnings that no connection can be accepted.
const QUIET: Duration = Duration::from_secs(10);

/// The stop signals: Ctrl-C and SIGTERM. They are caught from the moment this is created, so create it before you print
/// the address.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// Give this to `GatewayLayer::live_calls`, so that calls that do not end in time are cut with an error.
    pub(crate) live: LiveCalls,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let (interrupt, terminate) = caught()?;
        end_for_certain()?;
        Ok(Stop { interrupt, terminate, live: LiveCalls::with_client_timeout(Duration::from_secs(120)) })
    }

    pub(crate) async fn asked(&mut self) {
        asked(&mut self.interrupt, &mut self.terminate).await;
    }
}

/// Ends the process at `END` or `END_AGAIN`, whatever hangs.
///
/// A thread that is blocked on a disk, or on a pipe that nobody reads, notices no signal and no timer. The whole main
/// runtime and the log may be blocked like that, so this runs on its own thread and its own runtime.
fn end_for_certain() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        let is_asked = runtime.block_on(async {
            let (mut interrupt, mut terminate) = caught()?;
            asked(&mut interrupt, &mut terminate).await;
            let again = asked(&mut interrupt, &mut terminate);
            let _ = tokio::time::timeout(END - END_AGAIN, again).await;
            tokio::time::sleep(END_AGAIN - MOMENT).await;
            io::Result::Ok(())
        });
        if is_asked.is_ok() {
            std::thread::spawn(|| eprintln!("the process did not end after it was asked to stop: its threads hang"));
            std::thread::sleep(MOMENT);
            std::process::exit(1);
        }
    });
    Ok(())
}

fn caught() -> io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

async fn asked(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Serves `app` until a stop signal. Calls in flight then have 30 seconds to finish, or until a second signal. After
/// that the remaining connections are closed.
///
/// Returns the [`Stop`], for a program that has more to do and may be stopped again, and whether there was a second
/// signal. The process exits at the latest 45 seconds after the first signal, or 5 seconds after the second.
pub(crate) async fn until(mut stop: Stop, listener: TcpListener, app: Router) -> io::Result<(Stop, bool)> {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut warned_at = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.asked() => break,
        };
        // Drop the connections that have ended.
        while connections.try_join_next().is_some() {}
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // With too many open files, for example, new clients wait and no other log line says so. A client that
                // has already gone is not worth a warning.
                let is_news = !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset);
                if is_news && warned_at.is_none_or(|at: Instant| at.elapsed() >= QUIET) {
                    let connections = connections.len();
                    tracing::warn!(%error, connections, "cannot accept a connection; clients wait until this works again");
                    warned_at = Some(Instant::now());
                }
                // The next attempt may succeed.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Without TCP_NODELAY, parts of a stream wait up to 40 ms for the client's acknowledgement.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let mut stopped = stopped.clone();
        connections.spawn(Again::new(async move {
            // hyper has no timeout for the first byte of a connection.
            let is_silent = tokio::select! {
                biased;
                readable = tokio::time::timeout(PATIENCE, socket.readable()) => !matches!(readable, Ok(Ok(()))),
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            if is_silent {
                return;
            }
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer, hyper waits for the end of a request's head for ever.
            server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            server.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE);
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(socket), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }));
    }
    drop(listener);
    stopping.send_replace(true);
    let live = stop.live.clone();
    tracing::info!(
        connections = connections.len(),
        "asked to stop: waiting for {} calls, {PATIENCE:?} at most",
        live.len()
    );
    let in_time = async {
        let finished = async { while connections.join_next().await.is_some() {} };
        let patience = tokio::time::timeout(PATIENCE + MOMENT, finished);
        let _ = tokio::join!(patience, live.finish(PATIENCE));
    };
    let is_urgent = tokio::select! {
        () = in_time => false,
        () = stop.asked() => true,
    };
    let _ = tokio::time::timeout(MOMENT, connections.shutdown()).await;
    Ok((stop, is_urgent))
}
