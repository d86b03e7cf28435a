//! The metrics of calls and of the journal, as Prometheus shows them.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tollgate::domain::principal::Principal;
use tollgate::store::journal::Journal;
use tollgate::store::memory::MemoryBudgets;
use tollgate::telemetry::{Conventions, Metrics};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::site::{Dir, Sink, Site, until};

/// Returns every value whose name and labels begin with `start`, with its name and labels.
fn values(prometheus: &PrometheusHandle, start: &str) -> Vec<(String, f64)> {
    let lines = prometheus.render();
    let lines = lines.lines().filter(|line| line.starts_with(start));
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(value).collect()
}

fn gateway(metrics: &Metrics) -> Gateway {
    let metrics = metrics.clone();
    let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let layer = GatewayLayer::new().on_open(move |call| metrics.begin(call));
    Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, upstream.expect("a URL"))
        .layer(layer)
        .build()
        .expect("a gateway")
}

async fn ask(gateway: &Gateway, prompt: &str, team: Option<&str>) -> StatusCode {
    let body =
        json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": prompt }] });
    send(gateway, "/v1/messages", &body, team).await
}

async fn send(gateway: &Gateway, path: &str, body: &Value, team: Option<&str>) -> StatusCode {
    let mut request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
    let principal = Principal::new("ada");
    request.extensions_mut().insert(Arc::new(match team {
        Some(team) => principal.team(team),
        None => principal,
    }));
    let answer = gateway.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    answer.into_body().collect().await.expect("whole");
    status
}

#[tokio::test]
async fn the_latest_names_count_usage_and_say_how_it_is_spread_and_the_earlier_are_not_there() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let gateway = gateway(&Metrics::new().conventions(Conventions::Latest));
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "hello", None).await, 200);
    }
    assert_eq!(ask(&gateway, "sim:status=400", None).await, 400);

    let labels =
        "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"anthropic\",gen_ai_request_model=\"claude-haiku-5-5\"";
    let one = |start: &str| {
        let found = values(&prometheus, start);
        assert_eq!(found.len(), 1, "{start}: {found:?}");
        found[0].clone()
    };
    let usage = "gen_ai_client_inference_usage_";
    for (name, tokens) in [
        ("output_tokens", 18.0),
        ("cache_read_input_tokens", 0.0),
        ("cache_write_input_tokens", 0.0),
        ("reasoning_output_tokens", 0.0),
    ] {
        let counted = format!("{usage}{name}{{{labels},gen_ai_token_modality=\"unknown\"}}");
        assert_eq!(one(&format!("{usage}{name}")), (counted, tokens));
    }
    // The histogram's count is the number of calls, and its sum is the counter's value.
    let each = "gen_ai_client_inference_operation_";
    for name in ["input_tokens", "output_tokens"] {
        assert_eq!(one(&format!("{each}{name}_count")), (format!("{each}{name}_count{{{labels}}}"), 2.0));
        assert_eq!(one(&format!("{each}{name}_sum")).1, one(&format!("{usage}{name}")).1);
    }
    let took = "gen_ai_client_inference_duration_count";
    let took = values(&prometheus, took).into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let of = |labels: &str| took.get(&format!("gen_ai_client_inference_duration_count{{{labels}}}")).copied();
    assert_eq!(of(labels), Some(2.0), "{took:?}");
    assert_eq!(of(&format!("{labels},error_type=\"400\"")), Some(1.0), "{took:?}");
    let all = prometheus.render();
    for earlier in
        ["gen_ai_system", "gen_ai_client_token_usage", "gen_ai_client_operation_duration", "gen_ai_token_type"]
    {
        assert!(!all.contains(earlier), "{earlier} in {all}");
    }
}

#[tokio::test]
async fn the_first_chunk_is_timed_of_streams_alone_and_to_count_tokens_is_no_inference() {
    for (conventions, took, has_first) in [
        (Conventions::V1_36, "gen_ai_client_operation_duration_count", false),
        (Conventions::Latest, "gen_ai_client_inference_duration_count", true),
    ] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        let _here = metrics::set_default_local_recorder(&recorder);
        let gateway = gateway(&Metrics::new().conventions(conventions));
        let hello = |prompt: &str| {
            json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "stream": true,
                "messages": [{ "role": "user", "content": prompt }] })
        };
        assert_eq!(send(&gateway, "/v1/messages", &hello("hi"), None).await, 200);
        assert_eq!(send(&gateway, "/v1/messages", &hello("sim:status=500"), None).await, 500);
        assert_eq!(ask(&gateway, "hi", None).await, 200);
        let before = values(&prometheus, "tollgate_attempts_total");
        let counted = json!({ "model": "claude-haiku-5-5", "messages": [] });
        assert_eq!(send(&gateway, "/v1/messages/count_tokens", &counted, None).await, 200);
        assert_ne!(values(&prometheus, "tollgate_attempts_total"), before, "an attempt it is");

        let took: Vec<_> = values(&prometheus, took);
        assert_eq!(took.iter().map(|(_, count)| count).sum::<f64>(), 3.0, "{took:?}");
        let chat = "gen_ai_operation_name=\"chat\"";
        assert!(took.iter().all(|(name, _)| name.contains(chat)), "{took:?}");
        assert_eq!(took.iter().filter(|(name, _)| name.contains("error_type=\"500\"")).count(), 1, "{took:?}");
        let first = values(&prometheus, "gen_ai_client_inference_time_to_first_chunk_count");
        let labels = "gen_ai_provider_name=\"anthropic\",gen_ai_request_model=\"claude-haiku-5-5\"";
        let name = format!("gen_ai_client_inference_time_to_first_chunk_count{{{chat},{labels}}}");
        assert_eq!(first, if has_first { vec![(name, 1.0)] } else { vec![] });
    }
}

#[tokio::test]
async fn teams_beyond_those_that_there_is_room_for_are_other_and_stay_so() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let gateway = gateway(&Metrics::new().by_team(2));
    for team in [Some("search"), Some("ads"), Some("third"), None, Some("fourth"), Some("search"), Some("third")] {
        assert_eq!(ask(&gateway, "hello", team).await, 200);
    }
    let output = values(&prometheus, "tollgate_tokens_total{");
    let output: Vec<_> = output.iter().filter(|(name, _)| name.contains("type=\"output\"")).collect();
    let of = |team: &str| {
        let named = format!("team=\"{team}\"");
        output.iter().find(|(name, _)| name.contains(&named)).map(|(_, tokens)| *tokens)
    };
    assert_eq!([of("search"), of("ads"), of("other"), of("none")], [Some(18.0), Some(9.0), Some(27.0), Some(9.0)]);
    assert_eq!(output.len(), 4, "{output:?}");
}

#[tokio::test]
async fn how_far_a_sink_is_behind_is_a_gauge_that_falls_when_it_catches_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (dir, metrics, sink) = (Dir::new("behind"), Metrics::new(), Sink::default());
    sink.stall(true);
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.ship("kept", sink.clone()));
    let site = Site::new(journal.expect("a journal"), MemoryBudgets::new());
    for _ in 0..5 {
        assert_eq!(site.whole("hello").await, StatusCode::OK);
    }
    let behind = || {
        metrics.audit(&site.audit);
        let found = values(&prometheus, "tollgate_audit_behind");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "tollgate_audit_behind{sink=\"kept\"}");
        found[0].1
    };
    // Two lines per call, an intent and a final. A sink that looks early may have passed the first line.
    until("all are written", || behind() >= 9.0).await;
    sink.stall(false);
    site.settlements.drain().await;
    until("it has caught up", || behind() == 0.0).await;
    assert_eq!(sink.len(), 5);
}
