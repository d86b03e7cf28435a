//! How each kind of end of a body closes the call, over real sockets.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::{Body, CallLayer, MeterLayer};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::bodies::{Shape, Version, shaped, try_send};
use crate::support::{Outcomes, Server};

/// Makes one exchange over a socket, with a call and an attempt around a service whose body has this shape.
async fn exchange(version: Version, method: Method, status: StatusCode, shape: Shape) -> (Outcome, Option<Bytes>) {
    let (mut outcomes, observer) = Outcomes::new();
    let service = ServiceBuilder::new().layer(CallLayer::new().on_close(observer)).layer(MeterLayer::new()).service(
        service_fn(move |_: Request<Incoming>| async move {
            let mut response = Response::new(shaped(shape));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }),
    );
    let server = Server::start(service).await;
    let request = Request::builder().method(method).uri("/anything").body(Full::default()).expect("a request");
    // If a body breaks at once, the head is lost too: hyper has not flushed it yet.
    let body = match try_send(version, server.addr, request).await {
        Ok(answer) => answer.into_body().collect().await.ok().map(|body| body.to_bytes()),
        Err(_) => None,
    };
    let outcome = outcomes.next().await;
    outcomes.none_left().await;
    (outcome, body)
}

#[tokio::test]
async fn a_body_that_came_whole_is_complete_however_it_shows_its_end() {
    for version in [Version::H1, Version::H2] {
        for shape in [Shape::ReportsItsEnd, Shape::UnknownLength, Shape::ExactLength] {
            let (outcome, body) = exchange(version, Method::GET, StatusCode::OK, shape).await;
            assert_eq!(body.as_deref(), Some(&b"abc\nabc\nabc\n"[..]), "{version:?} {shape:?}");
            assert_eq!(outcome.end, End::Complete, "{version:?} {shape:?}");
            assert_eq!(outcome.bytes_out, 12, "{version:?} {shape:?}");
            assert_eq!(outcome.attempts[0].end, AttemptEnd::Complete, "{version:?} {shape:?}");
            assert!(outcome.first_byte_after >= outcome.head_after, "{version:?} {shape:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_over_before_it_begins_is_complete() {
    for version in [Version::H1, Version::H2] {
        let (outcome, body) = exchange(version, Method::GET, StatusCode::OK, Shape::Empty).await;
        assert_eq!((outcome.end, body.map(|b| b.len())), (End::Complete, Some(0)), "{version:?}");
        assert_eq!(outcome.first_byte_after, None);
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_on_the_wire_is_complete_whatever_its_object_holds() {
    for version in [Version::H1, Version::H2] {
        for shape in [Shape::UnknownLength, Shape::ExactLength, Shape::FallsSilent] {
            for (method, status) in [
                (Method::HEAD, StatusCode::OK),
                (Method::GET, StatusCode::NO_CONTENT),
                (Method::GET, StatusCode::NOT_MODIFIED),
            ] {
                let (outcome, _) = exchange(version, method.clone(), status, shape).await;
                assert_eq!(outcome.end, End::Complete, "{version:?} {method} {status} {shape:?}");
                assert_eq!(outcome.attempts[0].end, AttemptEnd::Complete, "{version:?} {method} {status} {shape:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_head_tells_a_length_only_where_there_is_one() {
    for (status, body, told) in [
        (StatusCode::OK, "abc", Some("3")),
        // What axum leaves of a GET whose answer is a stream.
        (StatusCode::OK, "", None),
        (StatusCode::NO_CONTENT, "abc", None),
        (StatusCode::NOT_MODIFIED, "abc", None),
    ] {
        let service = CallLayer::new().layer(service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }));
        let answer = service.oneshot(Request::head("/download").body(Body::empty()).expect("a request")).await;
        let length = answer.expect("infallible").headers().get("content-length").cloned();
        assert_eq!(length.as_ref().map(|length| length.to_str().expect("digits")), told, "{status} {body}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_failed_and_the_client_sees_it_break() {
    for version in [Version::H1, Version::H2] {
        let (outcome, body) = exchange(version, Method::GET, StatusCode::OK, Shape::Breaks).await;
        assert_eq!(body, None, "{version:?}: half an answer must not look whole");
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken), "{version:?}");
        assert_eq!(outcome.bytes_out, 12);
    }
}
