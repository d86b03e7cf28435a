//! A client that leaves a stream is charged once, and no less than was made, whichever byte it leaves after.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::time::{Sleep, sleep, timeout};
use tollgate::body::BoxError;
use tollgate::budget::BudgetLayer;
use tollgate::call::Drain;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{End, Quality};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::{Body, GatewayLayer};
use tower::ServiceExt;
use tower::util::MapResponse;

use crate::calls::{Ask, Crowd, DOORS, drain};
use crate::endings::Paused;
use crate::in_process::{Questions, Storm};
use crate::oracle::price;
use crate::site::{Client, Site, served};
use crate::watched::now;
use crate::weather::Weather;

/// The simulated provider, with the bytes of its answers reshaped.
fn shaped<F, B>(provider: &Simulated, shape: F) -> impl Client + use<F, B>
where
    F: Fn(Body) -> B + Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    MapResponse::new(provider.clone(), move |answer: Response<Body>| answer.map(|body| Body::new(shape(body))))
}

/// Fetches the next chunk that is not empty.
fn refill(rest: &mut Bytes, body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<(), BoxError>>> {
    while rest.is_empty() {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => *rest = frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
    }
    Poll::Ready(Some(Ok(())))
}

/// A body that comes byte by byte.
struct OneByOne {
    body: Body,
    rest: Bytes,
}

impl http_body::Body for OneByOne {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let has_some = ready!(refill(&mut this.rest, &mut this.body, cx));
        Poll::Ready(has_some.map(|has_some| has_some.map(|()| Frame::data(this.rest.split_to(1)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_governed_stream_left_after_its_nth_byte_is_charged_once_and_no_less_than_was_made_for_every_n() {
    for family in ["claude", "gpt"] {
        let (keys, store, provider) = (MemoryKeys::new(), MemoryBudgets::new(), Simulated::new());
        let crowd = Crowd::new(&keys, ["100", "100", "100"]);
        let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(store.clone()));
        let client = shaped(&provider, |body| OneByOne { body, rest: Bytes::new() });
        let site = Site::toward(provider.clone(), keys, limits, budgets, served(&client, |layer| layer));
        let (mut charged, mut ended, mut n) = (Money::ZERO, false, 0);
        while !ended {
            let model = format!("{family}-storm-{n:08}");
            let ask = Ask::of(model, &crowd.secrets[0], true, "sim:first=1,deltas=3,delay=1");
            // To a client that asks for the usage, every byte passes as it comes.
            let asked =
                ask.json().replace(r#""stream":true"#, r#""stream":true,"stream_options":{"include_usage":true}"#);
            let (parts, _) = ask.request().into_parts();
            let request = Request::from_parts(parts, Body::from(asked));
            let mut body = site.gateway.clone().oneshot(request).await.expect("infallible").into_body();
            for _ in 0..n {
                ended = body.frame().await.is_none();
            }
            drop(body);
            site.settlements.drain().await;
            let outcome = site.closed.lock().last().expect("it closed").clone();
            let of_it = outcome.charged.expect("it was paid");
            charged = charged.saturating_add(of_it);
            let bill = provider.bill().lines();
            assert_eq!(bill.len(), n + 1);
            assert!(
                of_it >= price(&bill[n]) && of_it <= outcome.granted.expect("it was paid"),
                "{family}, byte {n}: {outcome:?}"
            );
            let standing = now(store.standing(&crowd.pots[..1], At::Store)).expect("memory").remove(0);
            assert_eq!((standing.spent, standing.held), (charged, Money::ZERO), "{family}, byte {n}");
            n += 1;
        }
        assert!(n > 500, "{family}: a stream of {n} bytes");
        assert_eq!(site.closed.lock().len(), n);
    }
}

/// How long the provider is silent in the middle of an answer. Its clients leave before that is over.
const SILENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that is silent for a while after a number of bytes, even in the middle of a chunk, and then goes on.
struct Halting {
    body: Body,
    rest: Bytes,
    before: usize,
    silence: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Halting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.before == 0 {
            ready!(this.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE))).as_mut().poll(cx));
            this.before = usize::MAX;
        }
        let has_some = ready!(refill(&mut this.rest, &mut this.body, cx));
        let len = this.rest.len().min(this.before);
        this.before -= if has_some.is_some() { len } else { 0 };
        Poll::Ready(has_some.map(|has_some| has_some.map(|()| Frame::data(this.rest.split_to(len)))))
    }
}

/// A stream, and the client that reads it.
#[derive(Debug, Clone, Copy)]
struct Stream {
    door: &'static str,
    family: &'static str,
    script: &'static str,
    takes_gzip: bool,
    /// Whether the gateway reads the answer on without the client.
    is_drained: bool,
}

impl Stream {
    fn of((door, family): (&'static str, &'static str), script: &'static str) -> Self {
        Stream { door, family, script, takes_gzip: false, is_drained: false }
    }

    /// Leaves the stream after each of its bytes in turn. The client never gets a usage chunk that it did not ask for.
    async fn left_after_every_byte(self) {
        let (provider, halts) = (Simulated::new(), Arc::new(AtomicUsize::new(0)));
        let before = halts.clone();
        let client = shaped(&provider, move |body| Halting {
            body,
            rest: Bytes::new(),
            before: before.load(Ordering::SeqCst),
            silence: None,
        });
        let more = |layer: GatewayLayer| match layer.clock(Paused::new()) {
            layer if self.is_drained => layer.drain(Drain::new(1, SILENCE * 2)),
            layer => layer,
        };
        let (weather, build) = (Weather::calm(), served(&client, more));
        let storm = Storm::toward(provider, Questions::Two, weather, ["100", "100", "100"], build);
        let mut n = 0;
        while self.is_left(&storm, n).await {
            n += 1;
            halts.store(n, Ordering::SeqCst);
        }
        assert!(n > if self.script.contains("gzip") { 100 } else { 500 }, "{self:?}: a stream of {n} bytes");
        let sum = storm.reckon(n as u64 + 1).await;
        let lines = storm.site.provider.bill().lines();
        let read_on = lines.iter().filter(|line| line.complete).count();
        assert!(!self.is_drained || read_on == lines.len(), "{self:?}: {read_on} of {} were read on", lines.len());
        // A client that has the end marker has everything, even if the body has not ended yet.
        assert!(sum.complete >= 1 && sum.abandoned > n / 2, "{self:?}: {sum:?}");
        assert_eq!(storm.budgets.ledger().settlements, n + 1, "{self:?}: one entry a call");
    }

    /// Makes the `n`th call and checks it. Returns whether its client left before everything had come.
    async fn is_left(&self, storm: &Storm, n: usize) -> bool {
        // The speed of this model is known, so less than everything may be charged.
        let model = format!("{}-swift-{n:08}", self.family);
        let ask = Ask { max_tokens: 4_000, ..Ask::of(model, &storm.crowd.secrets[0], true, self.script) };
        let mut request = ask.request_at(self.door);
        if self.takes_gzip {
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let gateway = storm.site.gateway.clone();
        let all = async { drain(gateway.oneshot(request).await.expect("infallible").into_body(), u64::MAX).await };
        let is_left = timeout(PATIENCE, all).await.is_err();
        storm.site.settlements.drain().await;
        let outcome = storm.site.closed.lock().last().expect("it closed").clone();
        // The bill is compared once, at the end, so that it is not read a thousand times.
        assert_eq!(storm.site.closed.lock().len(), n + 1, "{self:?}, byte {n}");
        assert!(outcome.charged < outcome.granted, "{self:?}, byte {n}: all that it was granted for {outcome:?}");
        let is_known = outcome.quality() == Some(Quality::Exact);
        assert!(is_known || !self.is_drained && outcome.end != End::Complete, "{self:?}, byte {n}: {outcome:?}");
        storm.budgets.ledger().assert_right();
        storm.crowd.assert_no_slot_is_held(&storm.limits);
        is_left
    }
}

const SHORT: &str = "sim:deltas=2";
const ZIPPED: &str = "sim:deltas=2,gzip";

#[tokio::test(start_paused = true)]
async fn a_translated_stream_can_be_left_after_every_byte_of_its_provider() {
    for way in &DOORS[2..] {
        Stream::of(*way, SHORT).left_after_every_byte().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gzip_stream_can_be_left_after_every_byte_whether_it_is_passed_on_decoded_or_translated() {
    for way in DOORS {
        Stream::of(way, ZIPPED).left_after_every_byte().await;
    }
    for way in &DOORS[..2] {
        Stream { takes_gzip: true, ..Stream::of(*way, ZIPPED) }.left_after_every_byte().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_the_usage_is_withheld_can_be_left_after_every_byte() {
    Stream::of(DOORS[1], SHORT).left_after_every_byte().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_on_costs_what_is_on_the_bill_after_whichever_byte_its_client_left() {
    let zipped = DOORS[1..3].iter().map(|way| Stream::of(*way, ZIPPED));
    for stream in DOORS.into_iter().map(|way| Stream::of(way, SHORT)).chain(zipped) {
        Stream { is_drained: true, ..stream }.left_after_every_byte().await;
    }
}
