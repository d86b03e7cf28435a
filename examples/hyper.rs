//! The gateway on plain hyper, without a framework: `cargo run --example hyper --features testing`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::pin::pin;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tollgate::call::{LiveCalls, Settlements};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Dialect, Gateway, GatewayLayer};

/// How long a client may take to send a request's head, and how long calls may go on after the signal to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long closing the connections and settling the calls may take: a store may be down.
const LEFT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://simulated.invalid", None, Simulated::new())?;
    let (settlements, live) = (Settlements::new(), LiveCalls::with_client_timeout(Duration::from_secs(120)));
    let gateway = Gateway::builder()
        .upstream("openai", Dialect::OpenAiChat, provider)
        .layer(GatewayLayer::new().settlements(settlements.clone()).live_calls(live.clone()))
        .build()?;

    // Catch the signals before printing the address: Ctrl-C may follow at once. Container runtimes send SIGTERM.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut asked = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("OPENAI_BASE_URL=http://{}/v1", listener.local_addr()?);
    let (stopping, mut connections) = (CancellationToken::new(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = asked() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, _)) => drop(connections.spawn(serve(socket, gateway.clone(), stopping.clone()))),
            // One bad socket must not stop the server. If the process is out of file descriptors, retry in a moment.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
    drop(listener);
    stopping.cancel();
    // Calls have 30 seconds to end. Those left are then cut, and their clients have a second to read the error. A
    // second signal ends the wait.
    let finished = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        (_, cut) = async { tokio::join!(timeout(PATIENCE + Duration::from_secs(1), finished), live.finish(PATIENCE)) } => {
            if cut > 0 {
                println!("{cut} calls were cut");
            }
        }
        () = asked() => {}
    }
    // Then close the connections and wait for the settlements, for at most `LEFT`.
    let left = async {
        connections.shutdown().await;
        settlements.drain().await;
    };
    let is_settled = tokio::select! {
        ended = timeout(LEFT, left) => ended.is_ok(),
        () = asked() => false,
    };
    if !is_settled {
        return Err(format!("{} calls are not settled", settlements.len()).into());
    }
    Ok(())
}

async fn serve(socket: TcpStream, gateway: Gateway, stopping: CancellationToken) {
    // Without TCP_NODELAY, parts of a stream wait up to 40 ms for the client's acknowledgement.
    let _ = socket.set_nodelay(true);
    // hyper has no timeout for the first byte of a connection.
    let is_readable = tokio::select! {
        biased;
        readable = timeout(PATIENCE, socket.readable()) => matches!(readable, Ok(Ok(()))),
        () = stopping.cancelled() => false,
    };
    if !is_readable {
        return;
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Without a timer, hyper's timeout for a request's head and its keep-alive pings are silently off.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(gateway)));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
