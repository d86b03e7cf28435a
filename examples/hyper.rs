//! The gateway on plain hyper, no framework: `cargo run --example hyper --features testing`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tollgate::call::{LiveCalls, Settlements};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Dialect, Gateway, GatewayLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://simulated.invalid", None, Simulated::new())?;
    let (settlements, live) = (Settlements::new(), LiveCalls::new());
    let gateway = Gateway::builder()
        .upstream("openai", Dialect::OpenAiChat, provider)
        .layer(GatewayLayer::new().settlements(settlements.clone()).live_calls(live.clone()))
        .build();

    // Caught from now on: whoever is told the address may press Ctrl-C at once. Containers are stopped by the other.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("OPENAI_BASE_URL=http://{}/v1", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let socket = tokio::select! {
            // One bad socket is no reason to stop serving the others.
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(_) => {
                    // That nothing more can be opened does not pass by itself in no time.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        // The host owns the socket: without this a stream waits 40 ms for acknowledgements.
        let _ = socket.set_nodelay(true);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // hyper's own timeouts, such as that for a request's head, are silently off without a timer.
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new());
        let service = TowerToHyperService::new(gateway.clone());
        let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move { drop(connection.await) });
        while connections.try_join_next().is_some() {}
    }
    // Calls may end; what is left after half a minute is told so, and has a moment to hear it.
    let (_, cut) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(31), graceful.shutdown()),
        live.finish(Duration::from_secs(30))
    );
    if cut > 0 {
        println!("{cut} calls were cut");
    }
    // Then the connections, and the work that their calls left behind.
    connections.shutdown().await;
    settlements.drain().await;
    Ok(())
}
