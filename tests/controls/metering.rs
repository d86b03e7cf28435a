//! The metrics for dashboards and alerts, as a recorder gets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::content::{Content, Keep};
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::content::ContentSink;
use tollgate::store::{At, Session, StoreError};
use tollgate::telemetry::Metrics;
use tollgate::{AuditLayer, BudgetLayer, ContentLayer};
use tower::ServiceExt;

use crate::world::{CHAT, MESSAGES, Trail, World, post};

fn hello() -> Value {
    json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] })
}

/// Returns the value of the metric with this name and these labels, if any.
fn figure(text: &str, start: &str) -> Option<u64> {
    let found = text.lines().find_map(|line| line.strip_prefix(start))?;
    Some(found.trim().parse().expect("a whole number"))
}

#[tokio::test]
async fn what_translations_lost_is_counted_by_its_kind() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let metrics = Metrics::new();
    let lost = |kind: &str| {
        let text = recorder.handle().render();
        figure(&text, &format!(r#"tollgate_translation_losses_total{{kind="{kind}"}}"#))
    };
    let kinds = ["dropped", "clamped", "emulated", "adapted"];
    assert_eq!(kinds.map(lost), [Some(0); 4], "there before the first");
    let world = World::with(|layer| layer.on_open(move |call| metrics.begin(call)));
    let key = world.mint(Principal::new("ada")).await;
    let hello = |more: Value| {
        let mut body = json!({ "model": "claude-haiku-5-5", "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for more in [json!({ "seed": 7, "logit_bias": { "1": 5 } }), json!({ "seed": 7 }), json!({})] {
        assert_eq!(world.ask(post(CHAT, &key, &hello(more))).await.status, 200);
    }
    let told: Vec<_> = world.records().await.into_iter().map(|record| record.warnings).collect();
    let told: Vec<_> = told.iter().map(|told| told.as_deref()).collect();
    assert_eq!(told, [Some("dropped=logit_bias,seed"), Some("dropped=seed"), None]);
    assert_eq!(kinds.map(lost), [Some(3), Some(0), Some(0), Some(0)]);
}

#[tokio::test]
async fn a_call_of_an_alias_is_counted_under_the_model_that_it_stands_for() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let metrics = Metrics::new();
    let world = World::with(|layer| layer.on_open(move |call| metrics.begin(call)));
    let key = world.mint(Principal::new("ada")).await;
    let mine = world.mint(Principal::new("bob").limit(Measure::Requests, 0)).await;
    for (key, model, status) in
        [(&key, "fast", 200), (&mine, "fast", 429), (&key, "claude-mine", 200), (&key, "gpt-5", 200)]
    {
        let body = json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "hi" }] });
        assert_eq!(world.ask(post(MESSAGES, key, &body)).await.status, status);
    }
    world.settlements.drain().await;
    let text = recorder.handle().render();
    let counted = text.lines().filter(|line| line.starts_with("tollgate_calls_total{"));
    let mut models: Vec<_> = counted.filter_map(|line| line.split_once("model=\"")?.1.split('"').next()).collect();
    models.sort_unstable();
    assert_eq!(models, ["claude-haiku-5-5", "claude-haiku-5-5", "gpt-5", "other"]);
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
    for key in [&free, &free, &paid] {
        assert_eq!(world.ask(post(MESSAGES, key, &hello())).await.status, 200);
    }

    let records = world.records().await;
    let costs: Vec<u64> =
        records.iter().map(|record| record.cost.expect("a price").nanos().try_into().expect("no refund")).collect();
    assert!(costs.len() == 3 && costs.iter().all(|cost| *cost > 0), "{costs:?}");
    let text = recorder.handle().render();
    let of_team = |name: &str, labels: &str, team: &str| figure(&text, &format!(r#"{name}{{{labels},team="{team}"}}"#));
    let spent = r#"upstream="anthropic",model="claude-haiku-5-5""#;
    assert_eq!(of_team("tollgate_cost_nanodollars_total", spent, "search"), Some(costs[0] + costs[1]), "{text}");
    assert_eq!(of_team("tollgate_cost_nanodollars_total", spent, "mail"), Some(costs[2]), "{text}");
    let charged = r#"model="claude-haiku-5-5",quality="exact""#;
    assert_eq!(of_team("tollgate_charged_nanodollars_total", charged, "search"), None);
    assert_eq!(of_team("tollgate_charged_nanodollars_total", charged, "mail"), Some(costs[2]), "{text}");
}

/// A store that fails every request for a hold, and accepts settlements only once the flag is set.
struct Away(Arc<AtomicBool>);

impl Away {
    fn ask<T>(&self, nothing: T) -> Result<T, StoreError> {
        if self.0.load(Ordering::SeqCst) { Ok(nothing) } else { Err(StoreError::unavailable("away")) }
    }
}

#[async_trait]
impl BudgetStore for Away {
    async fn reserve(&self, _: &Reserve<'_>, _: At) -> Result<Verdict, StoreError> {
        Err(StoreError::unavailable("away"))
    }

    async fn settle(&self, _: &Reservation, _: Money, _: At) -> Result<Vec<Crossing>, StoreError> {
        self.ask(Vec::new())
    }

    async fn heartbeat(&self, _: Session, _: At) -> Result<(), StoreError> {
        self.ask(())
    }

    async fn standing(&self, _: &[Budget], _: At) -> Result<Vec<Standing>, StoreError> {
        self.ask(Vec::new())
    }
}

#[async_trait]
impl ContentSink for Away {
    async fn write(&self, _: &[Content]) -> Result<(), StoreError> {
        self.ask(())
    }

    async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
        self.ask(0)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_store_or_was_not_kept_is_there_for_an_alert() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (metrics, is_there) = (Metrics::new(), Arc::new(AtomicBool::new(false)));
    let audit = AuditLayer::with_capacity(Trail::default(), 1);
    // There is no room for any body of these calls.
    let content = ContentLayer::new(Away(is_there.clone())).keep(Keep::Full).max_in_memory(8);
    let budgets = BudgetLayer::new(Away(is_there.clone()));
    let world = World::with(|layer| layer.audit(&audit).content(&content).budget(budgets));
    let scrape = |name: &str| {
        metrics.settlements(&world.settlements);
        metrics.audit(&audit);
        metrics.content(&content);
        figure(&recorder.handle().render(), &format!("{name} "))
    };
    assert_eq!((scrape("tollgate_audit_places_left"), scrape("tollgate_audit_refusing")), (Some(1), Some(0)));
    assert_eq!((scrape("tollgate_settlements_waiting"), scrape("tollgate_content_dropped_total")), (Some(0), Some(0)));

    let pot = Budget::new(Scope::team("search"), Window::Day, "1".parse().expect("an amount"));
    let soft = world.mint(Principal::new("ada").budget_of(pot.soft())).await;
    let open = world.gateway.clone().oneshot(post(MESSAGES, &soft, &hello())).await.expect("infallible");
    assert_eq!(open.status(), 200);
    assert_eq!((scrape("tollgate_audit_places_left"), scrape("tollgate_audit_refusing")), (Some(0), Some(1)));
    drop(open);
    audit.flush().await;
    assert_eq!((scrape("tollgate_audit_places_left"), scrape("tollgate_audit_refusing")), (Some(1), Some(0)));
    assert!(scrape("tollgate_content_dropped_total") > Some(0));
    assert_eq!((scrape("tollgate_settlements_waiting"), world.settlements.waiting()), (Some(1), 1));
    is_there.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(scrape("tollgate_settlements_waiting"), Some(0));
}
