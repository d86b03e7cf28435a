//! Cuts the streams that are left when the gateway is asked to stop a second time.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::serve::{self, Stop};

/// How long clients may take to read why their streams were cut.
const MOMENT: Duration = Duration::from_millis(500);
/// What is on its way to a client when its call has ended leaves within this time.
const SENT: Duration = Duration::from_millis(50);

/// The stop signals, beside those that [`Stop`] hears.
pub(crate) struct Hurry {
    interrupt: Signal,
    terminate: Signal,
}

impl Hurry {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Hurry { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn asked_twice(&mut self) {
        self.asked().await;
        self.asked().await;
    }
}

/// Serves like [`serve::until`], which hangs up at a second signal. Before it does, clients are told why their streams
/// end, and the records say that they were cut.
pub(crate) async fn until(
    stop: Stop,
    mut hurry: Hurry,
    listener: TcpListener,
    app: Router,
) -> io::Result<(Stop, bool)> {
    let live = stop.live.clone();
    let mut serving = pin!(serve::until(stop, listener, app));
    tokio::select! {
        // The signal must be noticed here first. While `serving` is not polled, it hangs up on nobody, and the
        // connections go on in tasks of their own.
        biased;
        () = hurry.asked_twice() => {}
        served = &mut serving => return served,
    }
    let cut = live.finish(Duration::ZERO).await;
    tracing::info!("asked to stop again: {cut} calls are cut");
    // Returns as soon as there are no calls any more.
    live.finish(MOMENT).await;
    sleep(SENT).await;
    let (stop, _) = serving.await?;
    Ok((stop, true))
}
