//! Limits of several layers, and which of them the client sees.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tollgate::call::{LiveCalls, Settlements};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::domain::scope::Scope;
use tollgate::store::At;
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::{Body, BudgetLayer, CallLayer, GatewayLayer, IngestLayer, RateLimitLayer};
use tower::{Layer, service_fn};

use crate::budgets::{ada, hello};
use crate::world::{Answer, MESSAGES, ask};

fn everyone(measure: Measure, most: u64) -> Limit {
    Limit::new(Scope::global(), measure, most)
}

fn request(dollars: &str) -> Request<Body> {
    let mut request = Request::post(MESSAGES).body(Body::from(hello(64).to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(ada(dollars)));
    request
}

/// Returns the limit of a measure and what is left of it, as the client sees them.
fn shown<'a>(answer: &'a Answer, measure: &str) -> [Option<&'a str>; 2] {
    ["limit", "remaining"].map(|what| answer.header(&format!("anthropic-ratelimit-{measure}-{what}")))
}

#[tokio::test]
async fn of_several_layers_the_tightest_limit_is_shown_and_without_a_call_that_does_not_count() {
    let served = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("{}"))) });
    // The inner layer's limit of requests, the budget in dollars, the status, what is shown of requests, and whether
    // all tokens are shown as left.
    for (inner, dollars, status, requests, tokens_of_it) in [
        (3, "10", 200, ["2", "1"], false),
        (1, "10", 200, ["1", "0"], false),
        (3, "0.000001", 429, ["2", "2"], true),
        (0, "10", 429, ["0", "0"], true),
    ] {
        let (settlements, outer_store) = (Settlements::new(), MemoryLimits::new());
        let limits = [everyone(Measure::Requests, 2), everyone(Measure::Tokens, 7_000)];
        let outer = limits.iter().cloned().fold(RateLimitLayer::new(outer_store.clone()), RateLimitLayer::for_everyone);
        let inner = RateLimitLayer::new(MemoryLimits::new()).for_everyone(everyone(Measure::Requests, inner));
        let within = inner.layer(BudgetLayer::new(MemoryBudgets::new()).layer(served));
        let call = CallLayer::new().settlements(settlements.clone());
        let answer = ask(call.layer(IngestLayer::new().layer(outer.layer(within))), request(dollars)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(shown(&answer, "requests"), requests.map(Some));
        let [most, left] = shown(&answer, "tokens");
        assert_eq!((most, left == most), (Some("7000"), tokens_of_it), "{left:?}");
        settlements.drain().await;
        let left = outer_store.standing(&limits, At::Store).await.expect("memory");
        assert_eq!(left[0].left, if status == 200 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_call_that_does_not_count_is_shown_both_of_two_limits_of_one_bucket_without_it() {
    let served = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("{}"))) });
    // Both limits share one bucket. One call is a third of one limit and a half of the other.
    let limits = [3, 2].map(|most| everyone(Measure::Requests, most));
    let limits = limits.into_iter().fold(RateLimitLayer::new(MemoryLimits::new()), RateLimitLayer::for_everyone);
    let within = limits.layer(BudgetLayer::new(MemoryBudgets::new()).layer(served));
    let answer = ask(CallLayer::new().layer(IngestLayer::new().layer(within)), request("0.000001")).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert_eq!(shown(&answer, "requests"), [Some("2"); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_is_shown_its_limits_as_they_will_stand() {
    let hangs = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let limit = everyone(Measure::Requests, 2);
    // With a layer that meters, it is known that no provider was asked. In a hand-built stack it is not.
    for is_metered in [true, false] {
        let (settlements, live, store) = (Settlements::new(), LiveCalls::new(), MemoryLimits::new());
        let limits = RateLimitLayer::new(store.clone()).for_everyone(limit.clone());
        let cut = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let why = Rejection::new(RejectionKind::Unauthenticated, "this key was revoked");
            assert_eq!(live.cut(&why, |_| true), 1);
        };
        let asked = async {
            if is_metered {
                let layer = GatewayLayer::new().live_calls(live.clone()).settlements(settlements.clone());
                let layer = layer.rate_limit(limits).budget(BudgetLayer::new(crate::hanging::Hung));
                ask(layer.layer(hangs), request("10")).await
            } else {
                let call = CallLayer::new().live_calls(live.clone()).settlements(settlements.clone());
                ask(call.layer(IngestLayer::new().layer(limits.layer(hangs))), request("10")).await
            }
        };
        let (answer, ()) = tokio::join!(asked, cut);
        assert_eq!(answer.status, 401);
        settlements.drain().await;
        let left = store.standing(std::slice::from_ref(&limit), At::Store).await.expect("memory")[0].left;
        assert_eq!(left, if is_metered { 2 } else { 1 });
        assert_eq!(shown(&answer, "requests"), [Some("2"), Some(&*left.to_string())], "{is_metered}");
    }
}
