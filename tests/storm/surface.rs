//! Every path and method of a governed gateway: which are open, which require a key, and what a key shows.

use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::route::ModelTable;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::{Body, BudgetLayer, Dialect, RateLimitLayer};
use tower::ServiceExt;

use crate::site::{Site, mint};

async fn ask(site: &Site, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
    let mut request = Request::builder().method(method.parse::<Method>().expect("a method")).uri(path);
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

const BODY: &str = r#"{"model":"claude-storm","max_tokens":9,"messages":[]}"#;

fn narrow() -> (Site, String) {
    let keys = MemoryKeys::new();
    let principal = Principal::new("narrow").models(["claude-storm", "fast"]).alias("mine", "claude-storm");
    let (_, key) = mint(&keys, principal);
    let table = ModelTable::new()
        .pattern("claude*", "anthropic", Dialect::Anthropic)
        .pattern("*", "openai", Dialect::OpenAiChat)
        .alias("fast", ["claude-storm"]);
    let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()));
    (Site::with(keys, limits, budgets, |layer| layer.router(table)), key)
}

#[tokio::test]
async fn nothing_that_tells_of_models_or_keys_is_open_to_strangers() {
    let (site, _) = narrow();
    for path in [
        "/v1/models",
        "/v1/models/",
        "/models",
        "/openai/v1/models",
        "/anthropic/v1/models",
        "/v1/models/claude-storm",
        "/models/claude-storm",
        "/openai/v1/models/gpt-storm",
        "/anthropic/models/gpt-storm",
        "/v1/models/nothing",
        "/v1/models//",
        "/v1/models/claude%2dstorm",
        "/v1/key",
        "/v1/key/",
        "/key",
        "/anthropic/v1/key",
    ] {
        for method in ["GET", "HEAD"] {
            let (status, body) = ask(&site, method, path, None, "").await;
            assert_eq!(status, 401, "{method} {path}: {body}");
        }
    }
}

#[tokio::test]
async fn no_path_and_no_method_leads_to_a_provider_without_a_key() {
    let (site, _) = narrow();
    for prefix in ["", "/v1", "/anthropic", "/anthropic/v1", "/openai", "/openai/v1", "/v1/v1", "//v1", "/V1"] {
        for path in [
            "/messages",
            "/messages/",
            "/messages//",
            "/messages/count_tokens",
            "/chat/completions",
            "/responses",
            "/messages/batches",
            "/embeddings",
            "/completions",
            "/Messages",
            "/messages;x=y",
            "/messages%2f",
            "/",
        ] {
            for method in ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "BREW"] {
                let (status, body) = ask(&site, method, &format!("{prefix}{path}"), None, BODY).await;
                let is_probe = path == "/" && matches!(method, "GET" | "HEAD");
                assert!(matches!(status, 401 | 404 | 405) || is_probe, "{method} {prefix}{path}: {status} {body}");
            }
        }
    }
    site.settled().await;
    assert!(site.provider.received().is_empty(), "{:?}", site.provider.received());
    let closed = site.closed.lock();
    assert!(closed.len() > 100, "{} calls were looked at", closed.len());
    assert!(closed.iter().all(|outcome| outcome.attempts.is_empty()));
}

#[tokio::test]
async fn a_wrong_method_is_405_for_those_with_a_key_and_reaches_no_provider() {
    let (site, key) = narrow();
    for (method, path) in [
        ("GET", "/v1/messages"),
        ("HEAD", "/v1/messages"),
        ("PUT", "/v1/messages"),
        ("DELETE", "/v1/chat/completions"),
        ("GET", "/v1/messages/count_tokens"),
        ("POST", "/v1/key"),
        ("DELETE", "/v1/key"),
        ("POST", "/v1/models"),
    ] {
        let (status, _) = ask(&site, method, path, Some(&key), BODY).await;
        assert_eq!(status, 405, "{method} {path}");
    }
    for path in ["/v1/unknown", "/v1/messages/batches", "/v1/responses/x", "/v1/embeddings"] {
        assert_eq!(ask(&site, "POST", path, Some(&key), BODY).await.0, 404, "{path}");
    }
    assert!(site.provider.received().is_empty());
}

#[tokio::test]
async fn a_key_sees_its_own_models_and_no_others() {
    let (site, key) = narrow();
    let (status, list) = ask(&site, "GET", "/v1/models", Some(&key), "").await;
    assert_eq!(status, 200);
    assert!(list.contains("claude-storm") && !list.contains("gpt-storm"), "{list}");
    assert_eq!(ask(&site, "GET", "/v1/models/claude-storm", Some(&key), "").await.0, 200);
    let (status, body) = ask(&site, "GET", "/v1/models/gpt-storm", Some(&key), "").await;
    assert_eq!((status, body.contains("not in this gateway's list of models")), (404, true), "{body}");
}

#[tokio::test]
async fn an_alias_leads_no_further_than_its_key_may_go() {
    let (site, key) = narrow();
    let body = |model: &str| BODY.replace("claude-storm", model);
    for (model, status) in
        [("mine", 200), ("fast", 200), ("claude-storm", 200), ("gpt-storm", 400), ("claude-other", 400)]
    {
        assert_eq!(ask(&site, "POST", "/v1/messages", Some(&key), &body(model)).await.0, status, "{model}");
    }
    for received in site.provider.received() {
        let sent: Value = serde_json::from_slice(&received.body).expect("JSON");
        assert_eq!(sent["model"], "claude-storm");
    }
}

#[tokio::test]
async fn a_key_is_told_how_it_stands_and_nothing_of_others() {
    let keys = MemoryKeys::new();
    let team = Budget::new(Scope::team("search"), Window::Month, "50".parse().expect("an amount"));
    let principal = |name: &str| {
        Principal::new(name)
            .team("search")
            .budget(Window::Day, "5".parse().expect("an amount"))
            .budget_of(team.clone())
            .limit(Measure::Requests, 60)
    };
    let (record, ada) = mint(&keys, principal("ada"));
    let (_, bob) = mint(&keys, principal("bob"));
    let site = Site::plain(&keys);
    for key in [&ada, &bob] {
        assert_eq!(ask(&site, "POST", "/v1/messages", Some(key), BODY).await.0, 200);
    }
    site.settled().await;
    let (status, text) = ask(&site, "GET", "/v1/key", Some(&ada), "").await;
    assert_eq!(status, 200);
    assert!(!text.contains("bob"), "{text}");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["id"], &json["name"]), (&Value::from(record.id.to_string()), &Value::from("ada")));
    let charged: Vec<_> = site.closed.lock().iter().filter_map(|outcome| outcome.charged).collect();
    assert_eq!(json["budgets"][0]["spent_usd"], charged[0].to_string());
    assert_eq!(json["budgets"][1]["spent_usd"], charged[0].saturating_add(charged[1]).to_string());
    assert_eq!(json["budgets"][1]["held_usd"], "0.00");
    assert_eq!(json["limits"][0]["remaining"], 59);
}

#[tokio::test]
async fn a_count_of_tokens_needs_a_key_and_costs_nothing() {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("poor").budget(Window::Day, "0.00000001".parse().expect("an amount")));
    let site = Site::plain(&keys);
    assert_eq!(ask(&site, "POST", "/v1/messages/count_tokens", None, BODY).await.0, 401);
    let (status, body) = ask(&site, "POST", "/v1/messages/count_tokens", Some(&key), BODY).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(ask(&site, "POST", "/v1/messages", Some(&key), BODY).await.0, 429, "a generation is another matter");
    site.settled().await;
    let closed = site.closed.lock();
    assert_eq!(closed.len(), 3, "two counts, and a generation that was refused");
    assert!(closed.iter().all(|outcome| outcome.charged.is_none() && outcome.granted.is_none()));
    assert!(site.provider.bill().lines().is_empty());
}
