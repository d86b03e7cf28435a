//! Requests that no provider can have received whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tollgate::body::BoxError;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::ManualClock;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, Quality};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::route::ModelTable;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Body, BudgetLayer, Dialect, Gateway, GatewayLayer, RateLimitLayer};
use tower::{Service, ServiceExt, service_fn};

use crate::support::Outcomes;
use crate::world::{MESSAGES, World, post};

const TOKENS: u64 = 5_000;

/// A principal with a pot of ten dollars and a limit of tokens per minute.
fn ada() -> Principal {
    let budget = Budget::new(Scope::team("search"), Window::Total, "10".parse().expect("an amount"));
    Principal::new("ada").budget_of(budget).limit(Measure::Tokens, TOKENS)
}

/// Asks `provider`, and hangs up when nothing more happens. Returns the end of the attempt, if there was one, and the
/// charge. Paused time advances when every task waits.
async fn asked<S>(provider: S) -> (Option<AttemptEnd>, Money)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    asked_until(provider, tokio::time::sleep(Duration::from_millis(500))).await
}

/// The same, but hangs up when `hangs_up` is ready.
async fn asked_until<S>(provider: S, hangs_up: impl Future<Output = ()>) -> (Option<AttemptEnd>, Money)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let clock = Arc::new(ManualClock::at("2026-11-28T09:00:00Z".parse().expect("a time")));
    let (budgets, limits) = (MemoryBudgets::new().clock(clock.clone()), MemoryLimits::new().clock(clock));
    let (mut outcomes, observer) = Outcomes::new();
    let layer = GatewayLayer::new()
        .on_close(observer)
        .rate_limit(RateLimitLayer::new(limits.clone()))
        .budget(BudgetLayer::new(budgets.clone()));
    let gateway =
        Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).layer(layer).build().expect("a gateway");
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 100, "stream": true,
        "messages": [{ "role": "user", "content": "Hello" }] });
    let mut request = Request::post(MESSAGES).body(Body::from(body.to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(ada()));
    let whole = async {
        let answer = gateway.oneshot(request).await.expect("infallible");
        assert!(!answer.status().is_success());
        let _ = answer.into_body().collect().await;
    };
    tokio::select! {
        () = whole => {}
        () = hangs_up => {}
    }
    let outcome = outcomes.next().await;
    let charged = outcome.charged.expect("held");
    let standing = budgets.standing(&ada().budgets, At::Store).await.expect("memory").remove(0);
    assert_eq!((standing.spent, standing.held), (charged, Money::ZERO));
    let left = limits.standing(&ada().limits, At::Store).await.expect("memory").remove(0).left;
    assert_eq!(left == TOKENS, charged == Money::ZERO, "tokens that nobody used are given back");
    assert_eq!(charged == Money::ZERO, outcome.quality() == Some(Quality::Exact), "{outcome:?}");
    (outcome.attempts.first().map(|attempt| attempt.end), charged)
}

async fn within_ten_seconds(arrived: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(10), arrived).await.expect("the whole request arrives");
}

/// A provider whose client does this with requests, and never answers.
fn over<F, T>(
    take: F,
) -> Provider<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync,
>
where
    F: Fn(Request<Body>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let client = service_fn(move |request| {
        let taken = take(request);
        async move {
            taken.await;
            std::future::pending().await
        }
    });
    Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, client).expect("a URL")
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_connection_took_to_its_end_costs_nothing() {
    // No connection is made. The client leaves, or the gateway times out.
    let never = over(|request| async move {
        let _kept = request;
        std::future::pending::<()>().await;
    });
    let unsent = (Some(AttemptEnd::Unsent), Money::ZERO);
    assert_eq!(asked(never.clone()).await, unsent);
    assert_eq!(asked(never.first_byte_timeout(Duration::from_millis(50))).await, unsent);

    // A connection that is made later must not get the request, since nobody pays for it any more.
    let kept = Arc::new(Mutex::new(None));
    let slot = kept.clone();
    let late = over(move |request: Request<Body>| {
        *slot.lock().expect("no panic") = Some(request.into_body());
        async {}
    });
    assert_eq!(asked(late).await, unsent);
    let body = kept.lock().expect("no panic").take().expect("it came");
    assert!(body.collect().await.is_err(), "given up");

    // A request that was read whole may have reached the provider.
    let taken = over(|request| async move { drop(request.into_body().collect().await) });
    let (end, charged) = asked(taken).await;
    assert!(end == Some(AttemptEnd::Abandoned) && charged > Money::ZERO, "{end:?} {charged}");
}

/// The request may have reached the provider, although the test's server does not read it.
#[tokio::test]
async fn a_request_that_a_real_connection_took_costs_what_it_may() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let (mut listens, arrived) = (tokio::task::JoinSet::new(), Arc::new(Notify::new()));
    let here = arrived.clone();
    listens.spawn(async move {
        let (mut kept, mut bytes) = (Vec::new(), [0; 8 << 10]);
        while let Ok((socket, _)) = silent.accept().await {
            // Peek, without reading.
            while !socket.peek(&mut bytes).await.is_ok_and(|read| bytes[..read].ends_with(b"\"stream\":true}")) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            here.notify_one();
            kept.push(socket);
        }
    });
    let client = HttpClient::new().expect("a client");
    let provider = Provider::with_client(Dialect::Anthropic, &url, None, client).expect("a URL");
    let (end, charged) = asked_until(provider.clone(), within_ten_seconds(arrived.notified())).await;
    assert!(end == Some(AttemptEnd::Abandoned) && charged > Money::ZERO, "{end:?} {charged}");

    // The same for a body whose end shows only by its length.
    let wrapped = service_fn(move |request: Request<Body>| {
        provider.clone().oneshot(request.map(|body| Body::new(NeverSaysItsEnd(body))))
    });
    let (end, charged) = asked_until(wrapped, within_ten_seconds(arrived.notified())).await;
    assert!(end == Some(AttemptEnd::Abandoned) && charged > Money::ZERO, "{end:?} {charged}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_before_a_provider_is_asked_costs_nothing() {
    assert_eq!(asked(NeverReady).await, (None, Money::ZERO));
}

#[tokio::test]
async fn a_provider_that_could_not_be_reached_pays_nothing_of_what_another_served() {
    let budgets = MemoryBudgets::new();
    let pots =
        ["down", "spare"].map(|name| Budget::new(Scope::provider(name), Window::Total, "1".parse().expect("money")));
    let layer = GatewayLayer::new().budget(BudgetLayer::new(budgets.clone()));
    let down = HttpClient::new().expect("a client");
    // Nothing listens on this port.
    let down = Provider::with_client(Dialect::Anthropic, "http://127.0.0.1:9", None, down).expect("a URL");
    let spare = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new()).expect("a URL");
    let table = ModelTable::new()
        .pattern("claude-haiku*", "down", Dialect::Anthropic)
        .pattern("claude-*", "spare", Dialect::Anthropic)
        .alias("best", ["claude-haiku-5-5", "claude-opus-5-5"]);
    let gateway = Gateway::builder()
        .upstream("down", Dialect::Anthropic, down)
        .upstream("spare", Dialect::Anthropic, spare)
        .layer(layer.router(table))
        .build()
        .expect("a gateway");
    let body = json!({ "model": "best", "max_tokens": 100, "messages": [{ "role": "user", "content": "Hello" }] });
    let mut request = Request::post(MESSAGES).body(Body::from(body.to_string())).expect("a request");
    let principal = pots.iter().cloned().fold(Principal::new("ada"), Principal::budget_of);
    request.extensions_mut().insert(Arc::new(principal));
    let answer = gateway.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let _ = answer.into_body().collect().await.expect("whole");
    let standings = budgets.standing(&pots, At::Store).await.expect("memory");
    assert!(standings[1].spent > Money::ZERO, "{standings:?}");
    assert!(standings.iter().all(|one| one.held == Money::ZERO) && standings[0].spent == Money::ZERO, "{standings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_provider_costs_nothing_however_much_of_it_comes() {
    let refused = (Some(AttemptEnd::ErrorStatus), Money::ZERO);
    for status in [429, 503] {
        // The answer breaks off, or it stalls and the client leaves.
        let broken = service_fn(move |_: Request<Body>| async move {
            let (mut half, answer) = half(status);
            half.send_data(Bytes::from_static(b"{")).await.expect("it is read");
            half.abort("reset".into());
            Ok(answer)
        });
        let kept = Arc::new(Mutex::new(Vec::new()));
        let stalled = service_fn(move |_: Request<Body>| {
            let kept = kept.clone();
            async move {
                let (mut half, answer) = half(status);
                half.send_data(Bytes::from_static(b"{")).await.expect("it is read");
                kept.lock().expect("no panic").push(half);
                Ok(answer)
            }
        });
        assert_eq!(asked(broken).await, refused);
        assert_eq!(asked(stalled).await, refused);
    }
}

fn half(status: u16) -> (Sender<Bytes, BoxError>, Response<Body>) {
    let (half, body) = Channel::new(2);
    (half, Response::builder().status(status).body(Body::new(body)).expect("an answer"))
}

/// An upstream that has no room for one more call.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<Body>> for NeverReady {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// A body of known length that never reports its end otherwise.
struct NeverSaysItsEnd(Body);

impl http_body::Body for NeverSaysItsEnd {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Claude's clients warm caches with requests for no output, which Chat Completions does not have.
#[tokio::test]
async fn a_request_that_the_gateway_answers_itself_costs_nothing() {
    let world = World::new();
    let mut team = ada();
    team.limits = vec![
        Limit::new(Scope::team("search"), Measure::Requests, 10),
        Limit::new(Scope::team("search"), Measure::Tokens, TOKENS),
    ];
    let key = world.mint(team).await;
    let body = json!({ "model": "gpt-5", "max_tokens": 0, "messages": [{ "role": "user", "content": "Hello" }] });
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
    let record = world.records().await.remove(0);
    assert!(record.granted > Some(Money::ZERO) && record.attempts.is_empty(), "{record:?}");
    assert_eq!((record.charged, record.quality), (Some(Money::ZERO), Some(Quality::Exact)));
    let limits = [
        Limit::new(Scope::team("search"), Measure::Requests, 10),
        Limit::new(Scope::team("search"), Measure::Tokens, TOKENS),
    ];
    let left = world.limits.standing(&limits, At::Store).await.expect("memory");
    assert_eq!((left[0].left, left[1].left), (9, TOKENS), "it is a request like any other");
}
