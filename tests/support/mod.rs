//! Shared by the test areas: a server on a real socket, and a collector of outcomes.
#![allow(dead_code, reason = "every area uses its own part")]

pub(crate) mod canary;
pub(crate) mod dir;
pub(crate) mod log;
pub(crate) mod page;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tollgate::Body;
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::outcome::Outcome;
use tower::Service;

/// How many HTTP/2 streams clients may reset before the server takes it for an attack.
const RESETS: usize = 10_000;

/// A server on loopback, for HTTP/1.1, and HTTP/2 by prior knowledge. Dropping it closes its connections.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<S>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let task = tokio::runtime::Handle::current().spawn(accept(listener, service, stopped));
        Server { addr, stop, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Shuts down gracefully: accepts no new connections, and lets the open ones finish what is in flight.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<S>(listener: TcpListener, service: S, mut stopped: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.expect("loopback").0,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        socket.set_nodelay(true).expect("a socket");
        let service = TowerToHyperService::new(service.clone());
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            // Tests have hundreds of clients that hang up, which is not an attack here.
            builder.http2().max_pending_accept_reset_streams(RESETS).max_local_error_reset_streams(RESETS);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Waits until `is_so` returns true, for at most ten seconds.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = SystemClock.elapsed();
    while !is_so() {
        assert!(SystemClock.elapsed() < began + Duration::from_secs(10), "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Receives the outcome of every call as it closes.
pub(crate) struct Outcomes {
    receiver: mpsc::UnboundedReceiver<Outcome>,
    seen: Arc<Mutex<usize>>,
}

impl Outcomes {
    /// Returns the collector and the observer that fills it.
    pub(crate) fn new() -> (Self, impl Fn(&Arc<Outcome>) + Clone + Send + Sync + 'static) {
        // The area `controls` has its own subscriber.
        if env!("CARGO_CRATE_NAME") != "controls" {
            log::search();
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(0));
        let count = seen.clone();
        let observer = move |outcome: &Arc<Outcome>| {
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            let _ = sender.send(Outcome::clone(outcome));
        };
        (Outcomes { receiver, seen }, observer)
    }

    /// Returns the next outcome. Panics after 10 seconds: then a call has never closed.
    pub(crate) async fn next(&mut self) -> Outcome {
        tokio::time::timeout(Duration::from_secs(10), self.receiver.recv())
            .await
            .expect("a call did not close within 10 s")
            .inspect(|outcome| canary::assert_silent("an outcome", format!("{outcome:?}").as_bytes()))
            .expect("the observer is alive")
    }

    /// Waits a moment, then asserts that no further call has closed.
    pub(crate) async fn none_left(&mut self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(self.receiver.try_recv().is_err(), "a call closed twice, or one too many was opened");
    }

    /// The total number of outcomes so far.
    pub(crate) fn count(&self) -> usize {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
