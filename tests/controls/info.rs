use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::json;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Reserve, Verdict};
use tollgate::store::memory::MemoryLimits;
use tollgate::store::{At, Session};
use tollgate::{Body, BudgetLayer, RateLimitLayer};
use uuid::Uuid;

use crate::world::{CHAT, MESSAGES, World, get, post};

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
    let spent: Money = budget["spent_usd"].as_str().expect("text").parse().expect("an amount");
    let left: Money = budget["remaining_usd"].as_str().expect("text").parse().expect("an amount");
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

#[tokio::test]
async fn what_everyone_has_spent_together_is_told_in_dollars_only_where_the_host_says_so() {
    let usd = |text: &str| text.parse::<Money>().expect("an amount");
    let shared = |scope, limit| Budget::new(scope, Window::Month, usd(limit));
    let everyones = || {
        [
            shared(Scope::global(), "0.1234"),
            shared(Scope::model("claude-*"), "0.1234"),
            shared(Scope::provider("anthropic"), "0.1234"),
            shared(Scope::model("gpt-*"), "0"),
        ]
    };
    for shows in [false, true] {
        let world = World::of_budgets(|layer| {
            let layer = everyones().into_iter().fold(layer, BudgetLayer::for_everyone);
            if shows { layer.show_shared() } else { layer }
        });
        // Others spend some of the pots.
        let (spent, pots) = (usd("0.1"), everyones());
        let wish = Wish { min: spent, want: spent, share: 1 };
        let asked = Reserve::new(Uuid::now_v7(), Session::new(Duration::from_secs(300)), &pots[..3], wish);
        let Ok(Verdict::Allow(grant)) = world.budgets.reserve(&asked, At::Store).await else {
            panic!("there is enough")
        };
        world.budgets.settle(&grant.reservation, spent, At::Store).await.expect("memory");

        let team = Budget::new(Scope::team("search"), Window::Month, usd("5"));
        let key = world.mint(Principal::new("ada").team("search").budget_of(team)).await;
        let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
        let answer = world.ask(post(MESSAGES, &key, &body)).await;
        assert_eq!(answer.status, 200);
        let left = answer.header("x-tollgate-budget-remaining-usd").expect("told");
        assert!(left.starts_with(if shows { "0.02" } else { "4.99" }), "{left}");
        // The share that is spent is always shown, since clients warn by it, and it is not an amount.
        assert_eq!(answer.header("anthropic-ratelimit-unified-overage-utilization"), Some("0.81"));
        world.settlements.drain().await;

        let answer = world.ask(get("/v1/key", &key)).await;
        assert_eq!(answer.text.contains("0.1234"), shows, "{}", answer.text);
        let info = answer.json();
        let budgets = info["budgets"].as_array().expect("a list");
        assert!(budgets[0]["spent_usd"].is_string() && budgets[0]["used_up"] == false, "its team's is its own");
        let names: Vec<_> = budgets[1..].iter().map(|one| (&one["scope"], &one["id"], &one["used_up"])).collect();
        let names = json!(names);
        assert_eq!(
            names,
            json!([
                ["global", "everyone", false],
                ["model", "claude-*", false],
                ["provider", "anthropic", false],
                ["model", "gpt-*", true]
            ])
        );
        for one in &budgets[1..] {
            assert_eq!(one["resets_at"], "2026-12-01T00:00:00Z");
            for amount in ["limit_usd", "spent_usd", "held_usd", "remaining_usd"] {
                assert_eq!(one[amount].is_string(), shows, "{amount}: {one}");
            }
        }

        let told = world.ask(get("/api/oauth/usage", &key)).await.json();
        assert_eq!(told["extra_usage"]["monthly_limit"], if shows { 12 } else { 500 }, "{told}");
        assert_eq!(told["limits"][0]["percent"], 81, "as the header; what pays only for other models is left out");

        // A refusal always says why.
        let refused = world.ask(post(CHAT, &key, &json!({ "model": "gpt-5", "max_tokens": 64, "messages": [] }))).await;
        assert!(refused.message().contains("budget of model gpt-*: $0.00, of which $0.00 is spent"), "{refused:?}");
    }
}

#[tokio::test]
async fn what_has_no_name_of_its_own_is_called_by_one() {
    let world = World::with(|layer| {
        let most = Limit::new(Scope::global(), Measure::Requests, 9);
        layer.rate_limit(RateLimitLayer::new(MemoryLimits::new()).for_everyone(most))
    });
    for (principal, models) in [
        (Principal::new("any"), json!(["*"])),
        (Principal::new("none").models(Vec::<Arc<str>>::new()), json!([])),
        (Principal::new("some").models(["gpt-5"]), json!(["gpt-5"])),
    ] {
        let key = world.mint(principal).await;
        let info = world.ask(get("/v1/key", &key)).await.json();
        assert_eq!(info["models"], models);
        assert_eq!((&info["limits"][0]["scope"], &info["limits"][0]["id"]), (&json!("global"), &json!("everyone")));
    }
}
