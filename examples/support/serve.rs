//! Serving on a listener, as every example here does it.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

/// Serves `app` until Ctrl-C, then lets what is in flight finish for up to 30 seconds.
pub(crate) async fn until_ctrl_c(listener: TcpListener, app: Router) -> io::Result<()> {
    // Without it a stream waits 40 ms for acknowledgements.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        // An error means that there is no signal to wait for: stop, rather than never.
        let _ = tokio::signal::ctrl_c().await;
        let _ = stop.send(true);
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

