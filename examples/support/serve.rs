//! Serving on a listener, as every example here does it: plain hyper, so that it can let go of connections at the end.

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

/// How long what is in flight may take to finish.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long who is told that it is over may take to hear it, and who is hung up on to be gone.
const MOMENT: Duration = Duration::from_secs(1);
/// When the process is gone for certain, counted from when it was asked to stop, and from when it was asked again.
const END: Duration = Duration::from_secs(45);
const END_AGAIN: Duration = Duration::from_secs(5);

/// From one warning that no connection can be accepted to the next.
const QUIET: Duration = Duration::from_secs(10);

/// The wish to stop, by Ctrl-C or by SIGTERM. Caught from the moment it is made: make it before telling anyone the
/// address.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// The calls that hear of it when they have not ended in time, if a layer is given them.
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

/// Ends the process in the end, whatever hangs: a thread that waits for a disk, or for a pipe that nobody reads, hears of no signal
/// and no timer, and so it may be with all of the runtime, and with the log. So it has a thread and a runtime to itself.
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
            std::thread::spawn(|| eprintln!("the process is still there after it was asked to stop: its threads hang"));
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

/// Serves `app` until asked to stop, then lets what is in flight finish for up to 30 seconds, or until asked again, and
/// hangs up on the rest. Gives the wish back, for those who have more to do and may be asked once more, and whether they were.
/// Once it is asked to, the process has 45 seconds in all, and 5 once it is asked again.
pub(crate) async fn until(mut stop: Stop, listener: TcpListener, app: Router) -> io::Result<(Stop, bool)> {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut warned_at = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.asked() => break,
        };
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too many open files, for one: whoever wants to connect waits, and nothing else would say so. A client that was
                // gone already is no news.
                let is_news = !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset);
                if is_news && warned_at.is_none_or(|at: Instant| at.elapsed() >= QUIET) {
                    let connections = connections.len();
                    tracing::warn!(%error, connections, "no connection can be accepted; clients wait until one can");
                    warned_at = Some(Instant::now());
                }
                // The next may fare better.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Without it a stream waits 40 ms for acknowledgements.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let mut stopped = stopped.clone();
        connections.spawn(Again::new(async move {
            // The server has no clock for the first byte.
            let is_silent = tokio::select! {
                biased;
                readable = tokio::time::timeout(PATIENCE, socket.readable()) => !matches!(readable, Ok(Ok(()))),
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            if is_silent {
                return;
            }
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer hyper waits for the end of a request's head for ever.
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
