//! Calls that are cut at awkward moments.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tollgate::body::BoxError;
use tollgate::call::LiveCalls;
use tollgate::domain::outcome::End;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::ingest::IngestLayer;
use tollgate::{Body, CallLayer, MeterLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::bodies::{Version, said, try_send};
use crate::support::{Outcomes, Server};

fn why() -> Rejection {
    Rejection::new(RejectionKind::ShuttingDown, "enough")
}

/// A body that cuts its own call while it is polled, and then returns a frame or none.
struct CutsItself(LiveCalls, Option<&'static str>);

impl http_body::Body for CutsItself {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert_eq!(self.0.cut(&why(), |_| true), 1, "it is not asked again");
        match self.1.take() {
            Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn whoever_runs_within_a_call_may_cut_it() {
    for says in [Some("data: {}\n\n"), None] {
        let (mut outcomes, observer) = Outcomes::new();
        let live = LiveCalls::new();
        let within = live.clone();
        let layer = CallLayer::new().live_calls(live.clone()).on_close(observer);
        let service = layer.layer(service_fn(move |_request: Request<Body>| {
            let response = Response::builder().header("content-type", "text/event-stream");
            let response = response.body(Body::new(CutsItself(within.clone(), says)));
            async { Ok::<_, Infallible>(response.expect("a response")) }
        }));
        let request = Request::get("/v1/messages").body(Body::empty()).expect("a request");
        let whole = service.oneshot(request).await.expect("infallible").into_body().collect().await.expect("an event");
        let text = String::from_utf8(whole.to_bytes().to_vec()).expect("text");
        assert!(text.starts_with(says.unwrap_or("event: error")) && text.contains("enough"), "{text}");
        assert_eq!(outcomes.next().await.end, End::Cut);
        assert!(live.is_empty());
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_before_its_first_byte_is_not_taken_for_an_empty_one() {
    for version in [Version::H1, Version::H2] {
        let (mut outcomes, observer) = Outcomes::new();
        let live = LiveCalls::new();
        let layer = CallLayer::new().live_calls(live.clone()).on_close(observer);
        let service =
            layer.layer(service_fn(|_request| async { Ok::<_, Infallible>(Response::new(Body::from("whole"))) }));
        let between = live.clone();
        let service = service.map_response(move |response: Response<Body>| {
            assert_eq!(between.cut(&why(), |_| true), 1);
            response
        });
        let server = Server::start(service).await;
        let request = Request::get("/v1/messages").body(Full::new(Bytes::new())).expect("a request");
        match try_send(version, server.addr, request).await {
            Ok(answer) => {
                let body = answer.into_body().collect().await;
                assert!(body.is_err(), "{version:?}: {body:?}");
            }
            Err(error) => assert_eq!(version, Version::H1, "a stream of its own breaks off by itself: {error}"),
        }
        assert_eq!(outcomes.next().await.end, End::Cut);
    }
}

#[tokio::test]
async fn a_whole_answer_that_is_cut_behind_its_end_stays_a_good_one() {
    for (mark, end) in [("data: [DONE]\n\n", End::Complete), ("data: {}\n\n", End::Cut)] {
        let (mut outcomes, observer) = Outcomes::new();
        let live = LiveCalls::new();
        let layer = CallLayer::new().live_calls(live.clone()).on_close(observer);
        let service = layer.layer(IngestLayer::new().layer(MeterLayer::new().layer(service_fn(
            move |_: Request<Body>| async move {
                let response = Response::builder().header("content-type", "text/event-stream");
                Ok::<_, Infallible>(response.body(Body::new(said(mark))).expect("a response"))
            },
        ))));
        let asked = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
        let request = Request::post("/v1/chat/completions").body(Body::from(asked)).expect("a request");
        let mut body = service.oneshot(request).await.expect("infallible").into_body();
        for _ in 0..2 {
            body.frame().await.expect("a frame").expect("is well");
        }
        assert_eq!(live.cut(&why(), |_| true), 1);
        let rest = body.collect().await.expect("no error").to_bytes();
        assert_eq!(rest.is_empty(), end == End::Complete, "{rest:?}");
        assert_eq!(outcomes.next().await.end, end, "{mark}");
    }
}

#[tokio::test]
async fn an_answer_that_came_whole_and_of_which_nothing_went_out_is_not_taken_for_an_empty_one() {
    let metered = MeterLayer::new().layer(service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from(r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#)))
    }));
    // A translator, for example, collects the whole answer before it hands out any of it.
    let collected = service_fn(move |request: Request<Body>| {
        let answering = metered.clone().oneshot(request);
        async move {
            let bytes = answering.await.expect("infallible").into_body().collect().await.expect("whole").to_bytes();
            Ok::<_, Infallible>(Response::new(Body::from(bytes)))
        }
    });
    for is_cut in [true, false] {
        let (mut outcomes, observer) = Outcomes::new();
        let live = LiveCalls::new();
        let service = CallLayer::new().live_calls(live.clone()).on_close(observer).layer(collected.clone());
        let request = Request::post("/v1/chat/completions").body(Body::empty()).expect("a request");
        let body = service.oneshot(request).await.expect("infallible").into_body();
        if is_cut {
            assert_eq!(live.cut(&why(), |_| true), 1);
            assert!(body.collect().await.is_err());
        } else {
            drop(body);
        }
        assert_eq!(outcomes.next().await.end, if is_cut { End::Cut } else { End::Abandoned });
    }
}
