use http::Request;
use serde_json::json;
use tollgate::Body;
use tollgate::domain::budget::Window;
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;

use crate::world::{MESSAGES, World, get, post};

#[tokio::test]
async fn a_caller_sees_how_its_own_key_stands() {
    let world = World::new();
    let principal = Principal::new("ada")
        .team("search")
        .models(["claude-*"])
        .limit(Measure::Requests, 10)
        .budget(Window::Day, "5".parse().expect("an amount"));
    let key = world.mint(principal).await;
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
    world.settlements.drain().await;
    let answer = world.ask(get("/v1/key", &key)).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let info = answer.json();
    assert_eq!(
        (&info["name"], &info["team"], &info["models"]),
        (&json!("ada"), &json!("search"), &json!(["claude-*"]))
    );
    let budget = &info["budgets"][0];
    assert_eq!(budget["scope"], "key");
    assert_eq!((&budget["window"], &budget["limit_usd"]), (&json!("day"), &json!("5.00")));
    assert_eq!((&budget["held_usd"], &budget["resets_at"]), (&json!("0.00"), &json!("2026-11-25T00:00:00Z")));
    let spent: tollgate::domain::money::Money = budget["spent_usd"].as_str().expect("text").parse().expect("an amount");
    let left: tollgate::domain::money::Money =
        budget["remaining_usd"].as_str().expect("text").parse().expect("an amount");
    assert_eq!(spent.saturating_add(left).to_string(), "5.00");
    assert!(spent.nanos() > 0);
    let limit = &info["limits"][0];
    assert_eq!((&limit["measure"], &limit["limit"], &limit["remaining"]), (&json!("requests"), &json!(10), &json!(9)));
    assert!(!answer.text.contains(key.expose()) && !answer.text.contains("digest"), "{}", answer.text);
}

#[tokio::test]
async fn nobody_sees_it_without_a_key() {
    let world = World::new();
    let answer = world.ask(Request::get("/v1/key").body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, 401);
    let key = world.mint(Principal::new("ada")).await;
    assert_eq!(world.ask(post("/v1/key", &key, &json!({}))).await.status, 405);
}

#[tokio::test]
async fn claude_code_is_told_how_its_budgets_stand() {
    let world = World::new();
    let principal = Principal::new("ada").budget(Window::Month, "500".parse().expect("an amount"));
    let key = world.mint(principal.budget(Window::Day, "0.0001".parse().expect("an amount"))).await;
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
    assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
    world.settlements.drain().await;
    let answer = world.ask(get("/api/oauth/usage", &key)).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")));
    let told = answer.json();
    assert_eq!(
        (&told["extra_usage"]["monthly_limit"], &told["extra_usage"]["utilization"]),
        (&json!(50_000), &json!(0))
    );
    let groups: Vec<_> = told["limits"].as_array().expect("a list").iter().map(|limit| &limit["group"]).collect();
    assert_eq!(groups, ["daily", "monthly"]);
    assert!(told["limits"][0]["percent"].as_u64().is_some_and(|percent| (1..=100).contains(&percent)), "{told}");
    assert_eq!(told["limits"][1]["resets_at"], "2026-12-01T00:00:00Z");

    let uncapped = world.mint(Principal::new("bob")).await;
    let answer = world.ask(get("/api/oauth/usage", &uncapped)).await.json();
    assert_eq!((&answer["limits"], &answer["extra_usage"]["monthly_limit"]), (&json!([]), &json!(null)));
    let nobody = world.ask(Request::get("/api/oauth/usage").body(Body::empty()).expect("a request")).await;
    assert_eq!((nobody.status.as_u16(), nobody.error().1), (401, "authentication_error".to_owned()));
}
