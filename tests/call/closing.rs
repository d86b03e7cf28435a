//! Hooks, settlements, and which part of a stack closes a call last.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::call::Settlements;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::outcome::{AttemptEnd, End};
use tollgate::{Body, Call, CallLayer, MeterLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::bodies::{Shape, said, shaped};
use crate::support::Outcomes;

fn request() -> Request<Body> {
    Request::get("/v1/messages").body(Body::empty()).expect("a request")
}

fn call(request: &Request<Body>) -> Call {
    Call::of(request).cloned().expect("the layer opened one")
}

#[tokio::test]
async fn a_call_closes_when_its_client_body_and_its_last_attempt_have_ended() {
    let (mut outcomes, observer) = Outcomes::new();
    let slot = Arc::new(Mutex::new(None));
    let keep = slot.clone();
    let service = CallLayer::new().on_close(observer).layer(service_fn(move |request: Request<Body>| {
        *keep.lock().expect("nobody panicked") = Some((call(&request).begin_attempt(), call(&request).begin_attempt()));
        async { Ok::<_, Infallible>(Response::new(Body::from("hi"))) }
    }));
    service.oneshot(request()).await.expect("infallible").into_body().collect().await.expect("whole");
    let (first, mut second) = slot.lock().expect("nobody panicked").take().expect("attempts began");
    outcomes.none_left().await;
    drop(first);
    outcomes.none_left().await;
    second.end(AttemptEnd::Complete);
    let outcome = outcomes.next().await;
    assert_eq!(outcome.end, End::Complete);
    let ends: Vec<_> = outcome.attempts.iter().map(|a| a.end).collect();
    assert_eq!(ends, [AttemptEnd::Abandoned, AttemptEnd::Complete], "in the order in which they began");
    drop(second);
    outcomes.none_left().await;
}

#[tokio::test]
async fn hooks_run_last_registered_first_and_a_panic_in_one_is_contained() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = order.clone();
    let service = CallLayer::new().layer(service_fn(move |request: Request<Body>| {
        let call = call(&request);
        for n in 0..3 {
            let log = log.clone();
            call.on_close(move |_| {
                assert_ne!(n, 1, "on purpose");
                log.lock().expect("nobody panicked with it").push(n);
            });
        }
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    }));
    drop(service.oneshot(request()).await);
    assert_eq!(*order.lock().expect("nobody panicked with it"), [2, 0]);
}

#[tokio::test]
async fn a_hook_that_comes_after_the_close_runs_at_once() {
    let ran = Arc::new(AtomicUsize::new(0));
    let slot = Arc::new(Mutex::new(None));
    let keep = slot.clone();
    let service = CallLayer::new().layer(service_fn(move |request: Request<Body>| {
        *keep.lock().expect("nobody panicked") = Some(call(&request));
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    }));
    drop(service.oneshot(request()).await);
    let call = slot.lock().expect("nobody panicked").take().expect("the service ran");
    let count = ran.clone();
    call.on_close(move |outcome| {
        assert_eq!(outcome.end, End::Complete);
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_error_of_the_inner_service_fails_the_call() {
    let (mut outcomes, observer) = Outcomes::new();
    let service = CallLayer::new()
        .on_close(observer)
        .layer(service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(std::io::Error::other("inner")) }));
    assert!(service.oneshot(request()).await.is_err());
    assert_eq!(outcomes.next().await.end, End::Failed);
}

#[tokio::test]
async fn a_panic_in_the_inner_service_fails_the_call() {
    let (mut outcomes, observer) = Outcomes::new();
    let service = CallLayer::new().on_close(observer).layer(service_fn(|_: Request<Body>| async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    let task = tokio::runtime::Handle::current().spawn(service.oneshot(request()));
    assert!(task.await.is_err_and(|e| e.is_panic()));
    assert_eq!(outcomes.next().await.end, End::Failed);
    outcomes.none_left().await;
}

#[tokio::test]
async fn a_panic_while_the_body_is_polled_fails_the_call() {
    let (mut outcomes, observer) = Outcomes::new();
    let service = CallLayer::new()
        .on_close(observer)
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(shaped(Shape::Panics))) }));
    let body = service.oneshot(request()).await.expect("infallible").into_body();
    let task = tokio::runtime::Handle::current().spawn(body.collect());
    assert!(task.await.is_err_and(|e| e.is_panic()));
    assert_eq!(outcomes.next().await.end, End::Failed);
    outcomes.none_left().await;
}

#[tokio::test]
async fn a_client_that_closes_at_the_mark_of_the_end_has_had_the_whole_answer() {
    for (mark, end) in [("data: [DONE]\n\n", End::Complete), ("data: {}\n\n", End::Abandoned)] {
        let (mut outcomes, observer) = Outcomes::new();
        let stream = tower::util::MapResponseLayer::new(|mut response: Response<Body>| {
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
            response
        });
        let service = CallLayer::new().on_close(observer).layer(MeterLayer::new().layer(stream.layer(service_fn(
            move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(Body::new(said(mark)))) },
        ))));
        let request = Request::post("/v1/chat/completions").body(Body::empty()).expect("a request");
        let mut body = service.oneshot(request).await.expect("infallible").into_body();
        for _ in 0..2 {
            body.frame().await.expect("a frame").expect("is well");
        }
        drop(body);
        let outcome = outcomes.next().await;
        assert_eq!((outcome.end, outcome.attempts[0].usage_is_final), (end, end == End::Complete), "{mark}");
        outcomes.none_left().await;
    }
}

#[tokio::test]
async fn two_layers_share_one_call() {
    let (mut outcomes, observer) = Outcomes::new();
    let (mut inner_outcomes, inner) = Outcomes::new();
    let service = CallLayer::new().on_close(observer).layer(
        CallLayer::new()
            .on_close(inner)
            .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) })),
    );
    let answer = service.oneshot(request()).await.expect("infallible");
    let id = outcomes.next().await.id.to_string();
    assert_eq!(answer.headers()["x-request-id"], id.as_str());
    assert_eq!(answer.headers()["request-id"], id.as_str());
    assert_eq!(inner_outcomes.next().await.id.to_string(), id, "an observer further in hears of it too");
}

#[tokio::test]
async fn settlements_outlive_their_call_and_are_drained() {
    let settlements = Settlements::new();
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let service = CallLayer::new().settlements(settlements.clone()).layer(service_fn(move |request: Request<Body>| {
        let (call, count) = (call(&request), count.clone());
        let settlements = call.settlements().clone();
        call.on_close(move |_| {
            settlements.spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    }));
    drop(service.oneshot(request()).await);
    assert_eq!((done.load(Ordering::Relaxed), settlements.len()), (0, 1));
    settlements.drain().await;
    assert_eq!((done.load(Ordering::Relaxed), settlements.len()), (1, 0));
}

#[tokio::test]
async fn draining_waits_for_calls_that_are_still_open() {
    let settlements = Settlements::new();
    let service = CallLayer::new()
        .settlements(settlements.clone())
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("an answer"))) }));
    let answer = service.oneshot(request()).await.expect("infallible");
    let mut draining = pin!(settlements.drain());
    let mut look = || draining.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(look().is_pending() && settlements.len() == 1, "the body may end in any way yet");
    drop(answer);
    assert!(look().is_ready() && settlements.is_empty());
}

#[test]
fn a_body_dropped_off_the_runtime_still_settles() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settlements = Settlements::new();
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let service = CallLayer::new().settlements(settlements.clone()).layer(service_fn(move |request: Request<Body>| {
        let (call, count) = (call(&request), count.clone());
        let settlements = call.settlements().clone();
        call.on_close(move |outcome| {
            assert_eq!(outcome.end, End::Abandoned);
            settlements.spawn(async move {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        async { Ok::<_, Infallible>(Response::new(shaped(Shape::FallsSilent))) }
    }));
    let answer = runtime.block_on(service.oneshot(request()));
    drop(answer);
    runtime.block_on(settlements.drain());
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn timings_come_from_the_clock() {
    let (mut outcomes, observer) = Outcomes::new();
    let opened = "2026-11-24T09:00:00Z".parse().expect("a time");
    let clock = Arc::new(ManualClock::at(opened));
    let moved = clock.clone();
    let service = CallLayer::new().clock(clock).on_close(observer).layer(service_fn(move |_: Request<Body>| {
        moved.advance(Duration::from_millis(250));
        async { Ok::<_, Infallible>(Response::new(Body::from("hi"))) }
    }));
    let answer = service.oneshot(request()).await.expect("infallible");
    answer.into_body().collect().await.expect("whole");
    let outcome = outcomes.next().await;
    assert_eq!(outcome.opened_at, opened);
    assert_eq!(outcome.head_after, Some(Duration::from_millis(250)));
    assert_eq!(outcome.took, Duration::from_millis(250));
}
