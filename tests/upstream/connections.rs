//! Connections of `HttpClient`: they are replaced at a certain age, and calls that can share one wait for it.

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

/// A server to which the test hands the answers.
struct Server {
    address: SocketAddr,
    listening: JoinHandle<()>,
    accepted: Arc<AtomicUsize>,
    /// The number of connections that are still open.
    open: Arc<AtomicUsize>,
    /// Receives a sender for the answer of each request.
    asked: mpsc::UnboundedReceiver<oneshot::Sender<Response<Body>>>,
}

/// What the server does with the first connection.
#[derive(Clone, Copy, PartialEq)]
enum First {
    IsServed,
    /// Closes it, after other calls had time to begin to wait for it.
    IsClosed,
    /// Accepts it, and does nothing more.
    Hangs,
    /// Accepts it and all later connections, and does nothing more.
    HangsAsAll,
}

impl Server {
    async fn start(acceptor: TlsAcceptor, address: SocketAddr, first: First) -> Self {
        let listener = TcpListener::bind(address).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, asked) = mpsc::unbounded_channel();
        let (count, count_open) = (accepted.clone(), open.clone());
        let listening = Handle::current().spawn(async move {
            let mut held = Vec::new();
            loop {
                let (socket, _) = listener.accept().await.expect("loopback");
                let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
                if (is_first && first != First::IsServed) || first == First::HangsAsAll {
                    held.push(socket);
                    if first == First::IsClosed {
                        nothing_comes().await;
                        held.clear();
                    }
                    continue;
                }
                let (acceptor, told, open) = (acceptor.clone(), told.clone(), count_open.clone());
                // A separate task, so that the connection goes on when `moves` aborts the listener.
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

    async fn on_loopback(alpn: &[u8], first: First) -> (Self, HttpClient) {
        let (acceptor, certificate) = tls(&[alpn]);
        (Self::start(acceptor, ([127, 0, 0, 1], 0).into(), first).await, trusting(certificate))
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn call(&self, client: &HttpClient) -> impl Future<Output = Option<Response<Body>>> + Send + 'static {
        let request = Request::get(format!("https://localhost:{}/", self.address.port())).body(Body::empty());
        let answer = client.clone().oneshot(request.expect("a request"));
        async move { answer.await.ok().map(|answer| answer.map(Body::new)) }
    }

    /// Returns the sender for the answer of the next request.
    async fn next(&mut self) -> oneshot::Sender<Response<Body>> {
        within(self.asked.recv()).await.expect("it serves")
    }

    /// Makes a call and answers it. Returns the number of connections so far.
    async fn serves(&mut self, client: &HttpClient) -> usize {
        let call = self.call(client);
        let (answer, ()) = tokio::join!(within(call), async { give(self.next().await, "served") });
        assert_eq!(text(answer.expect("answered")).await, "served");
        self.accepted()
    }

    /// Starts another server on the same address, for all connections from now on. Open connections stay with this one.
    async fn moves(&mut self, acceptor: TlsAcceptor, first: First) -> Server {
        self.listening.abort();
        assert!((&mut self.listening).await.is_err_and(|error| error.is_cancelled()));
        Server::start(acceptor, self.address, first).await
    }

    /// Waits until this many connections have been accepted.
    async fn has_accepted(&self, accepted: usize) {
        within(async {
            while self.accepted() < accepted {
                yield_now().await;
            }
        })
        .await;
    }

    /// Waits until this many connections are open.
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

/// Advances the clock.
async fn pass(time: Duration) {
    // First let the client put connections of ended calls back into the pool.
    for _ in 0..100 {
        yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits long enough for an unwanted connection to arrive. Another thread resolves the host's name first.
async fn nothing_comes() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_host_that_has_moved_is_found_once_its_connections_are_five_minutes_old() {
    for alpn in [H2, HTTP1] {
        let (acceptor, certificate) = tls(&[alpn]);
        let client = trusting(certificate);
        let mut blue = Server::start(acceptor.clone(), ([127, 0, 0, 1], 0).into(), First::IsServed).await;
        assert_eq!(blue.serves(&client).await, 1);
        let mut green = blue.moves(acceptor, First::IsServed).await;
        for _ in 0..4 {
            pass(Duration::from_secs(60)).await;
            assert_eq!(blue.serves(&client).await, 1);
        }
        pass(Duration::from_secs(61)).await;
        assert_eq!(green.serves(&client).await, 1);
        // The client closes its connection to the old server, since no call uses it.
        blue.has_open(0).await;
        assert_eq!(green.open.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn calls_under_way_go_on_over_connections_that_are_given_no_more() {
    for alpn in [H2, HTTP1] {
        let (mut server, client) = Server::on_loopback(alpn, First::IsServed).await;
        // Connections are too old at once, so each call opens a new one.
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
        // Open are the two with calls under way, and the latest one. The third had no call left.
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
    let (mut server, client) = Server::on_loopback(H2, First::IsServed).await;
    let client = client.connection_age(Duration::ZERO);
    for _ in 0..10 {
        assert_eq!(server.serves(&client).await, 1);
        pass(Duration::from_secs(60)).await;
    }
}

/// Makes this many calls at once and answers them when all have arrived. Returns the number of connections so far.
async fn at_once(server: &mut Server, client: &HttpClient, calls: usize) -> usize {
    let mut answers = JoinSet::new();
    for _ in 0..calls {
        answers.spawn(server.call(client));
    }
    let mut asked = Vec::new();
    for _ in 0..calls {
        asked.push(server.next().await);
    }
    for answer in asked {
        give(answer, "served");
    }
    while let Some(answer) = within(answers.join_next()).await {
        assert_eq!(text(answer.expect("no panic").expect("answered")).await, "served");
    }
    server.accepted()
}

#[tokio::test]
async fn calls_that_come_at_once_wait_for_one_connection_of_http_2() {
    let (mut server, client) = Server::on_loopback(H2, First::IsServed).await;
    assert_eq!(at_once(&mut server, &client, 90).await, 1);
    // The calls that waited do not open a connection later either.
    pass(Duration::from_millis(150)).await;
    nothing_comes().await;
    assert_eq!(server.accepted(), 1);
    // The same holds after the connection was replaced for its age, or closed because it was idle.
    for (age, connections) in [(301, 2), (95, 3)] {
        pass(Duration::from_secs(age)).await;
        assert_eq!(at_once(&mut server, &client, 90).await, connections);
    }
    // A connection carries a hundred calls, so 250 calls need two more.
    assert_eq!(at_once(&mut server, &client, 250).await, 5);
}

#[tokio::test]
async fn calls_that_come_at_once_have_a_connection_each_over_http_1() {
    let (mut server, client) = Server::on_loopback(HTTP1, First::IsServed).await;
    assert_eq!(at_once(&mut server, &client, 20).await, 20);
    assert_eq!(at_once(&mut server, &client, 20).await, 20, "which they share one after the other");
}

#[tokio::test]
async fn no_call_waits_for_the_connection_of_another_where_the_host_is_known_to_speak_http_1() {
    let (acceptor, certificate) = tls(&[HTTP1]);
    let client = trusting(certificate);
    let mut server = Server::start(acceptor.clone(), ([127, 0, 0, 1], 0).into(), First::IsServed).await;
    assert_eq!(server.serves(&client).await, 1);
    let server = server.moves(acceptor, First::Hangs).await;
    // New pools know it too.
    pass(Duration::from_secs(301)).await;
    let _calls = waiting_for_the_first(&server, &client).await;
    tokio::time::timeout(Duration::from_secs(2), server.has_accepted(10)).await.expect("sooner than those who wait");
}

#[tokio::test]
async fn a_host_that_speaks_http_2_since_is_connected_to_by_one_call_for_all() {
    let (acceptor, certificate) = tls(&[HTTP1]);
    let mut by_http2 = (**acceptor.config()).clone();
    by_http2.alpn_protocols = vec![H2.to_vec()];
    let client = trusting(certificate);
    let mut server = Server::start(acceptor, ([127, 0, 0, 1], 0).into(), First::IsServed).await;
    assert_eq!(server.serves(&client).await, 1);
    let mut server = server.moves(TlsAcceptor::from(Arc::new(by_http2)), First::IsServed).await;
    for (calls, connections) in [(1, 1), (90, 2)] {
        pass(Duration::from_secs(301)).await;
        assert_eq!(at_once(&mut server, &client, calls).await, connections);
    }
}

/// Starts a first call, and nine others that wait for its connection.
async fn waiting_for_the_first(server: &Server, client: &HttpClient) -> (JoinSet<bool>, JoinSet<bool>) {
    let (mut first, mut others) = (JoinSet::new(), JoinSet::new());
    let call = |call: &mut JoinSet<bool>| {
        let answer = server.call(client);
        call.spawn(async { answer.await.is_some() });
    };
    call(&mut first);
    server.has_accepted(1).await;
    for _ in 0..9 {
        call(&mut others);
    }
    (first, others)
}

async fn all_are_served<const N: usize>(server: &mut Server, calls: [JoinSet<bool>; N]) {
    for _ in 0..calls.iter().map(JoinSet::len).sum::<usize>() {
        give(server.next().await, "served");
    }
    for served in calls.map(JoinSet::join_all) {
        assert!(within(served).await.iter().all(|served| *served));
    }
}

#[tokio::test]
async fn where_a_call_leaves_that_others_wait_for_one_of_them_connects() {
    let (mut server, client) = Server::on_loopback(H2, First::Hangs).await;
    let (first, others) = waiting_for_the_first(&server, &client).await;
    nothing_comes().await;
    assert_eq!(server.accepted(), 1, "they wait");
    drop(first);
    all_are_served(&mut server, [others]).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn where_connecting_fails_those_who_waited_connect_by_themselves() {
    let (mut server, client) = Server::on_loopback(H2, First::IsClosed).await;
    let (mut first, others) = waiting_for_the_first(&server, &client).await;
    server.has_accepted(10).await;
    all_are_served(&mut server, [others]).await;
    assert!(!within(first.join_next()).await.expect("a call").expect("no panic"));
}

#[tokio::test]
async fn where_connecting_hangs_those_who_wait_do_so_for_half_of_its_time() {
    let (mut server, client) = Server::on_loopback(H2, First::Hangs).await;
    // The first call has five seconds to connect.
    let (first, others) = waiting_for_the_first(&server, &client).await;
    pass(Duration::from_millis(2_400)).await;
    nothing_comes().await;
    assert_eq!(server.accepted(), 1);
    pass(Duration::from_millis(101)).await;
    // The first call too is served, over the connection of another call.
    all_are_served(&mut server, [first, others]).await;
}

#[tokio::test]
async fn who_has_waited_has_the_whole_time_to_connect() {
    let (server, client) = Server::on_loopback(H2, First::HangsAsAll).await;
    let (mut first, mut others) = waiting_for_the_first(&server, &client).await;
    pass(Duration::from_millis(2_501)).await;
    server.has_accepted(10).await;
    pass(Duration::from_millis(2_500)).await;
    assert!(!within(first.join_next()).await.expect("a call").expect("no panic"), "its five seconds are over");
    nothing_comes().await;
    assert!(others.try_join_next().is_none());
    pass(Duration::from_millis(2_500)).await;
    assert!(within(others.join_all()).await.iter().all(|served| !served));
}
