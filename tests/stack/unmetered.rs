//! A hand-built stack that misses its meter.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::domain::budget::Window;
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::{Body, BudgetLayer, Call, CallLayer, IngestLayer, MeterLayer, RateLimitLayer, Rejection};
use tower::util::{BoxCloneSyncService, MapRequestLayer, option_layer};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::support::log::Log;

const CURE: &str = "if the stack has no `MeterLayer`, put one around the service that asks the provider";

type Mine = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Answers without asking anybody.
fn mine() -> Mine {
    BoxCloneSyncService::new(service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("{}")))))
}

/// Asks twice for the caller, and returns how often the log named the cure.
async fn cures(principal: Principal, meter: Option<MeterLayer>, mine: Mine) -> usize {
    let (log, _listening) = Log::listen();
    let principal = Arc::new(principal);
    let identified = MapRequestLayer::new(move |mut request: Request<Body>| {
        request.extensions_mut().insert(principal.clone());
        request
    });
    let stack = ServiceBuilder::new()
        .layer(identified)
        .layer(CallLayer::new())
        .layer(IngestLayer::new())
        .layer(RateLimitLayer::new(MemoryLimits::new()))
        .layer(BudgetLayer::new(MemoryBudgets::new()))
        .layer(option_layer(meter))
        .service(mine);
    for _ in 0..2 {
        let body = r#"{"model":"claude-haiku-5-5","max_tokens":9,"messages":[]}"#;
        let request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
        let answer = stack.clone().oneshot(request).await.expect("no layer fails");
        answer.into_body().collect().await.expect("whole");
    }
    log.text().matches(CURE).count()
}

fn callers() -> [Principal; 2] {
    let ten = "10".parse().expect("an amount");
    [Principal::new("ada").budget(Window::Day, ten), Principal::new("ada").limit(Measure::Tokens, 10_000)]
}

#[tokio::test]
async fn without_a_meter_the_first_answer_that_is_paid_or_counted_by_what_it_used_has_the_log_name_the_cure_once() {
    for caller in callers() {
        assert_eq!(cures(caller.clone(), None, mine()).await, 1, "{caller:?}");
        assert_eq!(cures(caller.clone(), Some(MeterLayer::new()), mine()).await, 0, "{caller:?}");
    }
}

#[tokio::test]
async fn nobody_hears_of_a_missing_meter_where_none_is_needed() {
    let requests = Principal::new("ada").limit(Measure::Requests, 9);
    assert_eq!(cures(requests, None, mine()).await, 0, "requests are counted without one");
    let refuses = service_fn(async |request: Request<Body>| {
        assert!(Call::of(&request).is_some());
        let refusal = Rejection::new(RejectionKind::InvalidRequest, "not this");
        Ok(axum::response::IntoResponse::into_response(refusal).map(Body::new))
    });
    let busy = service_fn(async |_: Request<Body>| {
        Ok(Response::builder().status(503).body(Body::from("busy")).expect("a response"))
    });
    for caller in callers() {
        assert_eq!(cures(caller.clone(), None, BoxCloneSyncService::new(refuses)).await, 0, "nobody was asked");
        assert_eq!(cures(caller, None, BoxCloneSyncService::new(busy)).await, 0, "a host's own error");
    }
}
