//! Hand-built stacks, in every order and with layers missing: every call that is admitted is governed.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::Window;
use tollgate::domain::catalog::{ModelCard, Prices};
use tollgate::domain::limit::Measure;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::gateway::{Dispatch, Upstreams};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::route::ModelTable;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::{AuditLayer, Body, CallLayer, Dialect, IngestLayer, RouteLayer};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::oracle::price;
use crate::site::{Closed, Records, catalog, mint, pepper, providers};
use crate::support::log::Log;
use crate::watched::Watched;
use crate::weather::Weather;

type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The layers that govern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Key,
    Ingest,
    Route,
    Limit,
    Budget,
}

const ALL: [Stage; 5] = [Stage::Key, Stage::Ingest, Stage::Route, Stage::Limit, Stage::Budget];

/// Every order of all the stages.
fn orders() -> Vec<Vec<Stage>> {
    let mut orders = vec![Vec::new()];
    for _ in 0..ALL.len() {
        let longer = |order: Vec<Stage>| {
            let rest: Vec<_> = ALL.into_iter().filter(|stage| !order.contains(stage)).collect();
            rest.into_iter().map(move |stage| [order.clone(), vec![stage]].concat())
        };
        orders = orders.into_iter().flat_map(longer).collect();
    }
    orders
}

struct House {
    keys: MemoryKeys,
    limits: MemoryLimits,
    budgets: Watched,
    provider: Simulated,
    closed: Closed,
    records: Records,
    audit: AuditLayer,
    good: String,
    /// The keys that must be refused: by the budget, by the limit of requests, and by the list of models.
    refused: [String; 3],
}

impl House {
    fn new() -> Self {
        let keys = MemoryKeys::new();
        let nine = "9".parse().expect("an amount");
        let (record, good) =
            mint(&keys, Principal::new("good").budget(Window::Total, nine).limit(Measure::Requests, 60));
        let poor = Principal::new("poor").budget(Window::Total, "0.000000001".parse().expect("an amount"));
        let slow = Principal::new("slow").budget(Window::Total, nine).limit(Measure::Requests, 0);
        let narrow = Principal::new("narrow").models(["nothing"]);
        let minted = [poor, slow, narrow].map(|principal| mint(&keys, principal));
        let pots = minted.iter().map(|(record, _)| record).chain([&record]).flat_map(|r| r.principal.budgets.clone());
        let budgets = Watched::new(MemoryBudgets::new(), pots.collect::<Vec<_>>(), Weather::calm());
        let records = Records::default();
        House {
            limits: MemoryLimits::new(),
            budgets,
            provider: Simulated::new(),
            closed: Closed::default(),
            audit: AuditLayer::new(records.clone()),
            records,
            good,
            refused: minted.map(|(_, secret)| secret),
            keys,
        }
    }

    /// A stack in this order. `claude-cheap` has a low price in the catalog, and is an alias for a dear model.
    fn stack(&self, order: &[Stage]) -> Stack {
        let (anthropic, _) = providers(&self.provider);
        let dispatch = Dispatch::new(Upstreams::new().add("anthropic", anthropic));
        let mut stack = BoxCloneSyncService::new(dispatch);
        for stage in order.iter().rev() {
            stack = match stage {
                Stage::Key => BoxCloneSyncService::new(KeyAuthLayer::new(self.keys.clone(), pepper()).layer(stack)),
                Stage::Ingest => BoxCloneSyncService::new(IngestLayer::new().layer(stack)),
                Stage::Route => {
                    let table = ModelTable::new().pattern("claude*", "anthropic", Dialect::Anthropic);
                    let table = table.alias("claude-cheap", ["claude-storm"]);
                    BoxCloneSyncService::new(RouteLayer::new(table).layer(stack))
                }
                Stage::Limit => BoxCloneSyncService::new(RateLimitLayer::new(self.limits.clone()).layer(stack)),
                Stage::Budget => BoxCloneSyncService::new(BudgetLayer::new(self.budgets.clone()).layer(stack)),
            };
        }
        let cheap = Prices::new("0.000001".parse().expect("a price"), "0.000001".parse().expect("a price"));
        let catalog = catalog().with(ModelCard::new("claude-cheap", cheap).context_window(9_000).max_output(900));
        let closed = self.closed.clone();
        let call =
            CallLayer::new().catalog(catalog).on_close(move |outcome| closed.lock().push(Outcome::clone(outcome)));
        let outer = ServiceBuilder::new().layer(call).layer(self.audit.clone());
        BoxCloneSyncService::new(outer.service(stack))
    }

    /// Asks, and returns the status and the only outcome.
    async fn ask(&self, stack: &Stack, key: Option<&str>, model: &str) -> (u16, Outcome) {
        self.closed.lock().clear();
        self.records.lock().clear();
        let mut request = Request::post("/v1/messages");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let body =
            format!(r#"{{"model":"{model}","max_tokens":50,"messages":[{{"role":"user","content":"sim:deltas=9"}}]}}"#);
        let request = request.body(Body::from(body)).expect("a request");
        let answer = stack.clone().oneshot(request).await.expect("infallible");
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("whole");
        self.audit.flush().await;
        let closed = self.closed.lock();
        assert_eq!((closed.len(), self.records.lock().len()), (1, 1));
        (status, closed[0].clone())
    }
}

#[tokio::test]
async fn in_every_order_of_the_layers_a_call_is_governed_or_refused() {
    let mut whole = 0;
    for order in orders() {
        let house = House::new();
        let stack = house.stack(&order);
        for model in ["claude-storm", "claude-cheap"] {
            let (status, outcome) = house.ask(&stack, Some(&house.good), model).await;
            match status {
                200 => {
                    whole += 1;
                    let (granted, charged) = (outcome.granted.expect("granted"), outcome.charged.expect("charged"));
                    let bill = house.provider.bill().lines().last().map(price).expect("a line");
                    assert_eq!(charged, bill, "{order:?} {model}");
                    assert!(charged <= granted, "{order:?} {model}: {charged} of {granted}");
                    let counted = outcome.decisions.iter().any(|d| d.layer == "rate_limit" && d.allowed);
                    assert!(counted, "{order:?} {model}");
                }
                500 => assert!(outcome.charged.is_none_or(|charged| charged.nanos() == 0), "{order:?}"),
                other => panic!("{order:?} {model}: {other}"),
            }
        }
        let before = house.provider.bill().lines().len();
        for key in house.refused.iter().map(|key| Some(key.as_str())).chain([None, Some("tg_live_nothing")]) {
            let (status, outcome) = house.ask(&stack, key, "claude-storm").await;
            assert!(matches!(status, 400 | 401 | 429 | 500), "{order:?} {status} {outcome:?}");
        }
        assert_eq!(house.provider.bill().lines().len(), before, "{order:?} let somebody through");
        house.budgets.ledger().assert_right();
    }
    assert!(whole > 2, "the right order is one of them");
}

#[tokio::test]
async fn with_a_layer_missing_that_another_needs_nothing_is_let_through() {
    for missing in [Stage::Key, Stage::Ingest, Stage::Route] {
        let order: Vec<_> = ALL.into_iter().filter(|stage| *stage != missing).collect();
        let house = House::new();
        let (log, _guard) = Log::listen();
        let (status, outcome) = house.ask(&house.stack(&order), Some(&house.good), "claude-storm").await;
        assert_eq!(status, 500, "{missing:?}");
        assert!(outcome.attempts.is_empty() && house.provider.bill().lines().is_empty());
        let cure = match missing {
            Stage::Key => "KeyAuthLayer",
            Stage::Ingest => "IngestLayer",
            _ => "RouteLayer",
        };
        assert!(log.text().contains(cure), "{}", log.text());
        house.budgets.ledger().assert_right();
    }
}

/// A host's service that answers who called, and with which credentials.
fn mine()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync {
    service_fn(|request: Request<Body>| async move {
        let who = tollgate::Call::of(&request).and_then(tollgate::Call::principal).map(|p| p.name.to_string());
        let credentials = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
        let left = credentials.iter().filter(|name| request.headers().contains_key(**name)).count();
        Ok(Response::new(Body::from(format!("{who:?} {left}"))))
    })
}

async fn text(answer: Result<Response<Body>, Infallible>) -> (u16, String) {
    let answer = answer.expect("infallible");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn the_layer_for_keys_alone_asks_on_every_path_and_passes_no_credential_on() {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada"));
    let stack = KeyAuthLayer::new(keys, pepper()).layer(mine());
    for path in ["/v1/messages", "/my/own/path", "/"] {
        let request = || Request::get(path);
        let (status, _) = text(stack.clone().oneshot(request().body(Body::empty()).expect("a request")).await).await;
        assert_eq!(status, 401, "{path}");
        let with_key = request().header("x-api-key", &key).header("authorization", "Bearer sk-of-theirs");
        let (status, body) = text(stack.clone().oneshot(with_key.body(Body::empty()).expect("a request")).await).await;
        assert_eq!((status, body.as_str()), (200, "Some(\"ada\") 0"), "{path}");
    }
}

#[tokio::test]
async fn layers_for_limits_and_money_alone_refuse_where_nobody_says_who_calls_and_serve_whom_the_host_names() {
    let limits = RateLimitLayer::new(MemoryLimits::new()).layer(mine());
    let budgets = BudgetLayer::new(MemoryBudgets::new()).layer(mine());
    let (limits, budgets) = (BoxCloneSyncService::new(limits), BoxCloneSyncService::new(budgets));
    let body = r#"{"model":"claude-storm","max_tokens":50,"messages":[]}"#;
    let request = |who: Option<Principal>| {
        // A header cannot set the principal.
        let mut request = Request::post("/v1/messages")
            .header("x-tollgate-principal", "ada")
            .header("principal", r#"{"name":"ada"}"#)
            .body(Body::from(body))
            .expect("a request");
        if let Some(who) = who {
            request.extensions_mut().insert(Arc::new(who));
        }
        request
    };
    for stack in [&limits, &budgets] {
        let (status, _) = text(stack.clone().oneshot(request(None)).await).await;
        assert_eq!(status, 500);
        let (status, body) = text(stack.clone().oneshot(request(Some(Principal::new("host")))).await).await;
        assert_eq!((status, body.as_str()), (200, "Some(\"host\") 0"));
    }
    let one = || Some(Principal::new("host").limit(Measure::Requests, 1));
    assert_eq!(text(limits.clone().oneshot(request(one())).await).await.0, 200);
    assert_eq!(text(limits.clone().oneshot(request(one())).await).await.0, 429);
    // Tokens and money cannot be estimated without the body.
    let tokens = Principal::new("host").limit(Measure::Tokens, 100_000);
    assert_eq!(text(limits.oneshot(request(Some(tokens))).await).await.0, 500);
    let rich = Principal::new("host").budget(Window::Day, "100".parse().expect("an amount"));
    assert_eq!(text(budgets.oneshot(request(Some(rich))).await).await.0, 500);
}

#[tokio::test]
async fn money_in_front_of_a_service_that_nobody_meters_is_charged_whole() {
    let budgets = MemoryBudgets::new();
    let (closed, rich) =
        (Closed::default(), Principal::new("host").budget(Window::Day, "9".parse().expect("an amount")));
    let observer = closed.clone();
    let stack = ServiceBuilder::new()
        .layer(
            CallLayer::new().catalog(catalog()).on_close(move |outcome| observer.lock().push(Outcome::clone(outcome))),
        )
        .layer(IngestLayer::new())
        .layer(BudgetLayer::new(budgets))
        .service(mine());
    let body = Body::from(r#"{"model":"claude-storm","max_tokens":50,"messages":[]}"#);
    let mut request = Request::post("/v1/messages").body(body).expect("a request");
    request.extensions_mut().insert(Arc::new(rich));
    assert_eq!(text(stack.oneshot(request).await).await.0, 200);
    let closed = closed.lock();
    assert!(closed[0].granted.is_some());
    assert_eq!(closed[0].charged, closed[0].granted);
}
