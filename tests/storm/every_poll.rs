//! Whoever lets go of a call, at whichever poll, after whichever frame, on whichever thread, holds nothing afterwards.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tollgate::Body;
use tollgate::body::BoxError;
use tollgate::budget::BudgetLayer;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::End;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tower::{Service, ServiceExt};

use crate::calls::{Ask, Crowd, Leaves, polls};
use crate::in_process::{Questions, Storm};
use crate::oracle::price;
use crate::site::{Site, served};
use crate::watched::now;
use crate::weather::Weather;

/// Every store is pending twice on the way there, and twice on the way back.
fn site(questions: Questions) -> Storm {
    Storm::asked(questions, Weather::yields(2), ["100", "100", "100"])
}

const FAMILIES: [(&str, bool); 4] = [("claude", true), ("claude", false), ("gpt", true), ("gpt", false)];

/// Both ways to ask, for each family, in one piece and streamed.
fn all() -> impl Iterator<Item = (Questions, &'static str, bool)> {
    FAMILIES
        .into_iter()
        .flat_map(|(family, streams)| [Questions::Two, Questions::One].map(|questions| (questions, family, streams)))
}

/// `number` names the model, so that each call finds its own line on the bill.
fn ask(storm: &Storm, number: u64, family: &str, is_stream: bool) -> Ask {
    Ask {
        model: format!("{family}-storm-{number:08}"),
        key: storm.crowd.secrets[0].clone(),
        is_stream,
        max_tokens: 50,
        script: "sim:first=1,deltas=3,delay=1".into(),
        begins: 0,
        leaves: Leaves::Never,
    }
}

#[tokio::test(start_paused = true)]
async fn a_governed_call_dropped_at_its_kth_poll_holds_nothing_for_every_k() {
    for (questions, family, is_stream) in all() {
        let storm = site(questions);
        let mut answered = false;
        for k in 1..1_000 {
            {
                let request = ask(&storm, k, family, is_stream).request();
                let future = pin!(storm.site.gateway.clone().oneshot(request));
                answered = polls(future, k).await.is_some();
            }
            let sum = storm.reckon(k).await;
            assert_eq!((sum.abandoned, sum.complete), (usize::try_from(k).expect("small"), 0), "at poll {k}");
            if answered {
                let asked = if questions == Questions::One { 2 } else { 3 };
                assert!(k > 4 * asked, "{asked} stores were pending four times each: {k}");
                break;
            }
        }
        assert!(answered, "the future never came to its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_governed_answer_dropped_after_its_nth_frame_holds_nothing_for_every_n() {
    for (questions, family, is_stream) in all() {
        let storm = site(questions);
        let mut ended = false;
        for n in 0..100 {
            let request = ask(&storm, n, family, is_stream).request();
            let mut body = storm.site.gateway.clone().oneshot(request).await.expect("infallible").into_body();
            for _ in 0..n {
                ended = body.frame().await.is_none();
            }
            drop(body);
            storm.reckon(n + 1).await;
            if ended {
                break;
            }
        }
        assert!(ended, "the answer never came to its end");
        let last = storm.site.closed.lock().last().map(|outcome| outcome.end);
        assert_eq!(last, Some(End::Complete));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governed_call_dropped_on_a_thread_without_a_runtime_holds_nothing_for_every_k() {
    let storm = site(Questions::Two);
    for k in 1..1_000 {
        let request = ask(&storm, k, "claude", true).request();
        let mut future = Box::pin(storm.site.gateway.clone().oneshot(request));
        let answer = polls(future.as_mut(), k).await;
        let answered = answer.is_some();
        thread::spawn(move || drop((future, answer))).join().expect("no drop panics");
        storm.reckon(k).await;
        if answered {
            return;
        }
    }
    panic!("the future never came to its end");
}

/// A provider whose answers come byte by byte.
#[derive(Clone)]
struct Bytewise(Simulated);

impl Service<Request<Body>> for Bytewise {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let provider = self.0.clone();
        Box::pin(async move {
            let answer = provider.oneshot(request).await?;
            Ok(answer.map(|body| Body::new(OneByOne { body: Body::new(body), rest: Bytes::new() })))
        })
    }
}

struct OneByOne {
    body: Body,
    rest: Bytes,
}

impl http_body::Body for OneByOne {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(1)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_governed_stream_left_after_its_nth_byte_is_charged_once_and_no_less_than_was_made_for_every_n() {
    for family in ["claude", "gpt"] {
        let (keys, store, provider) = (MemoryKeys::new(), MemoryBudgets::new(), Simulated::new());
        let crowd = Crowd::new(&keys, ["100", "100", "100"]);
        let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(store.clone()));
        let build = served(&Bytewise(provider.clone()), |layer| layer);
        let site = Site::toward(provider.clone(), keys, limits, budgets, build);
        let (mut charged, mut ended, mut n) = (Money::ZERO, false, 0);
        while !ended {
            let ask = Ask {
                model: format!("{family}-storm-{n:08}"),
                key: crowd.secrets[0].clone(),
                is_stream: true,
                max_tokens: 50,
                script: "sim:first=1,deltas=3,delay=1".into(),
                begins: 0,
                leaves: Leaves::Never,
            };
            // A client that asks for the usage is given every byte as it comes.
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
