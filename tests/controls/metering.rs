//! What dashboards and alerts are made of, as a recorder has it.

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tollgate::domain::budget::Window;
use tollgate::domain::principal::Principal;
use tollgate::telemetry::Metrics;

use crate::world::{MESSAGES, World, post};

/// The figure of this name and these labels, if there is one.
fn figure(text: &str, start: &str) -> Option<u64> {
    let found = text.lines().find_map(|line| line.strip_prefix(start))?;
    Some(found.trim().parse().expect("a whole number"))
}

#[tokio::test]
async fn what_calls_cost_is_counted_whether_or_not_a_budget_pays_for_them() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let metrics = Metrics::new().by_team(5);
    let world = World::with(|layer| layer.on_open(move |call| metrics.begin(call)));
    let free = world.mint(Principal::new("ada").team("search")).await;
    let limit = "5".parse().expect("an amount");
    let paid = world.mint(Principal::new("bob").team("mail").budget(Window::Day, limit)).await;
    let body = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
    for key in [&free, &free, &paid] {
        assert_eq!(world.ask(post(MESSAGES, key, &body)).await.status, 200);
    }

    let records = world.records().await;
    let costs: Vec<u64> =
        records.iter().map(|record| record.cost.expect("a price").nanos().try_into().expect("no refund")).collect();
    assert!(costs.len() == 3 && costs.iter().all(|cost| *cost > 0), "{costs:?}");
    let text = recorder.handle().render();
    let of_team = |name: &str, labels: &str, team: &str| {
        figure(&text, &format!(r#"{name}{{{labels},team="{team}"}}"#))
    };
    let spent = r#"upstream="anthropic",model="claude-haiku-5-5""#;
    assert_eq!(of_team("tollgate_cost_nanodollars_total", spent, "search"), Some(costs[0] + costs[1]), "{text}");
    assert_eq!(of_team("tollgate_cost_nanodollars_total", spent, "mail"), Some(costs[2]), "{text}");
    let charged = r#"model="claude-haiku-5-5",quality="exact""#;
    assert_eq!(of_team("tollgate_charged_nanodollars_total", charged, "search"), None);
    assert_eq!(of_team("tollgate_charged_nanodollars_total", charged, "mail"), Some(costs[2]), "{text}");
}
