//! What a call is charged for each way that its answer may end, compared with the provider's bill.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::domain::budget::Window;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::{Body, Dialect, Gateway};
use tower::{Service, ServiceExt, service_fn};

use crate::calls::{Ask, Leaves};
use crate::oracle::price;
use crate::site::{Site, mint};
use crate::watched::Watched;
use crate::weather::Weather;

fn house(limit: &str, over: OverBudget) -> (Site, Watched, String) {
    let keys = MemoryKeys::new();
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, limit.parse().expect("an amount")));
    let budgets = Watched::new(MemoryBudgets::new(), record.principal.budgets.clone(), Weather::calm());
    let layer = BudgetLayer::new(budgets.clone()).over_budget(over);
    (Site::new(keys, MemoryLimits::new(), layer), budgets, key)
}

fn ask(key: &str, family: &str, is_stream: bool, script: &str) -> Ask {
    Ask {
        model: format!("{family}-storm"),
        key: key.to_owned(),
        is_stream,
        max_tokens: 50,
        script: script.to_owned(),
        begins: 0,
        leaves: Leaves::Never,
    }
}

/// Makes one call and reads its answer for at most a second. Returns the status, the outcome and the bill.
async fn one(family: &str, is_stream: bool, script: &str) -> (u16, Outcome, Money) {
    let (site, budgets, key) = house("100", OverBudget::default());
    let request = ask(&key, family, is_stream, script).request();
    let mut status = 0;
    let whole = async {
        let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
        status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), whole).await;
    let outcome = site.only().await;
    budgets.ledger().assert_right();
    let standing = &budgets.standings()[0];
    assert_eq!((Some(standing.spent), standing.held), (outcome.charged, Money::ZERO), "{script}");
    let bill = site.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    assert!(outcome.charged >= Some(bill), "{family} {script}: {:?} of {bill}", outcome.charged);
    (status, outcome, bill)
}

const EVERY: [(&str, bool); 4] = [("claude", true), ("claude", false), ("gpt", true), ("gpt", false)];

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_charged_what_is_on_the_bill() {
    for (family, is_stream) in EVERY {
        for script in ["sim:deltas=7", "sim:deltas=7,gzip", "sim:deltas=7,crlf", "sim:deltas=7,json", "sim:deltas=500"]
        {
            let (status, outcome, bill) = one(family, is_stream, script).await;
            assert_eq!((status, outcome.end, outcome.charged), (200, End::Complete, Some(bill)), "{family} {script}");
            assert!(bill > Money::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_providers_is_charged_nothing() {
    for (family, is_stream) in EVERY {
        for code in ["400", "401", "403", "404", "413", "429", "500", "502", "503", "504", "529"] {
            let (_, outcome, bill) = one(family, is_stream, &format!("sim:status={code}")).await;
            assert_eq!((outcome.end, outcome.charged), (End::Failed, Some(Money::ZERO)), "{family} {code}");
            assert_eq!(bill, Money::ZERO);
        }
        // 524 comes from a proxy in front of the provider that waited no longer. The provider may work on, and bill.
        let (status, outcome, _) = one(family, is_stream, "sim:status=524").await;
        assert_eq!((status, outcome.end), (524, End::Failed));
        assert!(outcome.charged > Some(Money::ZERO) && outcome.charged <= outcome.granted, "{family}: {outcome:?}");
        for (script, seen) in [("sim:html", 502), ("sim:html,status=500", 500), ("sim:status=302", 502)] {
            let (status, outcome, _) = one(family, is_stream, script).await;
            assert_eq!((status, outcome.charged), (seen, Some(Money::ZERO)), "{family} {script}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_whole_is_charged_all_that_was_granted() {
    for (family, is_stream) in EVERY {
        for fault in ["abort", "garbage", "stall", "end", "error"] {
            for after in [0, 1, 5] {
                // A JSON answer has no events.
                if !is_stream && fault == "error" {
                    continue;
                }
                let (_, outcome, _) = one(family, is_stream, &format!("sim:deltas=9,{fault}={after}")).await;
                assert_ne!(outcome.end, End::Complete, "{family} {fault}={after}");
                assert_eq!(outcome.charged, outcome.granted, "{family} {fault}={after}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_nothing_of_usage_is_charged_all_that_was_granted() {
    for (family, is_stream) in EVERY {
        let (status, outcome, _) = one(family, is_stream, "sim:deltas=9,nousage").await;
        assert_eq!((status, outcome.charged), (200, outcome.granted), "{family} {is_stream}");
    }
}

/// A site in which this service is both upstreams.
fn before<S>(upstream: S) -> (Site, Watched, String)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let keys = MemoryKeys::new();
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "9".parse().expect("an amount")));
    let budgets = Watched::new(MemoryBudgets::new(), record.principal.budgets.clone(), Weather::calm());
    let (limits, layer) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(budgets.clone()));
    let build = |layer, audit, records, closed, settlements, provider| {
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, upstream.clone())
            .upstream("openai", Dialect::OpenAiChat, upstream)
            .layer(layer)
            .build()
            .expect("a gateway");
        Site { gateway, settlements, audit, records, closed, provider }
    };
    (Site::toward(Simulated::new(), keys, limits, layer, build), budgets, key)
}

#[tokio::test(start_paused = true)]
async fn usage_that_leaves_something_out_is_charged_all_that_was_granted() {
    const SSE: &str = "text/event-stream";
    for (family, kind, answer) in [
        ("claude", "application/json", r#"{"type":"message","usage":{}}"#.to_owned()),
        ("claude", "application/json", r#"{"type":"message","usage":{"output_tokens":3}}"#.to_owned()),
        ("claude", "application/json", r#"{"type":"message","usage":{"input_tokens":30}}"#.to_owned()),
        ("claude", "application/json", r#"{"type":"message","usage":{"input_tokens":-3,"output_tokens":"9"}}"#.to_owned()),
        ("gpt", "application/json", r#"{"choices":[{}],"usage":{}}"#.to_owned()),
        ("gpt", "application/json", r#"{"choices":[{}],"usage":{"completion_tokens":3}}"#.to_owned()),
        ("gpt", "application/json", r#"{"choices":[{}],"usage":{"prompt_tokens":30}}"#.to_owned()),
        ("gpt", SSE, "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n".to_owned()),
        (
            "claude",
            SSE,
            concat!(
                "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
                "data: {\"type\":\"message_stop\"}\n\n",
            )
            .to_owned(),
        ),
    ] {
        let said = answer.clone();
        let upstream = service_fn(move |_: Request<Body>| {
            let answer = Response::builder().header("content-type", kind).body(Body::from(said.clone()));
            async move { Ok::<_, Infallible>(answer.expect("an answer")) }
        });
        let (site, budgets, key) = before(upstream);
        let request = ask(&key, family, kind == SSE, "").request();
        let got = site.gateway.clone().oneshot(request).await.expect("infallible");
        assert_eq!(got.status(), 200);
        got.into_body().collect().await.expect("whole");
        let outcome = site.only().await;
        assert_eq!(outcome.charged, outcome.granted, "{answer}");
        budgets.ledger().assert_right();
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_status_over_nothing_but_an_error_is_charged_nothing() {
    const JSON: &str = "application/json";
    const SSE: &str = "text/event-stream";
    let event = format!("data: {}\n\n", r#"{"error":{"message":"no","code":502}}"#);
    for (family, kind, answer, is_refused) in [
        ("gpt", JSON, r#"{"error":{"message":"no","code":502}}"#, true),
        ("gpt", JSON, r#" {"id":"gen-1","error":{"message":"no"},"choices":[ ],"usage":null}"#, true),
        ("gpt", JSON, r#"{"error":{"message":"no"},"choices":null}"#, true),
        // A model worked on these, or may have.
        ("gpt", JSON, r#"{"error":{"message":"no"},"choices":[{"message":{"content":"so"}}]}"#, false),
        ("gpt", JSON, r#"{"error":{"message":"no"},"usage":{"prompt_tokens":9,"completion_tokens":0}}"#, false),
        ("gpt", JSON, r#"{"error":{"message":"no"},"usage":{}}"#, false),
        ("gpt", JSON, r#"{"error":{"message":"no"}"#, false),
        ("gpt", JSON, r#"{"error":"no"}"#, false),
        ("gpt", JSON, "{}", false),
        // The stream has begun. And Anthropic's own errors never come with status 200.
        ("gpt", SSE, &*event, false),
        ("claude", JSON, r#"{"error":{"message":"no"}}"#, false),
    ] {
        let said = answer.to_owned();
        let upstream = service_fn(move |_: Request<Body>| {
            let answer = Response::builder().header("content-type", kind).body(Body::from(said.clone()));
            async move { Ok::<_, Infallible>(answer.expect("an answer")) }
        });
        let (site, budgets, key) = before(upstream);
        let request = ask(&key, family, kind == SSE, "").request();
        let got = site.gateway.clone().oneshot(request).await.expect("infallible");
        assert_eq!(got.status(), 200);
        assert_eq!(got.into_body().collect().await.expect("whole").to_bytes(), answer, "as it came");
        let outcome = site.only().await;
        let due = if is_refused { Some(Money::ZERO) } else { outcome.granted };
        assert_eq!(outcome.charged, due, "{answer}");
        assert_eq!(outcome.attempts[0].end == AttemptEnd::ErrorStatus, is_refused, "{answer}");
        assert!(!is_refused || outcome.end == End::Failed, "{outcome:?}");
        budgets.ledger().assert_right();
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_charged_for_all_and_one_that_was_never_reached_for_nothing() {
    let (_, outcome, _) = one("claude", true, "sim:first=60000").await;
    assert_eq!((outcome.end, outcome.charged), (End::Abandoned, outcome.granted));

    for (is_unsent, name) in [(true, "refused"), (false, "hung up")] {
        let upstream = service_fn(move |_: Request<Body>| async move {
            use tollgate::domain::rejection::{Rejection, RejectionKind};
            let rejection = Rejection::new(RejectionKind::UpstreamUnreachable, "gone");
            let rejection = if is_unsent { rejection.nothing_sent() } else { rejection };
            let mut answer = Response::new(Body::empty());
            answer.extensions_mut().insert(rejection);
            Ok::<_, Infallible>(answer)
        });
        let (site, budgets, key) = before(upstream);
        let answer = site.gateway.clone().oneshot(ask(&key, "claude", false, "").request()).await.expect("infallible");
        assert_eq!(answer.status(), 502);
        drop(answer);
        let outcome = site.only().await;
        let due = if is_unsent { Some(Money::ZERO) } else { outcome.granted };
        assert_eq!(outcome.charged, due, "{name}");
        budgets.ledger().assert_right();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_clamped_is_told_to_the_client_and_to_the_provider_and_is_all_that_is_spent() {
    for (family, is_stream) in EVERY {
        let (site, budgets, key) = house("0.004", OverBudget::Clamp { floor: 8, share: 2 });
        let mut one = ask(&key, family, is_stream, "sim:deltas=5000");
        one.max_tokens = 4_000;
        let answer = site.gateway.clone().oneshot(one.request()).await.expect("infallible");
        let told: u64 = answer.headers()["x-tollgate-clamped"].to_str().expect("digits").parse().expect("digits");
        let left: Money =
            answer.headers()["x-tollgate-budget-remaining-usd"].to_str().expect("digits").parse().expect("an amount");
        answer.into_body().collect().await.expect("whole");
        let outcome = site.only().await;
        assert_eq!(outcome.clamped, Some(told));
        assert_eq!(left.saturating_add(outcome.granted.expect("granted")), "0.004".parse().expect("an amount"));
        let sent: serde_json::Value = serde_json::from_slice(&site.provider.received()[0].body).expect("JSON");
        assert_eq!(sent["max_tokens"], told);
        assert!((8..4_000).contains(&told));
        let line = &site.provider.bill().lines()[0];
        assert_eq!((line.output, outcome.charged), (told, Some(price(line))));
        assert!(outcome.charged <= outcome.granted);
        budgets.ledger().assert_right();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fits_is_sent_as_it_is_and_told_nothing_of_clamping() {
    let (site, _, key) = house("100", OverBudget::default());
    let one = ask(&key, "claude", false, "sim:deltas=1");
    let answer = site.gateway.clone().oneshot(one.request()).await.expect("infallible");
    assert!(!answer.headers().contains_key("x-tollgate-clamped"));
    assert!(answer.headers().contains_key("x-tollgate-budget-remaining-usd"));
    assert_eq!(site.provider.received()[0].body, one.json().as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_spent_lets_nothing_more_through() {
    let (site, budgets, key) = house("0.002", OverBudget::Clamp { floor: 1, share: 1 });
    let mut refused = 0;
    for _ in 0..50 {
        let answer = site
            .gateway
            .clone()
            .oneshot(ask(&key, "claude", false, "sim:deltas=40").request())
            .await
            .expect("infallible");
        refused += usize::from(answer.status() == 429);
        answer.into_body().collect().await.expect("whole");
    }
    site.settled().await;
    assert!(refused > 40, "{refused}");
    budgets.ledger().assert_right();
    let bill = site.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    assert_eq!(budgets.standings()[0].spent, bill);
    assert!(bill <= "0.002".parse().expect("an amount"));
}
