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
