//! Very long names of callers, and very long values from their clients.

use std::sync::Arc;

use http::header::{HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::journal::{Journal, verify};
use tollgate::store::memory::MemoryBudgets;
use tollgate::{Body, Dialect};
use tower::ServiceExt;

use crate::site::{Dir, Site, kinds, lines};

const LONG: usize = 65_536;

/// A request in which every name of the caller and of the client is `name`.
fn request(name: &str, prompt: &str) -> Request<Body> {
    let body = json!({
        "model": "claude-haiku-5-5", "max_tokens": 200, "stream": true, "metadata": { "user_id": name },
        "messages": [{ "role": "user", "content": prompt }],
    });
    let limit = "100".parse().expect("money");
    let caller = Principal::new(name).user(name).team(name).org(name).tag(name).tag(name);
    // A pot is identified by its full name.
    let caller = caller.budget(Window::Day, limit).budget_of(Budget::new(Scope::team(name), Window::Total, limit));
    let mut request = Request::post("/v1/messages").body(Body::from(body.to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new((0..200).fold(caller, |caller, tag| caller.tag(format!("{tag}")))));
    let said = HeaderValue::from_bytes(&[0xff; LONG]).expect("a value");
    for name in [USER_AGENT.as_str(), "x-claude-code-session-id", "x-request-id"] {
        request.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).expect("a name"), said.clone());
    }
    request
}

fn records<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().map(|line| &line[kind]["record"]).filter(|record| !record.is_null()).collect()
}

#[tokio::test]
async fn whoever_has_names_and_tags_of_64_kb_is_served_and_recorded_in_short() {
    let dir = Dir::new("long");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let names = ["\u{1}", "\n", "\r\nx: y", "a", "\u{1f980}"];
    for name in names {
        let request = request(&name.repeat(LONG / name.len()), "hello");
        let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::OK, "{name:?}");
        let _ = answer.into_body().collect().await.expect("whole");
    }
    site.settlements.drain().await;
    site.audit.flush().await;
    let lines = lines(&dir.0);
    let (intents, finals) = (records(&lines, "intent"), records(&lines, "final"));
    assert_eq!((intents.len(), finals.len()), (names.len(), names.len()), "{:?}", kinds(&lines));
    for (record, name) in finals.iter().zip(names) {
        for member in ["key_name", "user", "team", "org"] {
            let kept = record[member].as_str().unwrap_or_default();
            assert!((250..=256).contains(&kept.len()) && kept.starts_with(name), "{member}: {kept:?}");
        }
        let tags = record["tags"].as_array().expect("tags");
        assert_eq!((tags.len(), &tags[2]), (64, &json!("0")));
        assert!(tags[0].as_str().is_some_and(|tag| tag.len() <= 256));
        for member in ["agent", "session", "client_user"] {
            assert!(record[member].as_str().is_none_or(|said| said.len() <= 128), "{member}");
        }
        assert_eq!(
            (&record["end"], record["attempts"][0]["dialect"].as_str()),
            (&json!("complete"), Some(Dialect::Anthropic.as_str()))
        );
    }
    assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
}

#[tokio::test]
async fn a_call_whose_budgets_have_names_too_long_for_a_line_is_closed_after_a_crash() {
    let dir = Dir::new("long-crash");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let stalls = request(&"\u{1}".repeat(LONG), "sim:deltas=2,stall=1");
    let answer = site.gateway.clone().oneshot(stalls).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::OK);
    let left = dir.as_if_killed("long-crash-after");
    let mut journal = Journal::at(&left.0).open().expect("a journal");
    assert_eq!(journal.settle_lost(&MemoryBudgets::new()).await.expect("memory").lost, 1);
    let again = Site::new(journal, MemoryBudgets::new());
    again.audit.flush().await;
    let lines = lines(&left.0);
    let (intents, finals) = (records(&lines, "intent"), records(&lines, "final"));
    assert_eq!((intents.len(), finals.len()), (1, 1));
    assert_eq!((&finals[0]["id"], &finals[0]["end"]), (&intents[0]["id"], &json!("lost")));
    // The holds did not fit into the intent, so no store was told of the lost call.
    assert!(lines.iter().all(|line| line["intent"].is_null() || line["intent"]["pots"].is_null()));
}
