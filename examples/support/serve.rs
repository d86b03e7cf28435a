//! Serving on a listener, as every example here does it.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The wish to stop, by Ctrl-C or by SIGTERM. Caught from the moment it is made: make it before telling anyone the address.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Serves `app` until asked to stop, then lets what is in flight finish for up to 30 seconds.
pub(crate) async fn until(stop: Stop, listener: TcpListener, app: Router) -> io::Result<()> {
    // Without it a stream waits 40 ms for acknowledgements.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let (told, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.asked().await;
        let _ = told.send(true);
    });
    let deadline = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    };
    tokio::select! {
        served = async { server.await } => served,
        () = deadline => Ok(()),
    }
}
