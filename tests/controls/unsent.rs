//! Requests that no provider can have had whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::AttemptEnd;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::{MemoryBudgets, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{Body, BudgetLayer, Dialect, Gateway, GatewayLayer, RateLimitLayer};
use tower::{ServiceExt, service_fn};

use crate::support::Outcomes;
use crate::world::MESSAGES;

/// Who pays from a pot of ten dollars, and may use five thousand tokens a minute.
fn team() -> Principal {
    let budget = Budget::new(Scope::team("search"), Window::Total, "10".parse().expect("an amount"));
    Principal::new("ada").budget_of(budget).limit(Measure::Tokens, 5_000)
}

/// Hangs up on a call with so long a prompt, and gives how its attempt ended and what it was charged.
async fn hangs_up<S>(provider: S, prompt: usize) -> (AttemptEnd, Money)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let (budgets, limits) = (MemoryBudgets::new(), MemoryLimits::new());
    let (mut outcomes, observer) = Outcomes::new();
    let layer = GatewayLayer::new()
        .on_close(observer)
        .rate_limit(RateLimitLayer::new(limits.clone()))
        .budget(BudgetLayer::new(budgets.clone()));
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).layer(layer).build();
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 100, "stream": true,
        "messages": [{ "role": "user", "content": "a".repeat(prompt) }] });
    let mut request = Request::post(MESSAGES).body(Body::from(body.to_string())).expect("a request");
    let principal = team();
    request.extensions_mut().insert(Arc::new(principal.clone()));
    let asked = tokio::time::timeout(Duration::from_millis(500), gateway.oneshot(request)).await;
    assert!(asked.is_err(), "nobody answers: {asked:?}");
    let outcome = outcomes.next().await;
    let charged = outcome.charged.expect("held");
    let standing = budgets.standing(&principal.budgets, At::Store).await.expect("memory").remove(0);
    assert_eq!((standing.spent, standing.held), (charged, Money::ZERO));
    let left = limits.standing(&principal.limits, At::Store).await.expect("memory").remove(0).left;
    assert_eq!(left == 5_000, charged == Money::ZERO, "tokens that nobody used are given back");
    (outcome.attempts[0].end, charged)
}

#[tokio::test]
async fn a_request_that_no_connection_took_to_its_end_costs_nothing() {
    // One that is never connected.
    let never = service_fn(|_request: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, never).expect("a URL");
    assert_eq!(hangs_up(provider, 10).await, (AttemptEnd::Unsent, Money::ZERO));

    // Connections that are made and never read from: what fits in between is gone, and may have been heard.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let mut listens = tokio::task::JoinSet::new();
    listens.spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            kept.push(socket);
        }
    });
    let client = HttpClient::new().expect("a client");
    let provider = Provider::with_client(Dialect::Anthropic, &url, None, client).expect("a URL");
    let (end, charged) = hangs_up(provider, 10).await;
    assert_eq!(end, AttemptEnd::Abandoned);
    assert!(charged > Money::ZERO);
}
