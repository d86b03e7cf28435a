//! When connections are left: after their age.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio_rustls::TlsAcceptor;
use tollgate::Body;
use tollgate::upstream::HttpClient;
use tower::{ServiceExt, service_fn};

use crate::{tls, trusting};

const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A server whose answers the test gives.
struct Server {
    address: SocketAddr,
    listening: JoinHandle<()>,
    accepted: Arc<AtomicUsize>,
    /// Those that are open still.
    open: Arc<AtomicUsize>,
    /// Each request, as it comes.
    asked: mpsc::UnboundedReceiver<oneshot::Sender<Response<Body>>>,
}

impl Server {
    async fn start(acceptor: TlsAcceptor, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, asked) = mpsc::unbounded_channel();
        let (count, count_open) = (accepted.clone(), open.clone());
        let listening = Handle::current().spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("loopback");
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, told, open) = (acceptor.clone(), told.clone(), count_open.clone());
                // It goes on where nobody listens any more.
                Handle::current().spawn(async move {
                    let socket = acceptor.accept(socket).await.expect("a client that trusts us");
                    open.fetch_add(1, Ordering::SeqCst);
                    let service = service_fn(move |_: Request<_>| {
                        let (answer, answered) = oneshot::channel();
                        told.send(answer).expect("the test goes on");
                        answered
                    });
                    let service = TowerToHyperService::new(service);
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(socket), service).await);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Server { address, listening, accepted, open, asked }
    }

    async fn on_loopback(alpn: &[u8]) -> (Self, HttpClient) {
        let (acceptor, certificate) = tls(&[alpn]);
        (Self::start(acceptor, ([127, 0, 0, 1], 0).into()).await, trusting(certificate))
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn call(&self, client: &HttpClient) -> impl Future<Output = Option<Response<Body>>> + Send + 'static {
        let request = Request::get(format!("https://localhost:{}/", self.address.port())).body(Body::empty());
        let answer = client.clone().oneshot(request.expect("a request"));
        async move { answer.await.ok().map(|answer| answer.map(Body::new)) }
    }

    /// The next request, which is answered by this.
    async fn next(&mut self) -> oneshot::Sender<Response<Body>> {
        within(self.asked.recv()).await.expect("it serves")
    }

    /// Calls and is answered; says how many connections there have been by then.
    async fn serves(&mut self, client: &HttpClient) -> usize {
        let call = self.call(client);
        let (answer, ()) = tokio::join!(within(call), async { give(self.next().await, "served") });
        assert_eq!(text(answer.expect("answered")).await, "served");
        self.accepted()
    }

    /// Until so many are open.
    async fn has_open(&self, open: usize) {
        within(async {
            while self.open.load(Ordering::SeqCst) != open {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}

fn give(answer: oneshot::Sender<Response<Body>>, body: impl Into<Body>) {
    answer.send(Response::new(body.into())).expect("the call is there");
}

async fn text(answer: Response<Body>) -> String {
    assert_eq!(answer.status(), StatusCode::OK);
    let bytes = within(answer.into_body().collect()).await.expect("whole").to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Time goes by in which nothing happens.
async fn pass(time: Duration) {
    // What ended is put aside first.
    for _ in 0..100 {
        yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_host_that_has_moved_is_found_once_its_connections_are_five_minutes_old() {
    for alpn in [H2, HTTP1] {
        let (acceptor, certificate) = tls(&[alpn]);
        let client = trusting(certificate);
        let mut blue = Server::start(acceptor.clone(), ([127, 0, 0, 1], 0).into()).await;
        assert_eq!(blue.serves(&client).await, 1);
        // Whoever connects from now on comes to another; who is connected notices nothing.
        blue.listening.abort();
        assert!((&mut blue.listening).await.is_err_and(|error| error.is_cancelled()));
        let mut green = Server::start(acceptor, blue.address).await;
        for _ in 0..4 {
            pass(Duration::from_secs(60)).await;
            assert_eq!(blue.serves(&client).await, 1);
        }
        pass(Duration::from_secs(61)).await;
        assert_eq!(green.serves(&client).await, 1);
        // The old one waits for nobody.
        blue.has_open(0).await;
        assert_eq!(green.open.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn calls_under_way_go_on_over_connections_that_are_given_no_more() {
    for alpn in [H2, HTTP1] {
        let (mut server, client) = Server::on_loopback(alpn).await;
        // Of no age at all: each call leaves what the others are on.
        let client = client.connection_age(Duration::from_nanos(1));
        let mut calls = JoinSet::new();
        calls.spawn(server.call(&client));
        let without_head = server.next().await;
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let call = server.call(&client);
        let (stream, ()) = tokio::join!(within(call), async { give(server.next().await, Body::new(body)) });
        sender.send_data(Bytes::from_static(b"begun")).await.expect("read");
        let mut stream = stream.expect("its head").into_body();
        let frame = within(stream.frame()).await.expect("a frame").expect("good");
        assert_eq!(frame.into_data().expect("data"), "begun");

        assert_eq!(server.serves(&client).await, 3);
        assert_eq!(server.serves(&client).await, 4);
        // Of those that are left none stays without calls.
        server.has_open(3).await;

        give(without_head, "late");
        let late = within(calls.join_next()).await.expect("a call").expect("no panic").expect("answered");
        assert_eq!(text(late).await, "late");
        sender.send_data(Bytes::from_static(b" and ended")).await.expect("read");
        drop(sender);
        assert_eq!(within(stream.collect()).await.expect("whole").to_bytes(), " and ended");
        server.has_open(1).await;
    }
}

#[tokio::test]
async fn connections_that_may_grow_old_are_left_to_themselves() {
    let (mut server, client) = Server::on_loopback(H2).await;
    let client = client.connection_age(Duration::ZERO);
    for _ in 0..10 {
        assert_eq!(server.serves(&client).await, 1);
        pass(Duration::from_secs(60)).await;
    }
}
