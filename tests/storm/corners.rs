//! Corner cases: midnight, silent gateways, fallbacks, a host's service behind the stages, and an audit trail that
//! cannot be written.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::audit::AuditLayer;
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::key::KeyRecord;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::audit::AuditSink;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::{At, StoreError};
use tollgate::testing::Simulated;
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::calls::{Ask, Leaves};
use crate::in_process::noon;
use crate::oracle::price;
use crate::site::{Site, catalog, mint, pepper, providers};
use crate::watched::now;

fn ask(key: &str, script: &str) -> Ask {
    Ask {
        model: "claude-storm".into(),
        key: key.to_owned(),
        is_stream: true,
        max_tokens: 50,
        script: script.to_owned(),
        begins: 0,
        leaves: Leaves::Never,
    }
}

struct House {
    site: Site,
    budgets: MemoryBudgets,
    clock: Arc<ManualClock>,
    record: KeyRecord,
    key: String,
}

/// A site whose clock stands at noon.
fn house(window: Window, limit: &str) -> House {
    let (keys, clock) = (MemoryKeys::new(), noon());
    let (record, key) = mint(&keys, Principal::new("ada").budget(window, limit.parse().expect("an amount")));
    let budgets = MemoryBudgets::new().clock(clock.clone());
    let layer = BudgetLayer::new(budgets.clone()).over_budget(OverBudget::Clamp { floor: 8, share: 1 });
    let limits = RateLimitLayer::new(MemoryLimits::new());
    let site = Site::with(keys, limits, layer, |layer| layer.clock(clock.clone()));
    House { site, budgets, clock, record, key }
}

impl House {
    fn stands(&self) -> (Money, Money) {
        let standing = now(self.budgets.standing(&self.record.principal.budgets, At::Store)).expect("memory");
        (standing[0].spent, standing[0].held)
    }

    async fn begin(&self, script: &str) -> Response<Body> {
        self.site.gateway.clone().oneshot(ask(&self.key, script).request()).await.expect("infallible")
    }
}

#[tokio::test]
async fn a_stream_that_ends_after_midnight_is_not_paid_by_the_new_day() {
    let house = house(Window::Day, "9");
    let answer = house.begin("sim:deltas=3").await;
    assert!(house.stands().1 > Money::ZERO);
    house.clock.advance(Duration::from_secs(12 * 60 * 60));
    assert_eq!(house.stands(), (Money::ZERO, Money::ZERO), "a new day");
    answer.into_body().collect().await.expect("whole");
    house.site.settled().await;
    assert_eq!(house.stands(), (Money::ZERO, Money::ZERO));
    let charged = house.site.closed.lock()[0].charged;
    assert_eq!(charged, house.site.provider.bill().lines().first().map(price), "its record says what it cost");
}

#[tokio::test]
async fn a_gateway_that_was_silent_forfeits_and_its_settlement_makes_it_true() {
    let house = house(Window::Total, "9");
    let answer = house.begin("sim:deltas=3").await;
    let held = house.stands().1;
    house.clock.advance(Duration::from_secs(301));
    assert_eq!(house.stands(), (held, Money::ZERO), "charged whole, as if the gateway had died");
    answer.into_body().collect().await.expect("whole");
    house.site.settled().await;
    let bill = price(&house.site.provider.bill().lines()[0]);
    assert_eq!(house.stands(), (bill, Money::ZERO));
}

#[tokio::test]
async fn a_budget_that_is_spent_says_when_there_is_more_and_a_lifetimes_does_not() {
    for (window, after) in [(Window::Day, Some("43200")), (Window::Total, None)] {
        let house = house(window, "0.03");
        let mut answer = house.begin("sim:deltas=9").await;
        for _ in 0..5_000 {
            if answer.status() != 200 {
                break;
            }
            answer.into_body().collect().await.expect("whole");
            house.site.settled().await;
            answer = house.begin("sim:deltas=9").await;
        }
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(answer.status(), 429);
        assert_eq!((header("retry-after"), header("x-should-retry")), (after, Some("false")));
        assert!(header("x-tollgate-budget-remaining-usd").expect("told").starts_with("0.0"));
    }
}

#[tokio::test]
async fn both_names_of_a_chat_limit_are_clamped_and_one_that_is_missing_is_written() {
    for limits in [
        r#""max_tokens":4000,"max_completion_tokens":3000,"#,
        r#""max_completion_tokens":null,"#,
        "",
        r#""max_tokens":3000,"#,
    ] {
        let house = house(Window::Total, "0.004");
        let body =
            format!(r#"{{"model":"gpt-storm",{limits}"messages":[{{"role":"user","content":"sim:deltas=9000"}}]}}"#);
        let request = Request::post("/v1/chat/completions").header("x-api-key", &house.key).body(Body::from(body));
        let answer = house.site.gateway.clone().oneshot(request.expect("a request")).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        let told: u64 = answer.headers()["x-tollgate-clamped"].to_str().expect("digits").parse().expect("digits");
        answer.into_body().collect().await.expect("whole");
        house.site.settled().await;
        let sent: Value = serde_json::from_slice(&house.site.provider.received()[0].body).expect("JSON");
        let stated: Vec<_> =
            ["max_tokens", "max_completion_tokens"].iter().filter_map(|name| sent[*name].as_u64()).collect();
        assert!(!stated.is_empty() && stated.iter().all(|stated| *stated == told), "{limits} {told}: {stated:?}");
        let line = &house.site.provider.bill().lines()[0];
        assert_eq!((line.output, house.stands()), (told, (price(line), Money::ZERO)));
        assert!(price(line) <= "0.004".parse().expect("an amount"));
    }
}

#[tokio::test]
async fn a_fallback_is_granted_for_the_dearest_and_charged_for_the_one_that_answered() {
    use tollgate::domain::catalog::{ModelCard, Prices};
    use tollgate::domain::rejection::{Rejection, RejectionKind};
    let keys = MemoryKeys::new();
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "9".parse().expect("an amount")));
    let budgets = MemoryBudgets::new();
    let dear =
        ModelCard::new("claude-dear", Prices::new("30".parse().expect("a price"), "150".parse().expect("a price")));
    let dear = dear.context_window(200_000).max_output(8_192);
    let (anthropic, _) = providers(&Simulated::new());
    let provider = service_fn(move |request: Request<Body>| {
        let anthropic = anthropic.clone();
        async move {
            let target = tollgate::Call::of(&request).and_then(tollgate::Call::target).expect("a target").clone();
            if &*target.model == "claude-dear" {
                let rejection = Rejection::new(RejectionKind::UpstreamUnreachable, "gone").nothing_sent();
                let mut answer = Response::new(Body::empty());
                answer.extensions_mut().insert(rejection);
                return Ok::<_, Infallible>(answer);
            }
            anthropic.oneshot(request).await
        }
    });
    let (settlements, seen) = (tollgate::call::Settlements::new(), crate::site::Closed::default());
    let observer = seen.clone();
    let layer = GatewayLayer::new()
        .auth(KeyAuthLayer::new(keys, pepper()))
        .budget(BudgetLayer::new(budgets.clone()))
        .catalog(catalog().with(dear))
        .settlements(settlements.clone())
        .on_close(move |outcome| observer.lock().push(Outcome::clone(outcome)));
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider)
        .alias("claude-any", ["claude-dear", "claude-storm"])
        .layer(layer)
        .build()
        .expect("a gateway");
    let mut one = ask(&key, "sim:deltas=3");
    one.model = "claude-any".into();
    let answer = gateway.oneshot(one.request()).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("whole");
    settlements.drain().await;
    let outcome = seen.lock()[0].clone();
    assert_eq!(outcome.attempts.len(), 2);
    assert!(outcome.granted.expect("granted").nanos() > 50 * 150_000, "all the output at the dearest price");
    assert_eq!(outcome.charged, outcome.attempts[1].cost);
    let standing = now(budgets.standing(&record.principal.budgets, At::Store)).expect("memory");
    assert_eq!((Some(standing[0].spent), standing[0].held), (outcome.charged, Money::ZERO));
}

#[tokio::test]
async fn in_front_of_the_hosts_own_service_paths_of_its_own_are_closed_unless_it_says_otherwise() {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "9".parse().expect("an amount")));
    let stages = || {
        GatewayLayer::new()
            .auth(KeyAuthLayer::new(keys.clone(), pepper()))
            .budget(BudgetLayer::new(MemoryBudgets::new()))
            .catalog(catalog())
    };
    let mine = service_fn(|request: Request<Body>| async move {
        let has_key = request.headers().contains_key("x-api-key");
        assert!(!has_key, "the key went on");
        Ok::<_, Infallible>(Response::new(Body::from(r#"{"usage":{"input_tokens":9,"output_tokens":1}}"#)))
    });
    let (closed, keyed) = (stages().layer(mine), stages().pass_other_paths().layer(mine));
    for (path, is_ours) in [("/v1/messages", true), ("/v1/embeddings", false), ("/admin", false), ("/", false)] {
        for (service, with_key, status) in [
            (&closed, false, if is_ours { 401 } else { 404 }),
            (&closed, true, if is_ours { 200 } else { 404 }),
            (&keyed, false, 401),
            (&keyed, true, 200),
        ] {
            let mut request = Request::post(path);
            if with_key {
                request = request.header("x-api-key", &key);
            }
            let body = Body::from(r#"{"model":"claude-storm","max_tokens":9,"messages":[]}"#);
            let answer = service.clone().oneshot(request.body(body).expect("a request")).await.expect("infallible");
            assert_eq!(answer.status(), status, "{path} {with_key}");
        }
    }
}

/// A sink that cannot be reached until the flag is set.
struct Down(Arc<AtomicBool>, crate::site::Records);

#[async_trait]
impl AuditSink for Down {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("no route to the sink"));
        }
        self.1.write(records).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_let_through_and_what_was_let_through_is_recorded_in_the_end() {
    let (down, records) = (Arc::new(AtomicBool::new(true)), crate::site::Records::default());
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada"));
    let provider = Simulated::new();
    let (anthropic, _) = providers(&provider);
    let audit = AuditLayer::with_capacity(Down(down.clone(), records.clone()), 10);
    let layer = GatewayLayer::new().audit(&audit).auth(KeyAuthLayer::new(keys, pepper()));
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, anthropic)
        .layer(layer)
        .build()
        .expect("a gateway");
    let (mut served, mut refused) = (0, 0);
    for _ in 0..50 {
        let answer = gateway.clone().oneshot(ask(&key, "sim:deltas=1").request()).await.expect("infallible");
        match answer.status().as_u16() {
            200 => served += 1,
            529 => refused += 1,
            other => panic!("{other}"),
        }
        answer.into_body().collect().await.expect("whole");
        tokio::task::yield_now().await;
    }
    assert!((10..=21).contains(&served) && refused >= 29, "{served} {refused}");
    assert_eq!(provider.bill().lines().len(), served);
    down.store(false, Ordering::SeqCst);
    audit.flush().await;
    assert_eq!(records.lock().len(), served);
    let answer = gateway.oneshot(ask(&key, "sim:deltas=1").request()).await.expect("infallible");
    assert_eq!(answer.status(), 200, "and it goes on");
}
