//! Limits of requests, tokens and slots, with many calls at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::outcome::End;
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::domain::scope::Scope;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::At;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::testing::Simulated;
use tollgate::{Body, Dialect, Gateway};
use tower::{ServiceExt, service_fn};

use crate::calls::{Ask, Leaves, drain};
use crate::in_process::noon;
use crate::site::{Site, mint};
use crate::watched::now;
use crate::weather::{Weather, Weathered};

fn ask(number: u64, key: &str, script: &str) -> Ask {
    Ask {
        model: format!("claude-storm-{number:08}"),
        key: key.to_owned(),
        is_stream: true,
        max_tokens: 50,
        script: script.to_owned(),
        begins: 0,
        leaves: Leaves::Never,
    }
}

async fn status(site: &Site, ask: &Ask) -> u16 {
    let answer = site.gateway.clone().oneshot(ask.request()).await.expect("infallible");
    let status = answer.status().as_u16();
    answer.into_body().collect().await.expect("whole");
    status
}

/// A site with a clock that stands still, and one key.
fn one(principal: Principal, limits: &MemoryLimits, clock: &Arc<ManualClock>) -> (Site, String) {
    let keys = MemoryKeys::new();
    let (_, secret) = mint(&keys, principal);
    let budgets = BudgetLayer::new(MemoryBudgets::new().clock(clock.clone()));
    let layer = RateLimitLayer::new(limits.clone());
    (Site::with(keys, layer, budgets, |layer| layer.clock(clock.clone())), secret)
}

fn left(limits: &MemoryLimits, limit: &Limit) -> u64 {
    now(limits.standing(std::slice::from_ref(limit), At::Store)).expect("memory")[0].left
}

/// Counts the calls that are in flight, as the provider sees them.
#[derive(Clone, Default)]
struct Gauge {
    under_way: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Gauge {
    fn enter(&self) -> InFlight {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        InFlight(self.under_way.clone())
    }
}

struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that counts as in flight until it has ended or is dropped.
struct Gauged {
    body: Body,
    in_flight: Option<InFlight>,
}

impl http_body::Body for Gauged {
    type Data = Bytes;
    type Error = tollgate::body::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tollgate::body::BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.in_flight = None;
        }
        polled
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_calls_at_once_never_more_than_four_are_at_the_provider() {
    let keys = MemoryKeys::new();
    let limit = Limit::new(Scope::team("search"), Measure::Parallel, 4);
    let secrets: Vec<_> =
        (0..5).map(|number| mint(&keys, Principal::new(format!("key-{number}")).limit_of(limit.clone())).1).collect();
    let limits = MemoryLimits::new();
    let (provider, gauge) = (Simulated::new(), Gauge::default());
    let seen = gauge.clone();
    let upstream = service_fn(move |request: Request<Body>| {
        let (provider, in_flight) = (provider.clone(), seen.enter());
        async move {
            let answer = provider.oneshot(request).await?;
            Ok::<_, Infallible>(answer.map(|body| Body::new(Gauged { body, in_flight: Some(in_flight) })))
        }
    });
    let weathered = Weathered { store: limits.clone(), weather: Weather::gusts(31) };
    let site = Site::toward(
        Simulated::new(),
        keys,
        RateLimitLayer::new(weathered),
        BudgetLayer::new(MemoryBudgets::new()),
        |layer, audit, records, closed, settlements, provider| {
            let gateway = Gateway::builder()
                .upstream("anthropic", Dialect::Anthropic, upstream)
                .layer(layer)
                .build()
                .expect("a gateway");
            Site { gateway, settlements, audit, records, closed, provider }
        },
    );

    let mut clients = JoinSet::new();
    for number in 0..200 {
        let one = ask(number, &secrets[usize::try_from(number % 5).expect("small")], "sim:deltas=4,delay=1,first=1");
        let gateway = site.gateway.clone();
        clients.spawn(async move {
            // Ask until it is admitted. `retry-after` says one second, but this test does not wait as long.
            for _ in 0..10_000 {
                let answer = gateway.clone().oneshot(one.request()).await.expect("infallible");
                match answer.status().as_u16() {
                    200 if number % 4 == 0 => return drain(answer.into_body(), number % 7).await,
                    200 => return drain(answer.into_body(), u64::MAX).await,
                    429 => assert_eq!(answer.headers()["retry-after"], "1"),
                    other => panic!("{other}"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            panic!("never let in");
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("every client is served in the end");
    }
    site.settled().await;
    let most = gauge.most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
    assert_eq!((gauge.under_way.load(Ordering::SeqCst), left(&limits, &limit)), (0, 4));
}

#[tokio::test]
async fn a_slot_is_held_until_the_last_byte_of_a_stream() {
    let (limits, clock) = (MemoryLimits::new(), noon());
    let (site, key) = one(Principal::new("ada").limit(Measure::Parallel, 1), &limits, &clock);
    let answer = site.gateway.clone().oneshot(ask(1, &key, "sim:deltas=3").request()).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut number = 1;
    loop {
        number += 1;
        assert_eq!(status(&site, &ask(number, &key, "sim:deltas=1")).await, 429, "half read, the stream has its slot");
        let frame = body.frame().await.expect("a stream that has not ended").expect("whole");
        if frame.data_ref().is_some_and(|data| data.starts_with(b"event: message_stop")) {
            break;
        }
    }
    assert!(body.frame().await.is_none());
    assert_eq!(status(&site, &ask(number + 1, &key, "sim:deltas=1")).await, 200, "it has ended");

    // An answer that the client drops frees its slot too, even if the client leaves before the head.
    let answer = site.gateway.clone().oneshot(ask(98, &key, "sim:stall=1").request()).await.expect("infallible");
    let mut body = answer.into_body();
    body.frame().await.expect("the first").expect("whole");
    drop(body);
    let silent = site.gateway.clone().oneshot(ask(99, &key, "sim:first=60000").request());
    assert!(tokio::time::timeout(Duration::from_millis(20), silent).await.is_err());
    assert_eq!(status(&site, &ask(100, &key, "sim:deltas=1")).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_requests_pass_a_minute_as_the_limit_says_whoever_comes_at_once() {
    let (limits, clock) = (MemoryLimits::new(), noon());
    let keys = MemoryKeys::new();
    let limit = Limit::new(Scope::user("ada"), Measure::Requests, 60);
    let secrets: Vec<_> =
        (0..3).map(|n| mint(&keys, Principal::new(format!("key-{n}")).limit_of(limit.clone())).1).collect();
    let weathered = Weathered { store: limits.clone().clock(clock.clone()), weather: Weather::gusts(32) };
    let budgets = BudgetLayer::new(MemoryBudgets::new());
    let site = Arc::new(Site::with(keys, RateLimitLayer::new(weathered), budgets, |layer| layer.clock(clock.clone())));
    // A minute's worth at first, then as much as has flowed back, and never more than a minute's worth.
    for (pass, expected) in [(0, 60), (10, 10), (1, 1), (90, 60), (0, 0)] {
        clock.advance(Duration::from_secs(pass));
        let mut clients = JoinSet::new();
        for number in 0..150 {
            let (site, one) =
                (site.clone(), ask(number, &secrets[usize::try_from(number % 3).expect("small")], "sim:deltas=1"));
            clients.spawn(async move { status(&site, &one).await });
        }
        let mut passed = 0;
        while let Some(status) = clients.join_next().await {
            match status.expect("no panic") {
                200 => passed += 1,
                429 => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(passed, expected, "after {pass} seconds");
    }
    site.settled().await;
    let refused = site.closed.lock().iter().filter(|o| o.rejection == Some(RejectionKind::RateLimited)).count();
    assert_eq!((site.closed.lock().len(), refused), (750, 750 - 131));
}

#[tokio::test]
async fn tokens_that_were_not_used_come_back_and_those_beyond_the_estimate_are_owed() {
    let clock = noon();
    let limits = MemoryLimits::new().clock(clock.clone());
    let limit = Limit::new(Scope::user("ada"), Measure::Tokens, 10_000);
    let (site, key) = one(Principal::new("key").limit_of(limit.clone()), &limits, &clock);
    let mut small = ask(1, &key, "sim:deltas=4");
    small.max_tokens = 400;
    let answer = site.gateway.clone().oneshot(small.request()).await.expect("infallible");
    let estimated = 10_000 - left(&limits, &limit);
    assert!((400..1_000).contains(&estimated), "{estimated} are held while it runs");
    answer.into_body().collect().await.expect("whole");
    let used = site.only().await.usage.map(|usage| usage.total_input() + usage.output).expect("usage");
    assert_eq!(10_000 - left(&limits, &limit), used, "what it took in the end");

    // An answer far longer than the expected 512 tokens.
    let before = left(&limits, &limit);
    let mut large = ask(2, &key, "sim:deltas=3000");
    large.max_tokens = 4_000;
    assert_eq!(status(&site, &large).await, 200);
    let used = site.closed.lock()[1].usage.map(|usage| usage.total_input() + usage.output).expect("usage");
    assert!(used > 3_000);
    assert_eq!(before - left(&limits, &limit), used);

    // For an answer that was not read to its end the estimate counts, whatever usage it has stated so far.
    for frames in 0..6 {
        let before = left(&limits, &limit);
        let one = ask(3 + frames, &key, "sim:deltas=40");
        let answer = site.gateway.clone().oneshot(one.request()).await.expect("infallible");
        let held = before - left(&limits, &limit);
        drain(answer.into_body(), frames).await;
        assert_eq!(before - left(&limits, &limit), held, "after {frames} frames");
    }
}

#[tokio::test]
async fn a_refusal_of_the_budget_undoes_the_count_of_the_request_its_tokens_and_its_slot() {
    let clock = noon();
    let limits = MemoryLimits::new().clock(clock.clone());
    let [requests, tokens, parallel] = [(Measure::Requests, 10), (Measure::Tokens, 10_000), (Measure::Parallel, 3)]
        .map(|(measure, most)| Limit::new(Scope::user("ada"), measure, most));
    let principal = Principal::new("key")
        .budget(Window::Day, "0.000001".parse().expect("an amount"))
        .limit_of(requests.clone())
        .limit_of(tokens.clone())
        .limit_of(parallel.clone());
    let (site, key) = one(principal, &limits, &clock);
    for number in 0..40 {
        assert_eq!(status(&site, &ask(number, &key, "sim:deltas=1")).await, 429);
    }
    for outcome in site.closed.lock().iter() {
        assert_eq!((outcome.end, outcome.rejection), (End::Refused, Some(RejectionKind::BudgetSpent)));
    }
    for limit in [requests, tokens, parallel] {
        assert_eq!(left(&limits, &limit), limit.most, "{limit}");
    }
    assert!(site.provider.received().is_empty());
}

#[tokio::test]
async fn a_limit_that_refuses_counts_in_no_other_limit() {
    let clock = noon();
    let limits = MemoryLimits::new().clock(clock.clone());
    let (requests, parallel) = (
        Limit::new(Scope::team("search"), Measure::Requests, 50),
        Limit::new(Scope::user("ada"), Measure::Parallel, 1),
    );
    let principal = Principal::new("key").limit_of(requests.clone()).limit_of(parallel);
    let (site, key) = one(principal, &limits, &clock);
    let answer = site.gateway.clone().oneshot(ask(1, &key, "sim:deltas=2").request()).await.expect("infallible");
    for number in 2..20 {
        assert_eq!(status(&site, &ask(number, &key, "sim:deltas=1")).await, 429);
    }
    assert_eq!(left(&limits, &requests), 49, "only the one that was let in");
    drop(answer);
}
